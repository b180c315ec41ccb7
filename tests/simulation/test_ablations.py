"""Each safeguard is needed: without it, the simulation finds a broken invariant within 500 worlds.

`make test` runs the ablations that the first 60 worlds notice, or 60 from the seed in `STARTS` on.
`make verify` runs the others.
"""

import pytest

from tests.simulation.ablations import ABLATIONS
from tests.simulation.simulate import run_many

SEEDS = 500
STARTS = {
    "NoCheckAfterDuplicate": 414,
    "NoClosedGate": 604,
    "NoCuts": 83,
    "NoEndOfTurns": 7_599,
    "NoFreshViews": 83,
    "NoGeneration": 69,
    "NoIncarnation": 7,
    "NoManifestCondition": 171,
    "NoMarksOnRepeatedCalls": 109,
    "NoOutbox": 143,
    "NoRecoveryLease": 30,
    "NoReplayMarks": 90,
    "NoRoundFence": 5_269,
    "NoSenders": 720,
    "NoSuspicion": 776,
    "NoTrialState": 87,
    "NoWaitingResults": 14,
    "NoWorkOfOthers": 101,
    "StateBeforeSend": 6_088,
}
"""The first seed, where the worlds from 0 on notice late, or take long, without the safeguard."""

EXPECTED = {
    "NoRowCondition": {"one_outcome"},
    "NoRoundFence": {"one_outcome"},
    "NoCounterInTransaction": {"nothing_stuck", "counters_equal_outcomes", "final_when_counted"},
    "NoCheckAfterDuplicate": {"nothing_stuck"},
    "StateBeforeSend": {"nothing_stuck"},
    "NoSeal": {"final_when_counted"},
    "NoHeartbeat": {"calm_is_exact", "failed_for_a_cause", "nothing_stuck"},
    "NoReplayMarks": {"repeats_are_marked", "not_paid_twice"},
    "NoSweeper": {"nothing_stuck"},
    "NoDrain": {"nothing_stuck"},
    "NoSplitLease": {"repeats_are_marked", "not_paid_twice", "kept_while_held"},
    "NoSenders": {"not_paid_twice"},
    "NoMarksOnRepeatedCalls": {"repeats_are_marked"},
    "NoSenderOfRecoveries": {"repeats_are_marked", "not_paid_twice"},
    "NoRecoveryLease": {"recovered_under_a_lease"},
    "NoLease": {"written_under_a_lease"},
    "NoCommitToken": {"own_commit_is_known"},
    "DeleteFirst": {"acknowledged_when_durable"},
    "NoSameManifest": {"results_have_one_content"},
    "NoRewriting": {"output_complete", "manifest_true"},
    "NoExactCheckpoint": {"output_complete", "results_have_one_content"},
    "NoWaitingResults": {"batch_failed_for_a_cause"},
    "NoIncarnation": {
        "nothing_stuck",
        "output_complete",
        "counters_equal_outcomes",
        "final_when_counted",
        "repeats_are_marked",
        "told_as_stored",
    },
    "NoMarksOnReturns": {"repeats_are_marked"},
    "NoKeptOutcomes": {"kept_while_held", "calm_is_exact"},
    "LatePacks": {"reply_is_kept"},
    "SpendingApart": {"spending_covers_results"},
    "NoClosedGate": {"no_call_while_commits_wait"},
    "NoExcuses": {"failed_for_a_cause"},
    "NoSuspicion": {"failed_for_a_cause"},
    "NoDeadlines": {"not_asked_too_late"},
    "NoInFlightLock": {"calm_is_exact"},
    "NoEndOfTurns": {"rate_limit_holds"},
    "NoOutbox": {"stored_with_its_change"},
    "DeliveredFirst": {"told_to_everybody"},
    "NoCompleteFirst": {"held_when_open"},
    "NoTrialState": {"one_trial_at_a_time"},
    "NoSelection": {"carried_are_kept"},
    "NoCarriedCounts": {"carried_are_kept"},
    "DoubledCarried": {"carried_are_kept"},
    "NoRemapRounds": {"no_call_in_remap"},
    "NoKeptWhenCancelled": {"remapped_from_reply"},
    "NoGeneration": {"only_newest_is_served"},
    "NoControl": {"operations_in_order", "stays_cancelled"},
    "NoGate": {"no_call_behind_the_gate"},
    "NoRequestIds": {"carried_out_once"},
    "NoEndOfHolds": {"nothing_stuck"},
    "NoWorkOfOthers": {"nothing_stuck"},
    "NoSealWhenCancelled": {"not_read_on_when_cancelled"},
    "NoJudgement": {"held_in_time"},
    "NoFreshViews": {"cut_in_time", "no_call_when_held"},
    "NoCuts": {"cut_in_time"},
    "NoCommitWhenHeld": {"paid_is_kept"},
    "NoManifestCondition": {"results_have_one_content"},
    "NoNewestResults": {"latest_is_newest"},
    "NoSharedLedger": {"rate_limit_holds", "concurrent_limit_holds"},
    "NoReservations": {"budget_holds"},
    "NoReservationsOfDead": {"budget_holds"},
}
"""The invariants that may be the first to break without the safeguard."""

NOTICED_LATE = {"NoHeartbeat"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.verify if n in NOTICED_LATE else ()) for n in sorted(ABLATIONS)],
)
def test_a_safeguard_that_is_missing_is_noticed(name: str) -> None:
    """Without the safeguard an invariant breaks, and it is one that the safeguard is there for."""
    violations = [found for part in _parts(name) for found in part.violations]

    assert violations, f"{name}: {SEEDS} worlds noticed nothing"
    assert violations[0][1] in EXPECTED[name], violations[0][2]


def _parts(name: str):
    """The summaries up to the first one with a violation."""
    for part in run_many(STARTS.get(name, 0), SEEDS, 1, name):
        yield part
        if part.violations:
            return
