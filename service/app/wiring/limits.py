"""The limits of each role, from the settings."""

from __future__ import annotations

from service.app.settings import Settings
from service.app.settings_sections import QueueSettings
from service.domain.model import Location
from service.recovery.lost_rows import RecoveryLimits
from service.runtime.consumer import ConsumeLimits
from service.splitter.opening import OpenLimits
from service.splitter.split import SplitLimits
from service.sweeper.dead_letters import DeadLetterLimits
from service.sweeper.drain import DrainLimits
from service.sweeper.sweep_limits import SweepLimits


def split_limits(settings: Settings) -> SplitLimits:
    """Limits of a splitter and of the splits that it makes."""
    split = settings.split
    return SplitLimits(
        send_concurrency=split.send_concurrency,
        checkpoint_bytes=split.checkpoint_bytes,
        max_queued_rows=split.max_queued_rows,
        lease_s=split.lease_s or lease_s(settings.ingest),
        read_bytes=split.read_bytes,
        max_record_bytes=split.max_record_bytes,
        max_message_bytes=split.max_message_bytes,
        incoming_prefix=settings.incoming_prefix,
        opening=OpenLimits(
            partition_bytes=split.partition_bytes,
            max_partitions=split.max_partitions,
            results_bucket=settings.results_bucket,
            ttl_s=settings.ttl_days * 86_400,
            checkpoint_rows=split.checkpoint_rows,
            reserved=reserved_places(settings),
        ),
    )


def sweep_limits(settings: Settings) -> SweepLimits:
    """Limits of a sweeper."""
    sweep = settings.sweep
    return SweepLimits(
        interval_s=sweep.interval_s,
        stuck_after_s=sweep.stuck_after_s,
        resend_after_s=sweep.resend_after_s,
        concurrent_batches=sweep.concurrent_batches,
        lease_s=lease_s(settings.rows),
        hold_s=sweep.hold_s,
        trouble_pause_s=sweep.trouble_pause_s,
    )


def recovery_limits(settings: Settings, worker: str) -> RecoveryLimits:
    """Limits of the recovery of rows; `worker` names this process in outcomes."""
    split = settings.split
    return RecoveryLimits(
        worker=worker,
        max_bytes=split.checkpoint_bytes,
        send_concurrency=split.send_concurrency,
        read_bytes=split.read_bytes,
        max_record_bytes=split.max_record_bytes,
        max_message_bytes=split.max_message_bytes,
    )


def dead_letter_limits(settings: Settings) -> DeadLetterLimits:
    """Limits of the handlers of dead letters."""
    return DeadLetterLimits(
        ingest_receives=settings.ingest.max_receives,
        rows_receives=settings.rows.max_receives,
        aggregate_receives=settings.results.max_receives,
        stuck_after_s=settings.sweep.stuck_after_s,
        give_up_after_s=settings.aggregate.give_up_after_s,
        incoming_prefix=settings.incoming_prefix,
    )


def drain_limits(settings: Settings, queue: QueueSettings) -> DrainLimits:
    """Limits of the drain of the dead letters of a queue."""
    return DrainLimits(
        visibility_s=queue.visibility_timeout_s,
        poll_wait_s=queue.poll_wait_s,
        pause_s=settings.sweep.dead_letters_pause_s,
    )


def consume_limits(settings: Settings, queue: QueueSettings, max_messages: int) -> ConsumeLimits:
    """Limits of a consumer that handles at most `max_messages` messages at a time."""
    return ConsumeLimits(
        visibility_s=queue.visibility_timeout_s,
        poll_wait_s=queue.poll_wait_s,
        max_running=max_messages,
        max_held=max_messages,
        drain_s=settings.drain_timeout_s,
        can_resume=True,
    )


def lease_s(queue: QueueSettings) -> float:
    """Duration of a batch's lease, unless it is set.

    The message of a process that died comes again after five sixths of its visibility time-out at the
    earliest, when it was last renewed. The lease has ended by then, so this delivery is not in vain.
    """
    return queue.visibility_timeout_s * 2 / 3


def reserved_places(settings: Settings) -> dict[Location, str]:
    """The places that no job may write its results into, each with the reason."""
    reserved = {
        Location(settings.bucket, settings.incoming_prefix): "every result would start a run",
        Location(settings.bucket, "config/"): "mappings and schemas lie there",
    }
    for bucket in (settings.bucket, settings.results_bucket):
        reserved[Location(bucket, "work/")] = "objects there expire"
    for folder in (settings.mappings, settings.schemas):
        if isinstance(folder, Location):
            reserved[folder] = "mappings and schemas lie there"
    return reserved
