"""`make mutants`: run every mutant, or those whose names contain the given words; print what survives."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.mutants import MUTANTS, Mutant
from tests.mutation.mutate import MutationError, check_unchanged, copy_of, survives, text_of

ROOT = Path(__file__).parents[2]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def survivors_of(root: Path, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Run the mutants one after the other. Raises MutationError if one of them says nothing."""
    for mutant in mutants:
        text_of(root, mutant)
    survivors = []
    with copy_of(root) as copy:
        check_unchanged(copy, mutants)
        for mutant in mutants:
            began = time.monotonic()
            if survives(copy, mutant):
                survivors.append(mutant)
            verdict = "SURVIVED" if mutant in survivors else "killed"
            say(f"{verdict:8}  {time.monotonic() - began:5.1f} s  {mutant.name}")
    return survivors


def main(words: Sequence[str]) -> int:
    """Exit status 1 if a mutant survived, 2 if one could not be run."""
    wanted = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    try:
        survivors = survivors_of(ROOT, wanted)
    except MutationError as error:
        say(str(error))
        return 2
    say(f"{len(wanted)} mutants, {len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
