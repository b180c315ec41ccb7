"""The work of `rowfleet check`: compile every file, run every sample, and collect the problems by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.catalog.files import MappingFiles
from service.catalog.outline import NAMED_EXTRACTIONS, MappingOutline
from service.catalog.sample_check import check_samples
from service.catalog.samples import ReplyReader, Sample, read_samples
from service.domain.model import Location
from service.mapping import Catalog, Problem, check
from service.mapping.syntax.yaml_text import read_documents

SAMPLES = "samples"
"""The folder of samples inside the folder of mappings."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Sorted problems, and numbers of files and their contents. `ran` is True if the samples were run."""

    problems: list[Problem]
    mappings: int
    schemas: int
    samples: int
    runs: int = 0
    extractions: int = 0
    ran: bool = False

    @property
    def counts(self) -> str:
        """`5 files, 2 runs, 3 extractions, 1 schema, 4 samples`."""
        return ", ".join(
            f"{count} {word}{'' if count == 1 else 's'}"
            for count, word in (
                (self.mappings + self.schemas, "file"),
                (self.runs, "run"),
                (self.extractions, "extraction"),
                (self.schemas, "schema"),
                (self.samples, "sample"),
            )
        )


def check_files(
    files: MappingFiles, mappings: Path | Location, max_reply_bytes: int, read_reply: ReplyReader
) -> CheckReport:
    """Check files that were read from the folder `mappings`. `read_reply` reads a reply as workers do.

    Samples are run only if all files compile. They are read from a local folder of mappings, never from a
    bucket.
    """
    samples: list[Sample] = []
    sample_problems: list[Problem] = []
    if isinstance(mappings, Path):
        folder = mappings.as_posix()
        samples, sample_problems = read_samples(mappings / SAMPLES, max_reply_bytes, read_reply)
    else:
        folder = mappings.url()
    problems = [*files.problems, *check(files.mappings, files.schemas), *_empty_files(files, folder)]
    outline = MappingOutline(files.mappings, files.schemas)
    compiles = not problems
    problems += sample_problems
    if compiles:
        catalog = Catalog.load(files.mappings, files.schemas)
        problems += check_samples(catalog, samples, outline.tool_references())
    return CheckReport(
        problems=sorted(set(problems)),
        mappings=len(files.mappings),
        schemas=len(files.schemas),
        samples=len(samples),
        runs=len(outline.runs),
        extractions=len(outline.extractions),
        ran=compiles,
    )


def _empty_files(files: MappingFiles, folder: str) -> list[Problem]:
    """A problem for each file without a document, or one for a folder without any file.

    Both compile, to an empty catalog, but are hardly intended.
    """
    texts = {**files.mappings, **files.schemas}
    if not texts and not files.problems:
        hint = "name another folder with --mappings DIR or ROWFLEET_MAPPINGS"
        return [Problem(folder, 1, "no *.yaml file is there", hint)]
    problems = []
    for file, text in texts.items():
        documents, found = read_documents(file, text)
        if not documents and not found:
            hint = f"target: …, {NAMED_EXTRACTIONS}: … or agent: …; or delete it"
            problems.append(Problem(file, 1, "the file holds nothing", hint))
    return problems
