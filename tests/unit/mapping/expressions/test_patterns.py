from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mapping.expressions.dates import iso_date, iso_datetime
from service.mapping.expressions.expression import compile_expression, compile_transform
from service.mapping.expressions.patterns import compile_pattern
from service.mapping.syntax.problems import CompileError

PIECES = st.lists(
    st.sampled_from(
        [
            *("a", "b", "ä", ".", "x*", "(a)", "(b)?", "(a|b)", "[^b]", "[ab]+", r"\s", r"\s*", "^", "$"),
            *(
                r"\b",
                r"\B",
                r"\A",
                r"\z",
                "(?i)",
                "(?m)",
                "(?s)",
                "(?s:.)",
                "a|b",
                r"\n",
                r"\r",
                "(.+)",
                "(.*)",
            ),
        ]
    ),
    min_size=1,
    max_size=5,
).map("".join)
TEXTS = st.text(st.sampled_from("aabbä\n\n\r x\ud800\U0001f600"), max_size=14)


STAND_IN = "\ue000"
"""For half of a character, which re2 cannot read."""


def by_definition(pattern, text):
    """The documented `parse`: line by line, then the whole text; with (?s) only the whole text."""
    text = (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass").replace("\ud800", STAND_IN)
    )
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts = [*lines, text] if len(lines) > 1 else lines
    for part in [text] if "(?s" in pattern.text else parts:
        match = pattern._compiled.search(part)
        found = None if match is None else match.group(1 if pattern._compiled.groups else 0)
        if found is not None:
            return found.strip().replace(STAND_IN, "\ud800")
    return None


@given(text=PIECES, subject=TEXTS)
def test_one_search_finds_what_searching_line_by_line_would(text, subject):
    """The fast search and the definition agree for anchors, flags, groups without a match, and any text."""
    try:
        pattern = compile_pattern(text)
    except CompileError:
        return
    assert pattern.first(subject) == by_definition(pattern, subject)


def test_patterns_are_linear():
    """Patterns that backtrack exponentially in other engines are fast. See benchmarks/extraction.py."""
    long = "a" * 50_000 + "!"
    assert compile_expression("@ | parse('(a+)+$')").search(long) is None
    assert compile_expression("@ | parse('(a|aa)+b')").search(long) is None
    assert compile_expression("@ | parse('(a+)+!$')").search(long) == "a" * 50_000


def test_first_line_gives_the_line_of_a_match():
    """Guards report the line that matches, or the match itself if it spans several lines."""
    assert compile_pattern("b(x?)").first_line("a\r\n abc \r\nd") == "abc"
    assert compile_pattern("b(x)?", ignore_groups=True).first_line("abc") == "abc"
    assert compile_pattern(r"a\nb").first_line("xa\nby") == "a\nb"
    assert compile_pattern("b").first_line("a") is None


@pytest.mark.parametrize(
    ("transform", "text", "value"),
    [
        ("to_date", " 2025-01-18 ", "2025-01-18"),
        ("to_date", "2025-01-18T10:00:00+01:00", "2025-01-18"),
        ("to_date", "18/01/2025", None),
        ("to_date", "2025-02-29", None),
        ("to_date", 20250118, None),
        ("to_date('%d/%m/%Y')", "18/01/2025", "2025-01-18"),
        ("to_date('%d/%m/%Y')", "2025-01-18", None),
        ("to_date('%d/%m/%Y', '%Y.%m.%d')", "2025.1.8", "2025-01-08"),
        ("to_date('%d %b %Y')", "3 MAY  2024", "2024-05-03"),
        ("to_date('%A, %d %B %Y')", "Saturday, 18 January 2025", "2025-01-18"),
        ("to_date('%m/%d/%y %I:%M %p')", "1/18/68 10:30 am", "2068-01-18"),
        ("to_date('%d.%m.%y')", "18.01.69", "1969-01-18"),
        ("to_date('%d/%m/%Y')", "31/02/2025", None),
        ("to_date('%d/%m/%Y')", "٣/01/2025", None),
        ("to_date('%d/%m/%Y%%')", "18/01/2025%", "2025-01-18"),
    ],
)
def test_to_date(transform, text, value):
    """to_date reads ISO dates, or dates in one of its formats, with English names of months and days."""
    assert compile_transform(transform).search(text) == value


def test_date_formats_are_linear():
    """A format with many numbers does not backtrack on a text that does not match."""
    assert compile_transform(f"to_date('%d%m%Y{'%f' * 40}')").search("1" * 99 + "x") is None


@given(
    day=st.dates(), form=st.sampled_from(["%d/%m/%Y", "%Y%m%d", "%d %b %Y", "%B %d, %Y", "%Y-%m-%dT%H:%M"])
)
def test_to_date_reads_dates_written_by_strftime(day, form):
    """to_date reads dates that strftime has written."""
    written = day.strftime(form.replace("%Y", f"{day.year:04}"))
    assert compile_transform(f"to_date('{form}')").search(written) == day.isoformat()


@given(text=st.text("0123456789-:.TtZz+ ", max_size=32))
def test_any_text_is_a_date_or_none(text):
    """Any text gives a date or None, never an error. A resulting date gives itself again."""
    for read in (iso_date, iso_datetime):
        if found := read(text):
            assert read(found) == found
            datetime.fromisoformat(found)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("(?s)Notes: (.+)", "one\n\ntwo"),
        ("Notes: (?s:(.+))", "one\n\ntwo"),
        ("(?is)notes: (.+)", "one\n\ntwo"),
        ("Notes: (.+)", "one"),
        ("(?i-s)notes: (.+)", "one"),
        (r"\(?s?\)?Notes: (.+)", "one"),
        ("[(?s)]*Notes: (.+)", "one"),
    ],
)
def test_a_dot_for_newlines_is_about_the_whole_text(pattern, found):
    """With (?s) a pattern is not tried line by line; only the flag itself does that."""
    compiled = compile_pattern(pattern)
    assert compiled.first("Dear\nNotes: one\n\ntwo") == found
    assert compiled.all("Dear\nNotes: one\n\ntwo") == [found]


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("(abc", "a ( has no )"),
        ("abc)", "a ) has no ("),
        ("[abc", "a [ has no ]"),
        ("*a", "repeat something before them"),
        ("a**", "two of *, + and ?"),
        ("a\\", "a backslash that is text"),
        (r"\y", "a backslash that is text"),
        ("[z-a]", "runs upwards"),
        ("a{3,1}", "runs upwards"),
        ("(?<=x)a", "linear time"),
        ("x(?!y", "linear time"),
        (r"(a)\1", "linear time"),
        ("(?>a)", "linear time"),
    ],
)
def test_each_mistake_in_a_pattern_has_its_own_remedy(pattern, remedy):
    """Linear time is told only to those who use what it rules out."""
    with pytest.raises(CompileError) as caught:
        compile_pattern(pattern)
    assert remedy in caught.value.hint
    assert ("linear" in caught.value.hint) == (remedy == "linear time")
