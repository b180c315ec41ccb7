"""Any reply to a transcript: each known shape has a reader, the first that knows the reply reads it.

To add a shape, write a reader that returns None for what it does not know, and list it in `_READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from service.mapping.anthropic import read_anthropic
from service.mapping.transcript import Transcript, Usage, usage_of
from service.model import Json

_READERS: tuple[Callable[[Json], Transcript | None], ...] = (read_anthropic,)


@dataclass(frozen=True, slots=True)
class View:
    """A reply as the methods see it. `root` is the raw JSON as it came, `{content: text}` for plain text."""

    root: Json
    transcript: Transcript

    @classmethod
    def of(cls, reply: Json) -> View:
        """Total: an unknown shape has an empty transcript."""
        return cls({"content": reply} if isinstance(reply, str) else reply, normalise(reply))


def normalise(reply: Json) -> Transcript:
    """The transcript of a reply; `usage` of the envelope counts rather than the sum over its messages."""
    found = (reader(reply) for reader in _READERS)
    transcript = next((t for t in found if t is not None), None)
    if transcript is None:
        structured = reply.get("structured_output") if isinstance(reply, dict) else None
        transcript = Transcript(structured=structured)
    overall = usage_of(reply)
    return replace(transcript, usage=overall) if overall != Usage() else transcript
