"""JSON as models write it: what is read, and what is no value because reading it would be a guess."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import exact_json
from service.mapping.expressions.model_json import MAX_CHARS, non_finite, opened, parse_model_json

THINKING = '<think>maybe {"a": 2}</think>'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("17", 17),
        ('"a"', "a"),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n{"a": 1}\n```', {"a": 1}),
        ('```JSON\n[{"a": 1}]\n```\nI hope that this helps.', [{"a": 1}]),
        ('```json\n{"a": 1}', {"a": 1}),
        ("```json\n42\n```", 42),
        ('```json[{"a": 1}]```', [{"a": 1}]),
        ("```\n[1, 2]\n```", [1, 2]),
        ('Here you are: {"a": 1}. Is that all?', {"a": 1}),
        ('According to [1] and [2, 3] it is {"a": 1}.', {"a": 1}),
        ('Put {name} into {place}: {"a": 1}', {"a": 1}),
        ('df["price"] gives {"a": 1}', {"a": 1}),
        ('- [x] read\n- [ ] write\n{"a": 1}', {"a": 1}),
        ('Tags: ["a", "b"]', ["a", "b"]),
        (THINKING + '{"a": 1}', {"a": 1}),
        (THINKING + "\n\n```json\n" + '{"a": 1,}\n```', {"a": 1}),
        (THINKING.removeprefix("<think>") + '{"a": 1}', {"a": 1}),
        ('[THINK]{"a": 2}[/THINK]{"a": 1}', {"a": 1}),
        ('<Reasoning>{"a": 2}</Reasoning> {"a": 1}', {"a": 1}),
        ("<think>[1]</think>[1, 2]", [1, 2]),
        ('{"a": "<think>x</think>",}', {"a": "<think>x</think>"}),
        ('{"a": 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ("{'a': 'it is', 'b': None, 'c': True}", {"a": "it is", "b": None, "c": True}),
        ("{'a': \"O'Brien\", 'b': 'say \"hi\"'}", {"a": "O'Brien", "b": 'say "hi"'}),
        (r"{'a': 'it\'s'}", {"a": "it's"}),
        ("{“a”: “b”}", {"a": "b"}),
        ('{a: "bug", b-c: 1}', {"a": "bug", "b-c": 1}),
        ('{"a": 1, // the first\n "b": 2 /* the second */ # all\n}', {"a": 1, "b": 2}),
        ('{"u": "http://example.org/#x", "b": 1,}', {"u": "http://example.org/#x", "b": 1}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        (r'{"a": "x\_y", "b": "\$5"}', {"a": r"x\_y", "b": r"\$5"}),
        ('{"a": .5, "b": +3, "c": 5.,}', {"a": 0.5, "b": 3, "c": 5}),
        (r"{\"a\": 1, \"b\": \"x\"}", {"a": 1, "b": "x"}),
        ('{{"a": 1}}', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('const x = {"a": 1};', {"a": 1}),
        ("<|channel|>analysis<|message|>{'a': 2}<|end|><|channel|>final<|message|>{'a': 1}<|end|>", {"a": 1}),
        ('{"a": 1} or, in short, {"a": 1}', {"a": 1}),
        ('{"t": "say "hi" to me", "p": 1.50}', {"t": 'say "hi" to me', "p": 1.5}),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
        ('{"a": "``` in a text",}', {"a": "``` in a text"}),
    ],
)
def test_the_only_value_is_read(text, value):
    """Fences, prose, thinking, comments, other quotes and commas too many or too few change nothing."""
    assert parse_model_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON at all",
        "It is [1], see [2, 3].",
        '{"a": 1} and {"a": 2}',
        '{"a": 1}\n{"b": 2}',
        '["a"] and {"a": 1}',
        '```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```',
        THINKING.removesuffix("</think>"),
        '{"a": {"b": 1}, "c": "cut o',
        '{"a": 1, "b": {"c": 2}',
        '{"a": 1, "b": [{"c": 2}, {"c',
        '[{"a": 1}, {"a": 2}',
        '[1, {"b": 2}, "cut o',
        "[1, 2, 3",
        '```json\n{"a": 1, "b":\n```',
        '{"a":}',
        '{"a": , "b": 1}',
        '{"a" 1}',
        '{"a": bug}',
        '{"a": undefined}',
        '{"a": 1, ...}',
        "[1, 2, ...]",
        '{"a": 12%}',
        '{"a": 1,234}',
        '{"a": 007}',
        '{"a": 0x1F}',
        '{"a": 1_000}',
        '{"a": "1" + "2"}',
        '{"a": "say "hi", then go", "b": 1}',
        """{"a": 'x", "b": 1}""",
        '{"a": [1, 2}',
        '{"a": "b"; "c": 1}',
        '{"a": 1, "a": 2,}',
        '"a": 1',
        '{"a": 1}, "b": 2}',
        '{"a": 1}}',
        '{a": 1, "b": ["c"], "d',
        '```json[{"a": 1}, {"a"',
        '[{"a": 1}]]',
        '{"date": 2024-01-02}',
        '{"a": (1, 2)}',
    ],
)
def test_a_guess_is_no_value(text):
    """Two values, cut-off JSON, words without quotes and anything left out give no value."""
    assert parse_model_json(text) is None


def test_a_mistake_costs_no_digits():
    """Numbers keep their digits in repaired JSON too."""
    text = '{"id": 12345678901234567890123, "x": 0.1234567890123456789,}'
    assert parse_model_json(text) == {"id": 12345678901234567890123, "x": Decimal("0.1234567890123456789")}
    assert parse_model_json('{"t": "a "b" c", "x": 0.1234567890123456789}')["x"] == Decimal(
        "0.1234567890123456789"
    )


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_nan_stays_recognisable(word):
    """NaN and infinity are floats here; the expression makes null of them and says so."""
    value = parse_model_json(f'{{"a": [{word}], "b": 1}}')
    assert not math.isfinite(value["a"][0])
    assert non_finite(value)
    assert not non_finite({"a": [1.5, "x"]})


def test_only_text_that_begins_as_json_is_opened():
    """A path goes into JSON within a text, and not into JSON that prose mentions."""
    assert opened('{"b": 1}', dict) == {"b": 1}
    assert opened('```json\n{"b": 1,}\n```', dict) == {"b": 1}
    assert opened('"{\\"b\\": 1}"', dict) == {"b": 1}
    assert opened('Set {"b": 1} there', dict) is None
    assert opened("[1]", dict) is None
    assert opened({"b": 1}, dict) == {"b": 1}


@pytest.mark.parametrize(
    "unit", ["[1 /*", '{"a": "', "{'a': ", "[1,", "[1 x", '"', "{", "[", "<think>", '{"a":"\\"']
)
def test_no_text_is_read_for_ever(unit):
    """A text of a quarter of a million characters that begins anew all the time ends without a value."""
    assert parse_model_json(unit * (MAX_CHARS // len(unit))) is None


# A backspace before a letter is the backslash of a command that was not escaped.
TEXT = st.text(st.characters(exclude_characters="\b", codec="utf-8"), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(TEXT, JSON, min_size=1, max_size=3), cut=st.integers(1, 200))
def test_cut_off_json_has_no_value(value, cut):
    """No beginning of an object's JSON is taken for the object, or for a part of it."""
    text = exact_json.dumps(value)
    assert parse_model_json(text[: min(cut, len(text) - 1)]) is None
    assert parse_model_json(f"```json\n{text}\n```") == value


@pytest.mark.parametrize(
    "text",
    [
        r'{"x": "$\frac{1}{2}$"}',
        r'{"x": "2 \times 3"}',
        r'{"x": "\text{yes}"}',
        r'{"x": "\beta"}',
        r'{"x": "\bword\b"}',
        r'{"x": "\theta", y: 1}',
        r'{"x": "C:\Users\new"}',
        r'{"x": "C:\Users", "y": "D:\new"}',
        r'{"x": "\d+\n"}',
        r'{"x": "C:\temp"}',
        r'{"x": "C:\new\file.txt"}',
    ],
)
def test_a_backslash_that_json_reads_as_a_control_character(text):
    """A model that does not escape its backslashes means none of the control characters."""
    assert parse_model_json(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'{"x": "$\\frac{1}{2}$"}', r"$\frac{1}{2}$"),
        (r'{"x": "one\ntwo\ttext"}', "one\ntwo\ttext"),
        (r'{"x": "a\*b\*\nc"}', "a\\*b\\*\nc"),
        (r'{"x": "\d+"}', r"\d+"),
        (r'{"x": "B:\nParis"}', "B:\nParis"),
        (r'{"x": "A:\none two\nthree"}', "A:\none two\nthree"),
        (r'{"x": "C:\\temp\\new"}', r"C:\temp\new"),
        (r'The half is \frac{1}{2}: {"x": "half"}', "half"),
        (r'{"x": "page 1\n\fPage 2"}', "page 1\n\fPage 2"),
    ],
)
def test_backslashes_with_one_reading(text, value):
    """Escapes of lines and tabs, escaped backslashes, and those that are no escape of JSON."""
    assert parse_model_json(text) == {"x": value}
