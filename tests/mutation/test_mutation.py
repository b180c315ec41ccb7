"""The mutation run itself; `make mutants` runs the mutants."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutation.__main__ import survivors_of
from tests.mutation.mutants import MUTANTS, Mutant
from tests.mutation.mutate import MutationError, text_of

ROOT = Path(__file__).parents[2]
DOUBLE = Mutant("twice is once", "service/double.py", "2 *", "1 *", ("tests/test_double.py",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of one module and its test."""
    for folder in ("service", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "service" / "__init__.py").touch()
    (tmp_path / "service" / "double.py").write_text("def double(n):\n    return 2 * n\n")
    (tmp_path / "tests" / "test_double.py").write_text(
        "from service.double import double\n\ndef test_double():\n    assert double(3) == 6\n"
    )
    return tmp_path


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_the_code_as_it_is(mutant: Mutant) -> None:
    """Its text occurs once, its tests exist. A change of the code changes its mutants as well."""
    text = text_of(ROOT, mutant)
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert mutant.old != mutant.new
    assert mutant.tests
    assert [name for name in mutant.tests if not (ROOT / name.partition("::")[0]).is_file()] == []


def test_mutants_have_names_of_their_own() -> None:
    """`python -m tests.mutation NAME` runs one of them."""
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1


def test_a_mutant_that_a_test_notices_is_killed(tree: Path) -> None:
    """Its test fails in a copy; the tree is left as it was."""
    before = (tree / "service" / "double.py").read_text()
    assert survivors_of(tree, [DOUBLE]) == []
    assert (tree / "service" / "double.py").read_text() == before


def test_a_mutant_that_no_test_notices_survives(tree: Path) -> None:
    """It is named; the mutants after it are run on the original code."""
    harmless = replace(DOUBLE, name="once and once again", new="(1 + 1) *")
    assert survivors_of(tree, [harmless, DOUBLE, harmless]) == [harmless, harmless]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"old": "3 *"}, "has its text 0 times"),
        ({"old": "n"}, "has its text 3 times"),
        ({"file": "service/gone.py"}, "has its text 0 times"),
        ({"new": "2 +* "}, "its tests did not run"),
        ({"tests": ("tests/test_gone.py",)}, "the tests fail without a mutant too"),
    ],
)
def test_a_mutant_that_says_nothing_is_an_error(tree: Path, change: dict[str, str], reason: str) -> None:
    """A text that is not there, or tests that cannot run, would pass for a mutant that was killed."""
    with pytest.raises(MutationError, match=reason):
        survivors_of(tree, [replace(DOUBLE, **change)])
