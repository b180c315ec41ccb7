"""Ingest messages: job messages, and S3's event notifications with or without SNS or EventBridge around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from service.domain.errors import PoisonMessageError
from service.domain.jobs import Job, read_job
from service.domain.message_format import field, read_object
from service.domain.model import Source, is_name
from service.domain.operation_requests import OperationRequest, WorkRequest, read_request

TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst")
"""Ends of the names of dropped files that start a run, in upper or lower case."""

_SNS_CONFIRMATIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")


@dataclass(frozen=True, slots=True)
class Ignored:
    """A part of an ingest message that starts no run, and the reason, for the log.

    `bucket` and `key` are "" if the part names no object. `is_expected`: nobody waits for a run of this part.
    """

    reason: str
    bucket: str = ""
    key: str = ""
    is_expected: bool = False


@dataclass(frozen=True, slots=True)
class IngestMessage:
    """The jobs that an ingest message asks for, its operation on a batch, its parts that start no run."""

    jobs: tuple[Job, ...] = ()
    operation: OperationRequest | WorkRequest | None = None
    ignored: tuple[Ignored, ...] = ()


def decode_ingest(body: str, *, incoming_prefix: str = "incoming/") -> IngestMessage:
    """The parts of an ingest message: a job or operation, or an S3 event, plain or in SNS or EventBridge.

    No job comes of messages that request no run: S3's test event, a confirmation of SNS, deletions, objects
    that are not a mapping's table. A record that S3 did not write is ignored beside records that S3 wrote.
    Raises PoisonMessageError with the reason for all other messages.
    """
    data = read_object(body)
    if _is_of_sns(data) and data.get("Type") in _SNS_CONFIRMATIONS:
        return IngestMessage(ignored=(_confirmation(data),))
    data = unwrapped(body)
    # S3 sends this once when a notification is configured.
    if data.get("Event") == "s3:TestEvent":
        return IngestMessage(ignored=(Ignored("S3's test event", is_expected=True),))
    if "detail-type" in data and "detail" in data:
        return _parts([_event_bridge_object(data)], incoming_prefix)
    if isinstance(data.get("Records"), list):
        return _records(data["Records"], incoming_prefix)
    if "op" in data:
        return IngestMessage(operation=read_request(data))
    if "mapping" in data or "source" in data:
        return IngestMessage((read_job(data),))
    raise PoisonMessageError(
        'neither a job ({"v": 1, "mapping": …, "source": "s3://…"}) nor an S3 event notification'
    )


def _confirmation(data: dict[str, Any]) -> Ignored:
    """The reason why a confirmation of SNS is ignored. It has the URL, since the message is deleted."""
    topic = data["TopicArn"]
    if data["Type"] == "SubscriptionConfirmation":
        return Ignored(
            f"the topic {topic} asks to confirm its subscription of this queue; no event of it arrives until "
            f"somebody has opened {data.get('SubscribeURL', 'its SubscribeURL')}"
        )
    return Ignored(f"the topic {topic} has ended its subscription of this queue: none of its events arrives")


def unwrapped(body: str) -> dict[str, Any]:
    """The JSON object of an ingest message, without the notification of SNS around it.

    Raises PoisonMessageError if there is none.
    """
    data = read_object(body)
    if not _is_of_sns(data):
        return data
    try:
        return read_object(data["Message"])
    except PoisonMessageError as error:
        raise PoisonMessageError(f"a message of the SNS topic {data['TopicArn']!r}: {error}") from None


def _is_of_sns(data: dict[str, Any]) -> bool:
    """True for a notification of SNS, which wraps the event unless the subscription delivers raw messages."""
    return isinstance(data.get("Message"), str) and "TopicArn" in data


def _records(records: list[Any], incoming_prefix: str) -> IngestMessage:
    """The parts of an S3 event. Raises PoisonMessageError if S3 wrote none of its records."""
    entries: list[dict[str, Any] | Ignored] = []
    problem = ""
    for record in records:
        try:
            entries.append(_s3_record(record))
        except PoisonMessageError as error:
            problem = str(error)
            entries.append(Ignored(problem))
    if problem and all(isinstance(entry, Ignored) and not entry.is_expected for entry in entries):
        raise PoisonMessageError(problem)
    return _parts(entries, incoming_prefix)


def _s3_record(record: object) -> dict[str, Any] | Ignored:
    if not isinstance(record, dict):
        raise PoisonMessageError("an event record that is no JSON object")
    if record.get("eventSource") != "aws:s3":
        raise PoisonMessageError(f"an event record of {record.get('eventSource')!r}, not of 'aws:s3'")
    # Events have names without `s3:`, notification settings have them with it.
    name = record.get("eventName")
    if not isinstance(name, str) or not name.removeprefix("s3:").startswith("ObjectCreated:"):
        return Ignored(f"the event {name!r} creates no object", is_expected=True)
    return _created_object(
        record.get("s3"), "an S3 event record", decode_key=unquote_plus, etag="eTag", version="versionId"
    )


def _event_bridge_object(data: dict[str, Any]) -> dict[str, Any] | Ignored:
    if data.get("source") != "aws.s3":
        raise PoisonMessageError(f"an EventBridge event of {data.get('source')!r}, not of 'aws.s3'")
    if data["detail-type"] != "Object Created":
        return Ignored(f"the event {data['detail-type']!r} creates no object", is_expected=True)
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


def _parts(entries: list[dict[str, Any] | Ignored], incoming_prefix: str) -> IngestMessage:
    parts = [entry if isinstance(entry, Ignored) else _dropped(entry, incoming_prefix) for entry in entries]
    return IngestMessage(
        jobs=tuple(part for part in parts if isinstance(part, Job)),
        ignored=tuple(part for part in parts if isinstance(part, Ignored)),
    )


def _dropped(entry: dict[str, Any], incoming_prefix: str) -> Job | Ignored:
    """The job of a dropped object, if its key is `incoming/{mapping}/…` and its name that of a table."""
    bucket, key = entry["bucket"], entry["key"]
    # A folder that somebody creates in the console is an empty object.
    if key.endswith("/") and not entry["size"]:
        return Ignored("a folder, not a file", bucket, key, is_expected=True)
    if not key.startswith(incoming_prefix):
        return Ignored(f"it lies outside {incoming_prefix}", bucket, key)
    mapping, _, name = key.removeprefix(incoming_prefix).partition("/")
    if not mapping or not name:
        return Ignored(
            f"it lies directly under {incoming_prefix}: the folder there names the mapping, as in "
            f"{incoming_prefix}my-mapping/rows.csv",
            bucket,
            key,
        )
    if not key.lower().endswith(TABLE_SUFFIXES):
        return Ignored(
            f"its name ends in none of {', '.join(TABLE_SUFFIXES)}: rename it if it is a table, or start the "
            "run with `rowfleet submit`",
            bucket,
            key,
        )
    source = Source(bucket, key, entry["etag"], entry["version"], entry["size"])
    problem = "" if is_name(mapping) else f"the folder {mapping!r} is not a mapping's name"
    return Job(mapping, source, dropped=True, sequencer=entry["sequencer"], problem=problem)
