"""Ingest messages: job messages, and S3's event notifications with or without SNS or EventBridge around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

from service.domain.errors import PoisonMessageError
from service.domain.jobs import Job, read_job
from service.domain.message_format import field, read_object
from service.domain.model import Source, is_name


def decode_ingest(body: str, *, incoming_prefix: str = "incoming/") -> tuple[Job, ...]:
    """The jobs in an ingest message: a job message, or an S3 event, plain or wrapped by SNS or EventBridge.

    () for messages that request no run: S3's test event, deletions, keys that are not a mapping's CSV file.
    Raises PoisonMessageError with the reason for all other messages.
    """
    data = read_object(body)
    # SNS wraps the event unless its subscription delivers raw messages.
    if isinstance(data.get("Message"), str) and "TopicArn" in data:
        data = read_object(data["Message"])
    # S3 sends this once when a notification is configured.
    if data.get("Event") == "s3:TestEvent":
        return ()
    if data.get("source") == "aws.s3" and "detail" in data:
        return _dropped(_event_bridge_object(data), incoming_prefix)
    if isinstance(data.get("Records"), list):
        records = [_s3_record(record) for record in data["Records"]]
        return tuple(job for record in records for job in _dropped(record, incoming_prefix))
    if "mapping" in data or "source" in data:
        return (read_job(data),)
    raise PoisonMessageError(
        'neither a job ({"v": 1, "mapping": …, "source": "s3://…"}) nor an S3 event notification'
    )


def _s3_record(record: object) -> dict[str, Any]:
    if not isinstance(record, dict) or record.get("eventSource") != "aws:s3":
        raise PoisonMessageError("an event record that S3 did not write")
    # Events have names without `s3:`, notification settings have them with it.
    name = record.get("eventName")
    if not isinstance(name, str) or not name.removeprefix("s3:").startswith("ObjectCreated:"):
        return {}
    return _created_object(
        record.get("s3"), "an S3 event record", decode_key=unquote_plus, etag="eTag", version="versionId"
    )


def _event_bridge_object(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("detail-type") != "Object Created":
        return {}
    # S3's own notifications URL-encode the key, EventBridge's do not.
    return _created_object(
        data["detail"], "an EventBridge event", decode_key=str, etag="etag", version="version-id"
    )


def _created_object(
    event: Any, what: str, *, decode_key: Callable[[str], str], etag: str, version: str
) -> dict[str, Any]:
    """The object that an event announces; `etag` and `version` are the keys by which this event names them.

    Raises PoisonMessageError if the event names no object.
    """
    try:
        entry = event["object"]
        return {
            "bucket": field(event["bucket"], "name", str),
            "key": decode_key(field(entry, "key", str)),
            "etag": str(entry.get(etag, "")).strip('"'),
            # absent in a bucket without versioning
            "version": str(entry.get(version) or ""),
            "sequencer": str(entry.get("sequencer") or ""),
            "size": int(entry.get("size") or 0),
        }
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise PoisonMessageError(f"{what} without bucket and key ({error!r})") from None


def _dropped(entry: dict[str, Any], incoming_prefix: str) -> tuple[Job, ...]:
    """The job of a dropped object; () if its key is not `incoming/{mapping}/….csv`."""
    key = str(entry.get("key", ""))
    mapping, slash, name = key.removeprefix(incoming_prefix).partition("/")
    if not key.startswith(incoming_prefix) or not slash or not name.lower().endswith(".csv"):
        return ()
    source = Source(entry["bucket"], key, entry["etag"], entry["version"], entry["size"])
    problem = "" if is_name(mapping) else f"the folder {mapping!r} is not a mapping's name"
    return (Job(mapping, source, dropped=True, sequencer=entry["sequencer"], problem=problem),)
