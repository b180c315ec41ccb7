"""Ablations: each switches one safeguard off, and some world then has to break an invariant.

An ablation is a subclass of `Components` that replaces a class by one without the safeguard; its docstring
says what happens instead. All this is in the simulation only: production code has no switch for it. The
modules beside this one hold the ablations by subject.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.simulation.ablations_budgets import NoReservations, NoReservationsOfDead
from tests.simulation.ablations_calls import (
    NoDeadlines,
    NoEndOfTurns,
    NoExcuses,
    NoInFlightLock,
    NoSharedLedger,
    NoSuspicion,
)
from tests.simulation.ablations_events import DeliveredFirst, NoOutbox
from tests.simulation.ablations_messages import (
    DeleteFirst,
    NoDrain,
    NoHeartbeat,
    NoMarksOnRepeatedCalls,
    NoMarksOnReturns,
    NoRecoveryLease,
    NoReplayMarks,
    NoSenderOfRecoveries,
    NoSenders,
    NoSweeper,
)
from tests.simulation.ablations_outcomes import (
    LatePacks,
    NoCheckAfterDuplicate,
    NoClosedGate,
    NoCommitToken,
    NoCounterInTransaction,
    NoIncarnation,
    NoKeptOutcomes,
    NoLease,
    NoRoundFence,
    NoRowCondition,
    NoSeal,
    NoSplitLease,
    NoWaitingResults,
    SpendingApart,
    StateBeforeSend,
)
from tests.simulation.ablations_results import (
    NoExactCheckpoint,
    NoManifestCondition,
    NoNewestResults,
    NoRewriting,
    NoSameManifest,
)
from tests.simulation.ablations_rounds import (
    DoubledCarried,
    NoCarriedCounts,
    NoKeptWhenCancelled,
    NoRemapRounds,
    NoSelection,
)
from tests.simulation.ablations_steering import (
    NoCommitWhenHeld,
    NoCompleteFirst,
    NoControl,
    NoCuts,
    NoEndOfHolds,
    NoFreshViews,
    NoGate,
    NoGeneration,
    NoJudgement,
    NoRequestIds,
    NoSealWhenCancelled,
    NoTrialState,
    NoWorkOfOthers,
)
from tests.simulation.process import Components

ABLATIONS: Mapping[str, type[Components]] = {
    kind.__name__: kind
    for kind in (
        NoRowCondition, NoRoundFence, NoCounterInTransaction, NoCheckAfterDuplicate, StateBeforeSend, NoSeal,
        NoHeartbeat, NoReplayMarks, NoSweeper, NoDrain, NoLease, NoSplitLease, NoSenders,
        NoMarksOnRepeatedCalls, NoSenderOfRecoveries, NoRecoveryLease,
        NoCommitToken, DeleteFirst, NoMarksOnReturns, NoWaitingResults, NoKeptOutcomes, NoClosedGate,
        LatePacks, SpendingApart,
        NoExcuses, NoSuspicion, NoDeadlines, NoInFlightLock, NoSharedLedger, NoEndOfTurns,
        NoReservations, NoReservationsOfDead,
        NoIncarnation,
        NoSameManifest, NoRewriting, NoExactCheckpoint, NoManifestCondition, NoNewestResults,
        NoOutbox, DeliveredFirst, NoCompleteFirst,
        NoSelection, NoCarriedCounts, DoubledCarried, NoRemapRounds, NoKeptWhenCancelled,
        NoGeneration, NoControl, NoRequestIds, NoGate, NoEndOfHolds, NoWorkOfOthers, NoSealWhenCancelled,
        NoJudgement, NoFreshViews, NoCuts, NoCommitWhenHeld, NoTrialState,
    )
}  # fmt: skip
"""All ablations by name."""
