"""The replies that agents gave, compared with those that are kept with the outcomes of their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from service.adapters.memory import MemoryObjects
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.replies.kept_replies import round_of_reply
from service.batch.replies.pack import pack_key, reply_in, unpacked
from service.domain import exact_json
from service.domain.model import Batch, Json, Outcome, PackedReply, Status

BROKEN = "reply_is_kept"


class KeptReplyChecks:
    """Checks reply_is_kept: when an outcome is stored, and at the end."""

    def __init__(self, objects: Callable[[], MemoryObjects], violated: Callable[[str, str], None]) -> None:
        self._objects = objects
        self._violated = violated
        self._place_of = LargeOutcomes(MemoryObjects(), LargeOutcomeLimits("out")).place_of
        # What agents replied to a row in any round, by the identity of its batch and its number.
        self._given: Mapping[tuple[str, int], list[Json]] = defaultdict(list)
        self._stored: dict[tuple[str, int], tuple[Batch, Outcome]] = {}
        self.packed = 0

    def replied(self, identity: str, number: int, body: Json) -> None:
        """The agent replied to a row."""
        self._given[identity, number].append(body)

    def stored(self, batch: Batch, outcome: Outcome, *, has_reuse: bool) -> None:
        """An outcome was stored. With `reuse`, the reply of a row may be lost with the worker that had it."""
        self._stored[batch.identity, outcome.number] = (batch, outcome)
        self.packed += outcome.reply_at is not None
        error = outcome.error.type if outcome.error else ""
        has_one = outcome.reply or outcome.reply_at
        if not has_one and not has_reuse and (outcome.status is Status.SUCCESS or error == "ExtractionError"):
            self._violated(BROKEN, f"row {outcome.number} of {batch.identity} is stored without its reply")
        for problem in self._problems(batch, outcome):
            self._violated(BROKEN, problem)

    def broken(self) -> Iterator[tuple[str, str]]:
        """The kept replies that cannot be loaded at the end."""
        for batch, outcome in self._stored.values():
            for problem in self._problems(batch, outcome):
                yield BROKEN, problem

    def _problems(self, batch: Batch, outcome: Outcome) -> Iterator[str]:
        row = f"row {outcome.number} of {batch.identity}, round {outcome.round},"
        try:
            text = self._text(batch, outcome)
        except (KeyError, ValueError) as error:
            yield f"the reply of {row} cannot be read: {error!r}"
            return
        if text and exact_json.loads(text) not in self._given[batch.identity, outcome.number]:
            yield f"{row} has a reply that its agent did not give"

    def _text(self, batch: Batch, outcome: Outcome) -> str | bytes:
        packed = outcome.reply_at
        if not isinstance(packed, PackedReply):
            return outcome.reply
        place = self._place_of(replace(batch, round=round_of_reply(outcome)))
        pack = self._objects().stored[place.bucket, pack_key(place, packed.pack)].body
        return reply_in(unpacked(pack), packed)
