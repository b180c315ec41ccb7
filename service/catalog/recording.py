"""Recording: replies become samples in `mappings/samples/NAME/`, in the form that `samples` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.catalog.samples import EXPECTED, ReplyReader
from service.domain import exact_json
from service.domain.errors import RowfleetError, UsageError
from service.domain.model import Json, Outcome


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """A sample to be written: the reply, and the outcome that is expected of it, None for none.

    `stem` is the name of its files without their endings.
    """

    stem: str
    reply: Json
    expected: Outcome | None = None


def record_samples(folder: Path, samples: Sequence[RecordedSample], read_reply: ReplyReader) -> list[Path]:
    """Write samples into the folder of a mapping; return the paths of the files.

    `read_reply` reads a reply as workers do. Raises UsageError, and writes nothing, if one of the files is
    there, or if a reply would be read as another one.
    """
    files = [file for sample in samples for file in _files(folder, sample, read_reply)]
    for path, _ in files:
        if path.exists():
            raise UsageError(f"{path.as_posix()} is there and stays as it is: delete it to record it anew")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files:
        with path.open("x", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    return [path for path, _ in files]


def _files(folder: Path, sample: RecordedSample, read_reply: ReplyReader) -> list[tuple[Path, str]]:
    files = [_reply_file(folder, sample, read_reply)]
    if sample.expected is not None:
        expectation = exact_json.indented(_expectation(sample.expected)) + "\n"
        files.append((folder / f"{sample.stem}{EXPECTED}", expectation))
    return files


def _reply_file(folder: Path, sample: RecordedSample, read_reply: ReplyReader) -> tuple[Path, str]:
    """The file of a reply: text as it is, unless it would be taken for JSON or a stream."""
    reply = sample.reply
    texts = {".json": exact_json.indented(reply) + "\n"}
    if isinstance(reply, str):
        texts = {".txt": reply, **texts}
    for suffix, text in texts.items():
        try:
            if read_reply(exact_json.utf8(text)) == reply:
                return folder / f"{sample.stem}{suffix}", text
        except RowfleetError:
            continue
    raise UsageError(
        f"the reply of {sample.stem} cannot be a sample: a file with it would be read as another one"
    )


def _expectation(outcome: Outcome) -> dict[str, Json]:
    """The values of an outcome, or the error of a FAILED one."""
    if outcome.error is None:
        return {"output_data": dict(outcome.output_data)}
    # a long message was cut when it was stored
    message = outcome.error.message.removesuffix("…")
    return {"status": str(outcome.status), "error": f"{outcome.error.type}: {message}"}
