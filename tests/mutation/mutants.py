"""The mutants: small changes of the core, each of which breaks a promise, and the tests that notice it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of one text in `file`, and the tests of which at least one must fail with it.

    `old` occurs exactly once in the file. Paths are relative to the repository; `path::name` is one test.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_AWS = "service/adapters/aws"
_WINDOW = tuple(
    f"tests/unit/worker/rate_limit/test_contention.py::{name}"
    for name in (
        "test_the_window_grows_with_failures_and_shrinks_with_success",
        "test_writes_that_meet_make_the_next_looks_rare",
        "test_a_limit_that_is_not_used_up_ends_long_waits",
    )
)
"""The quick tests of the file: the others are fleets of hundreds of workers."""

_REQUESTS = ("tests/unit/adapters/aws/test_requests_to_aws.py",)

MUTANTS = (
    Mutant(
        "two packs with other replies have one name",
        "service/batch/replies/pack.py",
        "name = hashlib.sha256(body).hexdigest()[:16]",
        'name = "0" * 16',
        ("tests/unit/batch/replies/test_pack.py", "tests/unit/batch/replies/test_kept_replies.py"),
    ),
    Mutant(
        "outcomes are committed without their replies",
        "service/batch/commits/group_commit.py",
        "            await self._packer.pack(batch, waiters, repeat)\n",
        "",
        ("tests/unit/batch/replies/test_kept_replies.py",),
    ),
    Mutant(
        "errors quote replies that are not kept",
        "service/worker/reply_keeping.py",
        'if mapping.keep_replies == "none":',
        "if False:",
        ("tests/unit/worker/test_reply_keeping.py",),
    ),
    Mutant(
        "a batch is purged while it runs",
        "service/app/purge.py",
        "if not batch.state.is_final:",
        "if False:",
        ("tests/unit/app/test_purge.py",),
    ),
    Mutant(
        "a query may read stale items",
        f"{_AWS}/table/queries.py",
        'more["ConsistentRead"] = True',
        'more["ConsistentRead"] = False',
        _REQUESTS,
    ),
    Mutant(
        "a get may read a stale item",
        f"{_AWS}/table/dynamodb.py",
        "Key=key, ConsistentRead=True)",
        "Key=key)",
        _REQUESTS,
    ),
    Mutant(
        "a batch's counters are read from one page",
        f"{_AWS}/table/dynamodb.py",
        'if "LastEvaluatedKey" not in page:',
        "if True:",
        ("tests/unit/adapters/aws/table/test_queries.py",),
    ),
    Mutant(
        "a lease that is free is extended, whoever had it since",
        f"{_AWS}/table/batch_leases.py",
        "(own | _is_free(now_ms) if now_ms else own)",
        "(own | _is_free(now_ms))",
        ("tests/contract/test_table.py::test_a_lease_that_was_released_is_not_extended",),
    ),
    Mutant(
        "a late checkpoint moves a split back",
        f"{_AWS}/table/dynamodb.py",
        " & is_behind(batch.checkpoint)",
        "",
        ("tests/contract/test_table.py::test_a_late_checkpoint_moves_nothing_back",),
    ),
    Mutant(
        "messages carry no group",
        f"{_AWS}/sqs.py",
        "if message.group:",
        "if False:",
        _REQUESTS,
    ),
    Mutant(
        "an upload is completed without the checksums of its parts",
        f"{_AWS}/s3/upload.py",
        'if name == "ETag" or name.startswith("ChecksumCRC")',
        'if name == "ETag"',
        _REQUESTS,
    ),
    Mutant(
        "every worker counts in slot 0",
        "service/app/wiring/builder.py",
        "slot=zlib.crc32(name.encode()) % commit.slots,",
        "slot=0,",
        ("tests/unit/app/wiring/test_builder.py",),
    ),
    Mutant(
        "dead rows are sent again ever later",
        "service/sweeper/dead_letters.py",
        "(self._next_resend_at - RESEND_INTERVAL_S - now) % MAX_DELAY_S",
        "self._next_resend_at - RESEND_INTERVAL_S - now",
        ("tests/unit/sweeper/test_dead_letters.py",),
    ),
    Mutant(
        "the window of replays is that of the setting",
        "service/splitter/split.py",
        "batch.checkpoint.rows + batch.window if",
        "batch.checkpoint.rows + limits.opening.checkpoint_rows if",
        ("tests/unit/splitter/test_splitter.py",),
    ),
    Mutant(
        "a cancelled batch is read on by each splitter that dies",
        "service/splitter/split.py",
        "self.batch = replace(self.batch, checkpoint=repeats[-1].end)",
        "await self._checkpoint(repeats[-1].end)",
        ("tests/unit/splitter/test_steering.py",),
    ),
    Mutant(
        "a row fails by a deadline that was put off",
        "service/worker/attempts.py",
        "return self._left_s(task) <= wait_s",
        "return True",
        ("tests/unit/worker/test_deadlines.py",),
    ),
    Mutant(
        "a call goes on after the deadline of its batch",
        "service/worker/steering.py",
        "elif deadline.left_s(now_ms) <= 0:",
        "elif deadline.left_s(now_ms) <= -1000:",
        ("tests/unit/worker/test_deadlines.py",),
    ),
    Mutant(
        "the target of a batch that is being split is never tried out",
        "service/sweeper/target_watch.py",
        "left = sent_rows(view.batch) - view.all_counts.done",
        "left = (view.batch.due or 10**9) - view.counts.done",
        ("tests/unit/sweeper/test_target_watch.py",),
    ),
    Mutant(
        "a message that is sent again has too little room",
        "service/batch/large_rows.py",
        "RESEND_BYTES = 600",
        "RESEND_BYTES = 60",
        ("tests/unit/batch/test_large_rows.py",),
    ),
    Mutant(
        "a swap whose answer was lost counts as a conflict",
        "service/worker/rate_limit/ledger_store.py",
        "if current.text == text or self._includes_our_write(current):",
        "if current.text == text:",
        ("tests/unit/worker/rate_limit/test_ledger_store.py",),
    ),
    Mutant(
        "looks at a rate limit's record that bring nothing do not become rarer",
        "service/worker/rate_limit/contention.py",
        "TAKEN_FACTOR = 1.3",
        "TAKEN_FACTOR = 0.9",
        _WINDOW,
    ),
    Mutant(
        "writes of a rate limit's record that meet do not become rarer",
        "service/worker/rate_limit/contention.py",
        "        self.window_s = max(LEAST_CONFLICT_S, self.window_s)\n",
        "",
        _WINDOW,
    ),
    Mutant(
        "looks at a rate limit's record stay rare when it is unused",
        "service/worker/rate_limit/contention.py",
        "UNUSED_FACTOR if ahead_s < UNUSED_AHEAD_S else GRANTED_FACTOR",
        "1.0",
        _WINDOW,
    ),
    Mutant(
        "outcomes are read ahead without a bound",
        "service/aggregator/ordered_outcomes.py",
        "and self._room_bytes >= self._mean_bytes",
        "",
        ("tests/unit/aggregator/test_ordered_outcomes.py",),
    ),
    Mutant(
        "a page of outcomes is as long as its rows allow",
        "service/aggregator/ordered_outcomes.py",
        "rows = max(1, min(self._most_rows, int(room_bytes / self._mean_bytes)))",
        "rows = self._most_rows",
        ("tests/unit/aggregator/test_ordered_outcomes.py",),
    ),
    Mutant(
        "an aggregation begins with the first row, whatever its checkpoint says",
        "service/aggregator/checkpoints.py",
        "        progress = _decoded(body, self._identity)\n",
        "        progress = None\n",
        ("tests/unit/aggregator/test_checkpoints.py",),
    ),
    Mutant(
        "the breaker is not looked at after the limiter's wait",
        "service/worker/admission/gate.py",
        """        try:
            # The breaker may have opened while the row waited, and outcomes may have become late.
            self._check()
""",
        """        try:
            pass
""",
        ("tests/unit/worker/admission/test_gate.py",),
    ),
    Mutant(
        "a consumer that stops is not draining",
        "service/runtime/consumer.py",
        "            self.is_draining = True\n",
        "",
        ("tests/unit/runtime/test_consumer.py",),
    ),
    Mutant(
        "a closed gate lets calls begin",
        "service/worker/admission/gate.py",
        "        self._is_closed = True\n",
        "",
        ("tests/unit/worker/admission/test_gate.py",),
    ),
    Mutant(
        "nobody is told that a slot is free",
        "service/worker/admission/gate.py",
        """        self._queue.release(batch)
        self._on_change()
""",
        """        self._queue.release(batch)
""",
        ("tests/unit/worker/admission/test_gate.py",),
    ),
    Mutant(
        "a refresh takes over an older view",
        "service/worker/batch_cache.py",
        "if _progress(view.batch) >= _progress(cached.batch):",
        "if True:",
        ("tests/unit/worker/test_batch_cache.py",),
    ),
    Mutant(
        "a lease is counted from after the call",
        "service/batch/lease.py",
        "self._ends_at = asked_at + self._duration_s",
        "self._ends_at = self._clock.monotonic() + self._duration_s",
        ("tests/unit/batch/test_lease.py",),
    ),
    Mutant(
        "a group commit that was full once never lingers again",
        "service/batch/commits/commit_group.py",
        "            self.is_full.clear()\n",
        "            pass\n",
        ("tests/unit/batch/commits/test_group_commit.py",),
    ),
    Mutant(
        "the sweeper remembers every batch that it ever saw",
        "service/sweeper/observations.py",
        "            self._observed.popitem(last=False)\n",
        "            pass\n",
        ("tests/unit/sweeper/test_sweeper.py",),
    ),
    Mutant(
        "a fleet shrinks with its backlog",
        "service/scaler/decision.py",
        "max(demanded, min(current, max(lately, last)))",
        "max(demanded, min(current, last))",
        ("tests/unit/scaler/test_decision.py",),
    ),
    Mutant(
        "a scaler without its memory ends what runs",
        "service/scaler/decision.py",
        "history = (Wanted(reading.now_ms, tasks.desired),)",
        "history = ()",
        ("tests/unit/scaler/test_decision.py",),
    ),
    Mutant(
        "rows whose messages are lost ask for workers",
        "service/scaler/demand.py",
        "share = min(1.0, at_hand / left)",
        "share = 1.0",
        ("tests/unit/scaler/test_demand.py",),
    ),
    Mutant(
        "workers are asked for that a rate limit cannot use",
        "service/scaler/demand.py",
        "            wanted = useful\n",
        "            pass\n",
        ("tests/unit/scaler/test_demand.py",),
    ),
    Mutant(
        "the hold of a batch ends without a sweeper",
        "service/scaler/demand.py",
        "return not is_ending and deadline_of(batch, None).at_ms > soon_ms",
        "return deadline_of(batch, None).at_ms > soon_ms",
        ("tests/unit/scaler/test_demand.py",),
    ),
    Mutant(
        "a scaler that was overtaken changes the fleet",
        "service/scaler/scaler.py",
        "if not is_known and not await self._keep(decision, record, reading.now_ms):",
        "if not is_known and not await self._keep(decision, record, reading.now_ms) and 0:",
        ("tests/unit/scaler/test_scaler.py",),
    ),
)
