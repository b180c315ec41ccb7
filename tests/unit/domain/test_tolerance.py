"""The text form of tolerated failures."""

import pytest

from service.domain.model import Limit, OnExceeded, Tolerance
from service.domain.tolerance import (
    DEFAULT_TOLERANCE,
    ToleranceError,
    parse_tolerance,
    read_tolerance,
    tolerance_text,
)


def test_the_parts_of_a_text_replace_those_of_the_default() -> None:
    """Limits are numbers or shares; the 20 first outcomes are looked at unless the text says otherwise."""
    assert parse_tolerance("rejected=5%, any = 500") == Tolerance(
        20, {"rejected": Limit(share=500), "any": Limit(rows=500)}
    )
    assert parse_tolerance("first=0,on_exceeded=cancel") == Tolerance(0, {}, OnExceeded.CANCEL)


def test_parts_that_are_not_named_stay_as_in_the_base() -> None:
    """A text changes one part of a tolerance and leaves the others."""
    base = Tolerance(7, {"rejected": Limit(rows=1), "any": Limit(rows=9)}, OnExceeded.FINISH)
    changed = parse_tolerance("rejected=0.25%", base)
    assert changed == Tolerance(7, {"rejected": Limit(share=25), "any": Limit(rows=9)}, OnExceeded.FINISH)


@pytest.mark.parametrize(
    "text", ["first=20,on_exceeded=pause", "rejected=12.5%,transient=0,any=500,first=0,on_exceeded=cancel"]
)
def test_a_tolerance_is_written_as_it_is_read(text: str) -> None:
    """The text of a tolerance names all its parts, in one order."""
    assert tolerance_text(parse_tolerance(text)) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not NAME=VALUE; for example rejected=5%"),
        ("5%", "'5%' is not NAME=VALUE"),
        ("rejected=5%,", "'' is not NAME=VALUE"),
        ("any=1,any=2", "'any' stands twice"),
        ("rejcted=5%", "'rejcted' is unknown; did you mean 'rejected'?"),
        ("cost=5", "'cost' is unknown; known: rejected, transient, any, first, on_exceeded"),
        ("unavailable=5%", "rows of the class unavailable never count"),
        ("any=-1", "'any' is '-1'; use a number of rows such as 500, or a share such as 5%"),
        ("any=101%", "'any' is '101%'"),
        ("any=1.234%", "'any' is '1.234%'"),
        ("first=5%", "'first' is '5%'; use a number of rows from 0 (never) to 1,000"),
        ("first=1001", "'first' is '1001'"),
        ("on_exceeded=stop", "'on_exceeded' is 'stop'; use pause, cancel, finish"),
    ],
)
def test_a_wrong_part_is_named_with_its_remedy(text: str, problem: str) -> None:
    """One sentence says what is wrong and what can be written instead."""
    with pytest.raises(ToleranceError) as caught:
        parse_tolerance(text)
    assert problem in str(caught.value)


def test_a_table_of_a_mapping_has_numbers_and_texts() -> None:
    """YAML reads a number as a number, and a share as a text."""
    assert read_tolerance({"any": 500, "first": 5, "rejected": "5%"}) == parse_tolerance(
        "any=500,first=5,rejected=5%"
    )
    assert read_tolerance({}) == DEFAULT_TOLERANCE
    with pytest.raises(ToleranceError):
        read_tolerance({"any": True})
