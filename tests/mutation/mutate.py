"""Runs mutants: each in a copy of the tree, with its tests. `python -m tests.mutation` runs all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutation.mutants import Mutant

COPIED = ("service", "tests", "mappings", "schemas", "pyproject.toml")
"""What the tests of mutants need."""

TESTS_FAILED = 1
"""Exit status of pytest if tests ran and some failed. All others but 0 say that the run is in error."""


class MutationError(Exception):
    """A mutant says nothing: its text is not found, or its tests do not run or fail without it."""


def text_of(root: Path, mutant: Mutant) -> str:
    """The text of the mutant's file. Raises MutationError unless `old` occurs in it exactly once."""
    path = root / mutant.file
    text = path.read_text() if path.is_file() else ""
    if (found := text.count(mutant.old)) != 1:
        raise MutationError(
            f"{mutant.name}: {mutant.file} has its text {found} times, not once: {mutant.old!r}"
        )
    return text


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A copy of the tree under `root`, for as long as the context lasts."""
    with TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        yield copy


def survives(copy: Path, mutant: Mutant) -> bool:
    """True if the mutant's tests pass with it. Raises MutationError if they cannot be run."""
    original = text_of(copy, mutant)
    path = copy / mutant.file
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        status, output = run_tests(copy, mutant.tests, "-x")
    finally:
        path.write_text(original)
    if status not in (0, TESTS_FAILED):
        raise MutationError(f"{mutant.name}: its tests did not run:\n{output}")
    return status == 0


def check_unchanged(copy: Path, mutants: Sequence[Mutant]) -> None:
    """Raise MutationError unless the tests of all mutants pass on the code as it is."""
    status, output = run_tests(copy, sorted({test for mutant in mutants for test in mutant.tests}))
    if status != 0:
        raise MutationError(f"the tests fail without a mutant too:\n{output}")


def run_tests(copy: Path, tests: Sequence[str], *options: str) -> tuple[int, str]:
    """Exit status and output of pytest on the copy, which is imported instead of the installed package."""
    # A mutant may be as long and as old as the original, which is how Python knows that bytecode is current.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--no-header", "--tb=short", *options, *tests],
        cwd=copy, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
