"""Attempts: call the agent for a row until there is an outcome, or until the row is requeued.

`attempt_costs` decides if a failure uses up one of the row's attempts. No attempt of any kind begins after
`retry_policy.budget_seconds` or a deadline.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from service.batch.outages import OutageBoard
from service.batch.outcomes import LastAttempt
from service.domain.errors import (
    AgentOutageError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    CancelledError,
    DeadlineError,
    RetryableError,
    RowDroppedError,
    RowRejectedError,
    TargetDownError,
    TurnedAwayError,
)
from service.domain.messages import failure_note
from service.domain.model import Amounts, Batch, Outcome, iso_time
from service.domain.ports import MAX_DELAY_S, Clock, Invocation, Reply
from service.mapping.replies.transcript import NO_USAGE
from service.runtime.delivery import Delivery
from service.runtime.metrics import Metrics
from service.runtime.tasks import timeout
from service.worker.admission.gate import AdmittedCall
from service.worker.attempt_costs import is_uncounted
from service.worker.budgets.budgets import BudgetedCall, Budgets
from service.worker.budgets.needs import call_need
from service.worker.first_outcomes import FirstOutcomes
from service.worker.reply_keeping import kept_reply, told_error
from service.worker.row_task import FailedCall, Requeue, RetryHere, RowTask
from service.worker.steering import CallWatch, check_row
from service.worker.trial_calls import TrialCalls

log = structlog.get_logger(__name__)

GRACE_S = 5.0
"""An agent that ignores its time-out is cancelled this much later."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """`worker` names this process in outcomes.

    The worker sleeps through a wait of at most `inline_wait_s` before the next attempt; for a longer one it
    requeues the row. `grace_s` is added to an agent's time-out before its call is cancelled.
    """

    worker: str
    inline_wait_s: float = 5.0
    grace_s: float = GRACE_S


@dataclass(frozen=True, slots=True)
class CallGuards:
    """Those that may keep a call from beginning although its target has room for it.

    `first_outcomes`: the first rows of its round are being judged. `trials`: its target holds the batch.
    `budgets`: it may use or cost more than is left.
    """

    first_outcomes: FirstOutcomes
    trials: TrialCalls
    budgets: Budgets


class Attempts:
    """Invokes agents for rows.

    `read_batch` returns a batch as it was at most `VIEW_AGE_S` ago, None if it is gone. `guards` may keep a
    call from beginning. `rng` spreads waits; seeded in tests.
    """

    def __init__(
        self,
        limits: AttemptLimits,
        clock: Clock,
        metrics: Metrics,
        outages: OutageBoard,
        read_batch: Callable[[str], Awaitable[Batch | None]],
        guards: CallGuards,
        *,
        rng: random.Random,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._outages = outages
        self._read_batch = read_batch
        self._first_outcomes = guards.first_outcomes
        self._trials = guards.trials
        self._budgets = guards.budgets
        self._watch = CallWatch(read_batch, clock)
        self._rng = rng

    async def run(self, task: RowTask, delivery: Delivery) -> Outcome | Requeue:
        """Make attempts, as long as the waits between them are short.

        Raises LeaseLostError, RowDroppedError, RetryableError and AccessError.
        """
        while True:
            if await self._misses_deadline(task):
                return self._deadline_missed(task)
            try:
                result = await self._attempt(task, delivery)
            except TurnedAwayError as error:
                return self._when_turned_away(task, error)
            if not isinstance(result, FailedCall):
                return result
            next_step = await self._after_failure(task, result)
            if not isinstance(next_step, RetryHere):
                return next_step
            await self._clock.sleep(next_step.wait_s)

    async def _report(self, task: RowTask) -> None:
        """Publish the news of the row's target: that it serves nobody, or serves again."""
        breaker = task.target.gate.breaker
        lasted_s = breaker.throttles.lasts_s(self._clock.monotonic())
        await self._outages.report(task.batch, breaker.outage, wait_s=breaker.asked_wait_s, lasted_s=lasted_s)

    def last_attempt(self, task: RowTask, started: float | None = None) -> LastAttempt:
        """The attempt that ends now. `started` is None if the agent was not called."""
        return LastAttempt(
            row=task.row_with_cells,
            columns=task.batch.columns,
            number=task.message.attempt,
            elapsed_ms=0 if started is None else self._elapsed_ms(started),
            timestamp=iso_time(self._clock.now_ms()),
            worker=self._limits.worker,
        )

    def requeue_delay_s(self, error: TurnedAwayError, left_s: float) -> int:
        """Delay for a row that the gate turned away `left_s` seconds before its deadline. Counts the row."""
        self._metrics.count(f"rows_turned_away_{error.kind}")
        wait_s = (error.retry_after_s or 1.0) * self._rng.uniform(0.75, 1.5)
        return math.ceil(min(wait_s, MAX_DELAY_S, max(1.0, left_s)))

    # -- one attempt -----------------------------------------------------------------------------------

    async def _attempt(self, task: RowTask, delivery: Delivery) -> Outcome | FailedCall:
        """Wait for the gate and call the agent once. Raises TurnedAwayError, LeaseLostError."""
        # The row waits in the gate's queue from here on. The gate reports its capacity to the consumer, so
        # the consumer's own slot may go to another message.
        delivery.release_slot()
        target = task.target
        self._budgets.check(task.batch)
        async with target.gate.admit(task.batch, task.id, task.body) as call:
            try:
                await self._check_batch(task)
                with await self._budgets.reserve(task.batch, self._need(task)) as budget:
                    # The waits may have outlasted the lease: do not pay the agent for another worker's row.
                    delivery.check_lease()
                    task.begin(self._clock.now_ms())
                    if self._left_s(task) <= 0:
                        return self._deadline_missed(task)
                    result, has_changed = await self._call_in_time(task, call, delivery, budget)
            except CancelledError as error:
                return self.last_attempt(task).failed(error)
            except DeadlineError as error:
                return self.last_attempt(task, call.started).failed(error)
        if has_changed:
            await self._report(task)
        await self._trials.end(task, result)
        return result

    async def _call_in_time(
        self, task: RowTask, call: AdmittedCall, delivery: Delivery, budget: BudgetedCall
    ) -> tuple[Outcome | FailedCall, bool]:
        """The result of one call, as `_call` returns it, unless its turn has passed or it is cut.

        Raises LimitReachedError, RowDroppedError, CancelledError and DeadlineError.
        """
        await self._trials.begin(task, self._longest_call_s(task))
        async with self._watch.watched(task.batch, task.message):
            # The reads since the admission may have taken long.
            call.check_turn()
            budget.begin()
            return await self._call(task, call, delivery, budget)

    def _need(self, task: RowTask) -> Amounts:
        """The most that the call of a row uses, as its budgets count it."""
        return call_need(
            task.batch,
            task.target.mapping,
            task.body,
            lambda: task.target.costs.expected(task.body).output_tokens,
        )

    def _longest_call_s(self, task: RowTask) -> float:
        return task.target.mapping.execution.timeout_s + self._limits.grace_s

    async def _check_batch(self, task: RowTask) -> None:
        """Take over the present view of the row's batch.

        Raises RowDroppedError, CancelledError, and RoundInDoubtError if the first rows are being judged.
        """
        batch = await self._read_batch(task.batch.batch_id)
        if batch is None:
            raise RowDroppedError("its batch is gone")
        check_row(task.message, batch)
        self._first_outcomes.check(batch)
        task.batch = batch

    async def _call(
        self, task: RowTask, call: AdmittedCall, delivery: Delivery, budget: BudgetedCall
    ) -> tuple[Outcome | FailedCall, bool]:
        """The result of one call, and True if the target went down or is up again."""
        reply: Reply | None = None
        costs = task.target.costs
        try:
            try:
                reply = await self._invoke(task)
            except (RowRejectedError, AgentRetryableError) as error:
                extraction = task.target.mapping.extract_stated(error)
            else:
                delivery.report_bytes(task.span_bytes + reply.size)
                extraction = task.target.mapping.extract(reply.body)
        except (RowRejectedError, AgentRetryableError) as error:
            error = told_error(error, reply, task.target.mapping)
            self._metrics.count(f"agent_failures_{error.kind}")
            self._metrics.count(f"agent_failures_{error.failure_class}")
            attempt = self.last_attempt(task, call.started)
            body = None if reply is None else reply.body
            spent = costs.of_failure(task.batch, task.body, error, body)
            task.bill.add(spent)
            budget.settle(spent, is_reply=reply is not None)
            has_changed = call.record_error(error, task.message.attempt)
            text = kept_reply(reply, task.target.mapping, is_failed=True)
            if isinstance(error, AgentRetryableError):
                is_uncounted = self._is_uncounted(task, call, error)
                return FailedCall(attempt, error, text, is_uncounted), has_changed
            return attempt.failed(error, text), has_changed
        attempt = self.last_attempt(task, call.started)
        usage = extraction.usage
        spent = costs.of_reply(task.batch, task.body, usage)
        task.bill.add(spent)
        budget.settle(spent, is_reply=True)
        has_changed = call.record_reply(usage if usage != NO_USAGE else None)
        text = kept_reply(reply, task.target.mapping, is_failed=False)
        provenance = task.batch.provenance
        outcome = attempt.succeeded(extraction, cost=spent.cost, provenance=provenance, reply=text)
        return outcome, has_changed

    async def _invoke(self, task: RowTask) -> Reply:
        """Invoke the agent, until its time-out or the row's own deadline; `CallWatch` knows the batch's."""
        timeout_s = task.longest_s(self._clock.now_ms())
        grace_s = self._limits.grace_s if timeout_s == task.target.mapping.execution.timeout_s else 0.0
        invocation = Invocation(task.id, task.body, task.message.attempt, timeout_s)
        started = self._clock.monotonic()
        try:
            async with timeout(self._clock, timeout_s + grace_s):
                return await task.target.agent.invoke(invocation)
        except TimeoutError:
            raise AgentTimeoutError(f"no answer within {timeout_s:g} s") from None
        finally:
            self._metrics.observe("agent_latency_ms", self._elapsed_ms(started))

    def _is_uncounted(self, task: RowTask, call: AdmittedCall, error: AgentRetryableError) -> bool:
        """True if the failure must not count as an attempt of the row."""
        return is_uncounted(error, task.to_requeue(), task.target.gate.breaker, call.started, self._clock)

    # -- after an attempt ------------------------------------------------------------------------------

    async def _after_failure(self, task: RowTask, failure: FailedCall) -> Outcome | Requeue | RetryHere:
        """Fail the row, or try it again after a backoff."""
        error, number = failure.error, task.message.attempt
        task.message = replace(task.message, last_failure=failure_note(error))
        self._metrics.count("agent_retries")
        may_repeat = self._count_attempt(task, failure)
        wait_s = self._backoff_s(task, error) if may_repeat else 0.0
        if await self._misses_deadline(task, wait_s):
            return failure.attempt.failed(task.deadline().missed(error), failure.reply)
        if not may_repeat or wait_s >= task.budget_left_s(self._clock.now_ms()):
            return failure.attempt.failed(error, failure.reply)
        log.info("attempt_failed", error=error.kind, reason=str(error), attempt=number, again_in_s=wait_s)
        if wait_s <= self._limits.inline_wait_s:
            return RetryHere(wait_s)
        # The worker has survived an attempt, so the row does not crash workers: start that count again.
        return Requeue(replace(task.to_requeue(), lost_deliveries=0), round(wait_s))

    def _count_attempt(self, task: RowTask, failure: FailedCall) -> bool:
        """Prepare the message of the next attempt. Return False if all attempts are used up."""
        message = task.message
        if failure.is_uncounted:
            task.uncounted += 1
            if not isinstance(failure.error, AgentThrottledError):
                task.message = replace(message, last_outage_ms=self._clock.now_ms())
            return True
        if message.attempt < task.target.mapping.execution.retry.max_attempts:
            task.message = replace(message, attempt=message.attempt + 1)
            return True
        return False

    def _backoff_s(self, task: RowTask, error: RetryableError) -> float:
        """Seconds before the next attempt: the agent's Retry-After, else by the mapping's retry policy.

        Rounded up to whole seconds, SQS's unit of delay, if the row is to be requeued.
        """
        policy = task.target.mapping.execution.retry
        if error.retry_after_s is not None:
            wait_s = min(error.retry_after_s, MAX_DELAY_S) + self._rng.uniform(0, policy.base_s)
        else:
            waited_s = 0.0
            if task.uncounted:
                # A requeued row does not carry its uncounted failures. The time since the first attempt
                # stands for them, so that the waits of a throttled row keep growing.
                waited_s = (self._clock.now_ms() - (task.first_attempt_ms or 0)) / 1000
            wait_s = self._rng.uniform(*policy.wait_bounds_s(task.message.attempt + task.uncounted, waited_s))
        is_short = wait_s <= self._limits.inline_wait_s
        return wait_s if is_short else min(MAX_DELAY_S, math.ceil(wait_s))

    def _when_turned_away(self, task: RowTask, error: TurnedAwayError) -> Outcome | Requeue:
        """Requeue a row that the gate has turned away, so that it holds no memory and no lease meanwhile."""
        now_ms = self._clock.now_ms()
        # A full target tells less than an earlier failure of the row.
        if isinstance(error, TargetDownError) or not task.message.last_failure:
            task.message = replace(task.message, last_failure=failure_note(error))
        if isinstance(error, TargetDownError) and not task.message.trial:
            # The budget runs although no call was made: a target that stays down must not keep its rows.
            task.begin(now_ms)
            if task.budget_left_s(now_ms) <= 0:
                return self.last_attempt(task).failed(AgentOutageError(str(error)))
        return Requeue(task.to_requeue(), self.requeue_delay_s(error, self._left_s(task)))

    async def _misses_deadline(self, task: RowTask, wait_s: float = 0.0) -> bool:
        """True if the row's deadline leaves no time for an attempt after `wait_s`.

        An operation may have moved that of its batch during a call or a wait: a view that is too old fails no
        row. Raises RetryableError and AccessError.
        """
        if self._left_s(task) > wait_s:
            return False
        batch = await self._read_batch(task.batch.batch_id)
        if batch is not None and batch.is_round_of(task.batch):
            task.batch = batch
        return self._left_s(task) <= wait_s

    def _deadline_missed(self, task: RowTask) -> Outcome:
        earlier = task.message.last_failure or task.target.gate.breaker.reason
        return self.last_attempt(task).failed(task.deadline().missed(earlier=earlier))

    def _left_s(self, task: RowTask) -> float:
        return task.deadline().left_s(self._clock.now_ms())

    def _elapsed_ms(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)
