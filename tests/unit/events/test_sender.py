"""Events are delivered at least once to each target, whatever the others and the processes do."""

import asyncio
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from service.batch.ending import fail_batch
from service.domain.errors import AccessError, ConfigError, ReceiverGoneError, RetryableError
from service.domain.model import DeliveryEnd, Event, EventKind, OutboxKind, State
from service.events.poller import SendLimits
from service.events.sender import EventSender

NOW = "2023-11-14T22:13:20.000Z"
"""The start of the laboratory's clock."""

ALL = frozenset(EventKind)


class Target:
    """A target that records what it gets; `answers` has the errors of the next tries, None for success."""

    def __init__(self, name="webhook", *answers):
        self.name = name
        self.answers = list(answers)
        self.got = []
        self.tries = 0

    async def deliver(self, event):
        """Record the event, or raise the next error."""
        self.tries += 1
        error = self.answers.pop(0) if self.answers else None
        if error is not None:
            raise error
        self.got.append((event.id, event.body))


async def store(lab, *kinds, **changes):
    """A batch with events."""
    batch = await lab.batch(3, **changes)
    events = [Event.of(batch, kind, at=NOW, status={"n": 1}) for kind in kinds or (EventKind.STARTED,)]
    for event in events:
        await lab.table.add(event.record())
    return events


def sender(lab, target, *others, **limits):
    names = [target.name, *(other.name for other in others)]
    return EventSender(lab.ports, target, names, SendLimits(**limits))


async def pending(lab):
    page = await lab.table.pending(OutboxKind.EVENT, after=None, limit=100)
    return [record.name for record in page.records]


async def end_of(lab, event, name="webhook"):
    (record,) = [r for r in await lab.table.records(event.batch_id, OutboxKind.EVENT) if r.name == event.id]
    return record.delivery(name).end


async def test_an_event_is_delivered_once_and_settled(lab):
    """Its id and bytes are those that were stored; a second look sends nothing."""
    (event,) = await store(lab)
    target = Target()
    one = sender(lab, target)
    await one.send()
    await one.send()
    assert target.got == [(event.id, event.body)]
    assert await pending(lab) == []
    assert lab.metrics.totals["events_delivered"] == 1


async def test_a_failed_try_is_repeated_with_the_same_bytes(lab):
    """The pauses double, and the event stays pending meanwhile."""
    (event,) = await store(lab)
    target = Target("webhook", RetryableError("503"), ConfigError("no such topic"))
    one = sender(lab, target)
    for tries, seconds in ((1, 4.9), (1, 0.1), (2, 9.9), (2, 0.1)):
        await one.send()
        assert target.tries == tries
        await lab.clock.advance(seconds)
    assert await pending(lab) == [event.id]
    await one.send()
    assert target.got == [(event.id, event.body)]
    assert await pending(lab) == []


async def test_a_target_that_is_down_holds_no_other_back(lab):
    """The other target gets each event once, and none again when the first one is well."""
    events = await store(lab, EventKind.STARTED, EventKind.PAUSED)
    down, well = Target("webhook", *[RetryableError("down")] * 2), Target("topic")
    first, second = sender(lab, down, well), sender(lab, well, down)
    await first.send()
    await second.send()
    assert len(well.got) == 2
    assert len(await pending(lab)) == 2
    await lab.clock.advance(60)
    await first.send()
    await second.send()
    assert sorted(down.got) == sorted((event.id, event.body) for event in events)
    assert len(well.got) == 2
    assert await pending(lab) == []


async def test_a_target_that_is_down_is_tried_seldom(lab):
    """Many events wait while it rests: tries in one pause are as many as go on at the same time."""
    batch = await lab.batch(3)
    for number in range(100):
        event = Event.of(batch, EventKind.BUDGET, at=NOW, status={}, detail=str(number))
        await lab.table.add(event.record())
    target = Target("webhook", *[RetryableError("down")] * 10_000)
    one = sender(lab, target)
    for _ in range(60):
        await one.send()
        await lab.clock.advance(2)
    # pauses of 5, 10, 20, 40 and 60 s begin within two minutes
    assert target.tries <= 5 * SendLimits().concurrency


async def test_two_senders_of_one_target_share_the_events(lab):
    """Each event is taken by one of them."""
    await store(lab, *EventKind)
    target = Target()
    await asyncio.gather(sender(lab, target).send(), sender(lab, target).send())
    assert len(target.got) == len(EventKind)


async def test_a_sender_that_dies_in_a_try_is_replaced(lab):
    """The event is left alone for a minute, and then delivered by another process."""
    (event,) = await store(lab)

    class Dies(Target):
        async def deliver(self, event):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await sender(lab, Dies())._handle((await lab.table.records(event.batch_id, OutboxKind.EVENT))[0])
    target = Target()
    one = sender(lab, target)
    await one.send()
    assert target.got == []
    await lab.clock.advance(60)
    await one.send()
    assert target.got == [(event.id, event.body)]


async def test_a_sender_that_dies_after_a_try_repeats_it(lab):
    """At least once: the end of the delivery was not stored, so the same bytes come again."""
    (event,) = await store(lab)
    target, table = Target(), lab.table

    async def lose(record, name, delivery):
        if delivery.end:
            raise RetryableError("no answer")
        return await table.set_delivery(record, name, delivery)

    class Losing:
        def __getattr__(self, name):
            return lose if name == "set_delivery" else getattr(table, name)

    ports = replace(lab.ports, table=Losing())
    await EventSender(ports, target, ["webhook"], SendLimits()).send()
    await lab.clock.advance(60)
    await sender(lab, target).send()
    assert target.got == [(event.id, event.body)] * 2
    assert await pending(lab) == []


async def test_a_record_that_was_ended_and_not_settled_is_settled(lab):
    """The process died between the two; no target gets the event again."""
    (event,) = await store(lab)
    record = event.record()
    taken = record.delivery("webhook").tried(0)
    await lab.table.set_delivery(record, "webhook", taken)
    await lab.table.set_delivery(record, "webhook", taken.ended(DeliveryEnd.DELIVERED))
    target = Target()
    await sender(lab, target).send()
    assert (target.tries, await pending(lab)) == (0, [])


async def test_an_event_is_given_up_after_a_day(lab):
    """The log and a metric say so; the last try comes after the day, so a sleep of all senders loses none."""
    (event,) = await store(lab)
    target = Target("webhook", *[RetryableError("down")] * 1_000)
    one = sender(lab, target)
    for _ in range(24 * 60):
        await one.send()
        await lab.clock.advance(60)
    assert await pending(lab) == [event.id]
    with capture_logs() as logs:
        for _ in range(10):
            await one.send()
            await lab.clock.advance(60)
    assert [line["reason"] for line in logs if line["event"] == "event_given_up"] == ["down"]
    assert (await pending(lab), await end_of(lab, event)) == ([], DeliveryEnd.GIVEN_UP)
    assert lab.metrics.totals["events_given_up"] == 1


async def test_an_event_that_no_process_sent_for_two_days_is_tried(lab):
    """It is given up only if that try fails."""
    await store(lab)
    await lab.clock.advance(2 * 86_400)
    target = Target()
    await sender(lab, target).send()
    assert len(target.got) == 1


async def test_a_target_that_is_gone_gets_nothing_until_a_restart(lab):
    """After 410 this event has ended; others wait, in case the next process has another address."""
    events = await store(lab, EventKind.STARTED, EventKind.PAUSED)
    target = Target("webhook", ReceiverGoneError("410"))
    one = sender(lab, target, concurrency=1)
    await one.send()
    await lab.clock.advance(3_600)
    await one.send()
    assert target.tries == 1
    ended = [event for event in events if await end_of(lab, event)]
    assert len(ended) == 1
    assert len(await pending(lab)) == 1
    again = sender(lab, target)
    await again.send()
    assert target.tries == 2


async def test_events_for_a_target_that_is_gone_end_after_a_day(lab):
    """They are counted as given up, without another try."""
    await store(lab, EventKind.STARTED, EventKind.PAUSED)
    target = Target("webhook", ReceiverGoneError("410"))
    one = sender(lab, target, concurrency=1)
    await one.send()
    await lab.clock.advance(86_400)
    await one.send()
    assert (target.tries, await pending(lab)) == (1, [])


async def test_a_try_that_hangs_is_bounded(lab):
    """It counts as failed after its time."""
    await store(lab)

    class Hangs(Target):
        async def deliver(self, event):
            await asyncio.get_running_loop().create_future()

    with capture_logs() as logs:
        task = asyncio.create_task(sender(lab, Hangs()).send())
        await lab.clock.advance(31)
        await task
    assert [line["reason"] for line in logs] == ["no answer within 30 s"]


async def test_the_manifest_comes_before_the_event_of_a_failed_batch(lab):
    """The process that failed the batch died before it wrote the manifest; the sender writes it."""
    lab.events = replace(lab.events, kinds=ALL)
    batch = await lab.batch(3, event_kinds=tuple(ALL))
    await fail_batch(lab.ports, batch, "no agent", expected=[State.RUNNING])
    lab.objects.stored.clear()

    class Looks(Target):
        async def deliver(self, event):
            source = await lab.objects.head(batch.results.bucket, batch.results.prefix + "manifest.json")
            self.got.append(json.loads(await lab.objects.read(source, 0, source.size)))

    target = Looks()
    await sender(lab, target).send()
    assert [manifest["error"] for manifest in target.got] == ["no agent"]


async def test_a_bug_with_one_event_leaves_the_others(lab):
    """It is logged and counted, and the event is tried again later."""
    await store(lab, EventKind.STARTED, EventKind.PAUSED)
    target = Target("webhook", KeyError("bug"))
    with capture_logs() as logs:
        await sender(lab, target).send()
    assert (len(target.got), len(await pending(lab))) == (1, 1)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["outbox_record_crashed"]


async def test_a_receiver_that_fails_is_no_problem_of_the_process(lab):
    """/readyz stays well, and a stop ends the sender at once; a table that fails is a problem."""
    await store(lab)
    one = sender(lab, Target("webhook", *[RetryableError("down")] * 99))
    stop = asyncio.Event()
    task = asyncio.create_task(one.run(stop))
    await lab.clock.advance(30)
    assert one.problem == ""
    assert one.last_success is not None

    async def fail(*_args, **_named):
        raise AccessError("no permission")

    lab.table.pending = fail
    await lab.clock.advance(130)
    assert one.problem == "no permission"
    stop.set()
    await task
