import contextlib
import json
from decimal import Decimal

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import exact_json
from service.mapping.expressions.expression import compile_expression, compile_transform
from service.mapping.syntax.problems import CompileError

ROOT = {
    "content": "Exchange: WHITEHALL\nCabinet: C|7 (a)\n",
    "n": " 12.50 ",
    "names": ["a", "b"],
    "want": 2,
    "items": [{"id": 1, "v": "one"}, {"id": 2, "v": "two"}],
    "none": None,
    "$": "dollar",
    "big": Decimal("0.1"),
}


def search(text, root=ROOT):
    return compile_expression(text).search(root)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$", ROOT),
        ("$.content", ROOT["content"]),
        ("items[?id == $.want].v | [0]", "two"),
        ("'$.content'", "$.content"),
        ('"$"', "dollar"),
        ('`"$"`', "$"),
        ("{a: $.want}", {"a": 2}),
        ("items[0] | $.want", 2),
    ],
)
def test_dollar_is_the_root_outside_quotes(text, value):
    """`$` is the root at any place a path may begin, also in filters and after pipes.

    In quotes it is text.
    """
    assert search(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"$.content | parse('Exchange: ([A-Z\s]+)')", "WHITEHALL"),
        ("content | parse('Cabinet: .+')", "Cabinet: C|7 (a)"),
        (r"content | parse('C\|(\d+) \(')", "7"),
        (r"content | parse('(C|D).(\d)')", "C"),
        (r"'it\'s' | parse('t\'s')", "t's"),
        ("content | parse('Cabinet: ([^)]+\\))')", "C|7 (a)"),
        ("parse(content, 'Exchange: (.+)')", "WHITEHALL"),
        ("content | parse('nothing')", None),
        (r"content | parse('WHITEHALL\nCab')", "WHITEHALL\nCab"),
        ("content | parse('Exchange: (.+)') | lower()", "whitehall"),
        ("items[*].v.upper()", ["ONE", "TWO"]),
        (r"content | parse_all(': (\S+)')", ["WHITEHALL", "C|7"]),
    ],
)
def test_parse_takes_any_pattern(text, value):
    """A pattern may hold `|`, `)` and quotes.

    Its value is the first group or the match, searched by line first.
    """
    assert search(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("join(', ', names)", "a, b"),
        ("names | join(', ')", "a, b"),
        ("to_number(n)", 12.5),
        ("n | to_number()", Decimal("12.50")),
        ("n | trim()", "12.50"),
        ("none | default('x')", "x"),
        ("names | first()", "a"),
        ("names | last()", "b"),
        ("content | truncate(8)", "Exchange"),
        ("n | round(1)", Decimal("12.5")),
        ("'{\"a\": [1]}' | parse_json() | a[0]", 1),
        ("content | parse_text() | cabinet", "C|7 (a)"),
        ("'a-b' | replace('-', '+')", "a+b"),
        ("'a, b' | split(',')", ["a", "b"]),
        ("'Yes' | to_boolean()", True),
        ("'1,234' | to_integer()", 1234),
        ("content | title() | parse('Whitehall')", "Whitehall"),
    ],
)
def test_a_call_with_all_native_arguments_is_native_and_otherwise_a_transform(text, value):
    """A name can be both: with all arguments JMESPath's function is called, with one fewer the transform."""
    result = search(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x | pars('a')", "did you mean 'parse'"),
        ("x | parse()", "takes 1 argument"),
        ("x | parse(y)", "constants"),
        ("x | parse('a', 'b', 'c')", "takes 1 argument"),
        ("x | parse('a', 'b')", "takes 1 argument"),
        ("x | parse('a' 'b')", "takes 1 argument"),
        ("x | parse('(?=a)')", "look-around"),
        ("x | parse('(?<!a)b')", "look-around"),
        (r"x | parse('(a)\1')", "back-references"),
        ("x | parse('(')", "missing )"),
        ("x | to_date('%Y')", "needs a year, a month and a day"),
        ("x | to_date('%d/%m/%q')", "has '%q'"),
        ("x | to_date(`1`)", "in quotes"),
        ("length()", "length(@)"),
        ("sort_by(x, y)", "argument 2 of sort_by() must be &expression"),
        ("abs('x')", "must be number"),
        ("x | truncate('y')", "whole number"),
        ("a.$", "can only begin a path"),
        ("$x", "unexpected 'x'"),
        ("a[", "expression"),
        ("'abc", "is a closing ' missing"),
        ("", "empty"),
        ("|".join("a" * 500), "nested"),
        ("!" * 5000 + "a", "nested"),
        ("a" * 20_000, "characters"),
    ],
)
def test_mistakes_are_found_when_compiled(text, words):
    """Syntax, names, argument counts, constants and patterns are checked before any row is processed."""
    with pytest.raises(CompileError) as caught:
        compile_expression(text)
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("$.a.", "ends after '.'", "a key follows"),
        ("$.a |", "ends after '|'", "| trim()"),
        ("$.a ||", "ends after '||'", "a value follows"),
        ("$.a[", "the [ at character 4 has no ]", "add the ]"),
        ("$.a | trim(", "the ( at character 11 has no )", "add the )"),
        ("$.a)", "the ) at character 4 has no (", "add the (, or take it out"),
        ("$..x", "no search at any depth", "[*]"),
        ("$['a']", "a key in brackets", "write $.a"),
        ("$.a['b c']", "a key in brackets", 'write $.a."b c"'),
        ('$.a["b"]', "a key in brackets", "write $.a.b"),
        ("$.a[b]", "unexpected 'b'", "in brackets stands an index"),
        ("$.a.[0].b", "a dot before the [ at character 5", "write $.a[0].b"),
        ('a."x.[0]" . [-1]', "a dot before the [", 'write a."x.[0]"  [-1]'),
        ("$.a[?b == 'c' and d]", "unexpected 'a' at character 15", "and is written &&"),
        ("a OR b", "unexpected 'O'", "OR is written ||"),
        ("$.a[0,1]", "unexpected ','", "in brackets stands an index"),
        ("$.Post code", "unexpected 'c'", '$."Post code"'),
        ("$.foo-bar.b", "unexpected '-'", '$."foo-bar"'),
        ("$.größe", "unexpected 'ö'", '$."größe"'),
        ("$.2x", "unexpected '2'", '$."2x"'),
        (".a", "begins with '.'", "write $.a"),
        ("$a", "unexpected 'a'", "write $.a"),
        ("a.$.b", "unexpected '$'", "$ is the root"),
        ("$.a | to_number", "to_number after a pipe is read as a key", "write to_number()"),
        ("$.a | parse_json | b", "parse_json after a pipe", "write parse_json()"),
        ("$.a | parse", "parse after a pipe", "write parse('…')"),
        ("$.a[?b='c']", "unexpected '='", "=="),
        ("a[]b", "unexpected 'b'", "a dot or a pipe is missing"),
        ("$.a | parse(Exchange: (.+))", "not quoted", "parse('Exchange: (.+)')"),
        ("${AGENT}", "no part of an expression", "options of target"),
        ("{{ a }}", "for templates", "$.a"),
    ],
)
def test_each_mistake_has_a_remedy_for_its_cause(text, message, hint):
    """Words of the author, not of the parser; `$ is the root` only if a `$` stands elsewhere."""
    with pytest.raises(CompileError) as caught:
        compile_expression(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "Expecting" not in caught.value.message
    assert ("is the root" in caught.value.hint) == (text == "a.$.b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$.a.b", 1),
        ("a.l[1].x", 2),
        ("a.l[*].x", [1, 2]),
        ("l[-1]", 3),
        ("l[:2]", [1, 2]),
        ("ll[?t=='q'].t", ["q"]),
        ("ll[].t", ["p", "q"]),
        ("values(@) | [0].b", 1),
        ("f.b", 2),
        ("d.b", 3),
        ("n.b.c.d", 5),
        ("prose.b", None),
        ("a", '{"b": 1, "l": [{"x": 1}, {"x": 2}]}'),
        ("two.b", None),
    ],
)
def test_json_in_a_text_is_opened_where_a_path_goes_into_it(text, value):
    """At any depth, in projections and filters; the text itself, prose and two objects are not opened."""
    root = {
        "a": '{"b": 1, "l": [{"x": 1}, {"x": 2}]}',
        "l": "[1, 2, 3]",
        "ll": '[{"t": "p"}, {"t": "q"}]',
        "f": '```json\n{"b": 2,}\n```',
        "d": '"{\\"b\\": 3}"',
        "n": {"b": '{"c": "{\\"d\\": 5}"}'},
        "prose": 'Set {"b": 1}',
        "two": '{"b": 1} {"b": 2}',
    }
    assert compile_expression(text).search(root) == value


def test_transforms_by_name_or_as_a_call():
    """A transform is written as its name, or as a call if it has arguments."""
    assert compile_transform("trim").search(" a ") == "a"
    assert compile_transform("parse('(.)b')").search("ab") == "a"
    with pytest.raises(CompileError, match="takes 1"):
        compile_transform("parse")
    with pytest.raises(CompileError, match="unknown function 'length'"):
        compile_transform("length")
    with pytest.raises(CompileError, match="no transform"):
        compile_transform("a.b")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.5", Decimal("1234.5")),
        ("£12", 12),
        ("50 Mbps", 50),
        ("GBP 12.50", Decimal("12.50")),
        ("-5", -5),
        ("12 %", 12),
        ("123456789012345678901234567890.1", Decimal("123456789012345678901234567890.1")),
        ("50.0-330.0 Mbps", None),
        ("1,5", None),
        ("12:30", None),
        ("none", None),
        ("", None),
        ("9" * 2000, None),
    ],
)
def test_to_number_is_exact_or_no_value(text, number):
    """Thousands separators, currencies and units are accepted. A range, a time and `1,5` are no numbers."""
    assert compile_transform("to_number").search(text) == number


def test_decimals_are_numbers_to_native_functions():
    """Numbers that no float can hold keep all their digits in sums and comparisons."""
    root = exact_json.loads('{"p": [0.1, 12345678901234567890.5]}')
    assert search("sum(p)", root) == Decimal("12345678901234567890.6")
    assert search("max(p)", root) == Decimal("12345678901234567890.5")
    assert search("p[1] > `1`", root) is True
    assert search("to_string(p[1])", root) == "12345678901234567890.5"
    assert search("type(p[1])", root) == "number"
    assert search("ceil(x)", {"x": Decimal("1E+999999999")}) is None


def test_transforms_do_not_grow_without_bounds():
    """A result that would be too large is no value, and parse_all stops at 1000 matches."""
    grown = f"@ | replace('a', '{'b' * 4000}') | replace('b', '{'c' * 4000}')"
    assert search(grown, "a" * 1000) is None
    assert search("@ | join('----')", ["x"] * 3_000_000) is None
    assert len(search("@ | parse_all('a.*b|a')", "a" * 2000)) == 1000


@pytest.mark.parametrize(
    "text", ["to_number('nan')", "to_number('inf')", "&a", "abs(content)", "sum(names)", "[&a]"]
)
def test_results_that_are_no_json_are_no_value(text):
    """Type errors, and results that JSON cannot express, are no value rather than exceptions."""
    assert search(text) in (None, [None])


def test_deep_values_are_no_value():
    """An evaluation does not crash on JSON that is nested as deep as the parser accepts."""
    deep = exact_json.loads("[" * 900 + "]" * 900)
    assert search("@", deep) is None
    assert search("@ == @", deep) in (True, None)
    assert search("[0][0]", deep) is None
    assert search("type(@)", deep) == "array"


def test_halves_of_characters():
    """Two halves are one character. A half alone stays: a replacement character would be another value."""
    assert search("a", {"a": "\ud83d\ude00"}) == "\U0001f600"
    assert search("join('', a)", {"a": ["\ud83d", "\ude00"]}) == "\U0001f600"
    assert search("a", {"a": "x\ud800"}) == "x\ud800"
    assert search("a", {"a": {"x\ud800": ["\ud83d\ude00"]}}) == {"x\ud800": ["\U0001f600"]}


@pytest.mark.parametrize("pattern", ["x(.)", "(?s)x(.)", "^x(.)$", r"\Ax(.)"])
def test_patterns_keep_halves_of_characters(pattern):
    """The pattern engine reads UTF-8, which has no halves; its results have them where the text has."""
    assert search(f"a | parse('{pattern}')", {"a": "x\ud800"}) == "\ud800"
    assert search(f"a | parse('{pattern}')", {"a": "x\ud83d\ude00"}) == "\U0001f600"


def test_a_pattern_that_matches_beside_half_of_a_character():
    """A half that the pattern leaves out is not in the result; `parse_all` keeps each in its place."""
    text = "\ud83d Exchange: WHITEHALL\nCabinet: 4 \ude00"
    assert search("a | parse('Exchange: ([A-Z]+)')", {"a": text}) == "WHITEHALL"
    assert search("a | parse_all('[^A-Za-z0-9: \n]')", {"a": text}) == ["\ud83d", "\ude00"]


NATIVE = [
    "@",
    "a",
    "a.b",
    "a.b.c",
    "a[0]",
    "a[-1].b[0]",
    "[0].a",
    "a.b[1].c | [0]",
    "a | b | c",
    "@.a[0] | @",
    "a[*].b",
    "[*]",
    "a || b",
    "!a",
    "length(@)",
    "to_string(a)",
    "type(a)",
    "*.a",
    "keys(@)",
    "a[?b > `1`]",
    "[]",
    "sort(a)",
    "sum(a)",
    "a == b",
    "max_by(@, &a)",
    "values(@)",
    "a[::-1]",
    "{x: a, y: b}",
    "not_null(a, b)",
    "join(',', a)",
    "avg(a)",
    "abs(a)",
    "contains(a, b)",
    "`foo`",
]
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | TEXTS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("form", "text", "day"),
    [
        ("%Y%m%d", "20261123", "2026-11-23"),
        ("%Y%m%d", "2026113", None),
        ("%Y%m%d", "202611", None),
        ("%d%m%Y", "1122026", None),
        ("%d%m1%Y", "11112026", None),
        ("%Y%m%dT%H%M", "20261123T0714", "2026-11-23"),
        ("%d%b%Y", "5Sep2026", "2026-09-05"),
        ("%d.%m.%Y", "1.2.2026", "2026-02-01"),
    ],
)
def test_a_date_without_separators_needs_all_its_digits(form, text, day):
    """Where digits follow digits, one digit for a day or month would give a date a second reading."""
    assert search(f"t | to_date('{form}')", {"t": text}) == day


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ('"speed": 50,\n"line": "FTTC",\n"none": null', {"speed": "50", "line": "FTTC"}),
        ('- "speed": 50 Mbps', {"speed": "50 Mbps"}),
        ('{"speed": 50, "line": "FTTC"}', None),
        ('"line": {\n"kind": "a\\"b"', None),
        ('"Fast" tier: 50\n[Speed]: "a"\n**Line:** x', {"fast_tier": "50", "speed": '"a"', "line": "x"}),
    ],
)
def test_parse_text_takes_only_the_value_of_a_json_member(text, entries):
    """Commas and quotes of JSON are no part of a value, and two members on a line are no value."""
    assert search("t | parse_text()", {"t": text}) == entries


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@given(text=st.sampled_from(NATIVE), root=JSON)
def test_expressions_without_extensions_are_jmespath(text, root):
    """Expressions without our extensions give JMESPath's values, and None if it raises."""
    try:
        expected = jmespath.search(text, root)
    except Exception:  # noqa: BLE001 -- the library raises its own errors, and TypeErrors
        expected = None
    assert json.dumps(search(text, root)) == json.dumps(expected).replace("Infinity", "null")


@given(text=st.text(max_size=30) | st.text("$.a[]()|'\"`{}@&*?:,0-!=<> \\", max_size=15))
def test_any_text_compiles_or_is_a_compile_error(text):
    """Compiling any text succeeds or raises CompileError, and nothing else."""
    with contextlib.suppress(CompileError):
        compile_expression(text).search({"a": [1]})


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2009", "\u202f", "\u200b", "\ufeff", " \t", "** "])
def test_parse_text_leaves_out_blanks_of_any_kind(blank):
    """Blanks around a value are no part of it, whatever their width."""
    text = f"Speed:{blank}50{blank}Mbps{blank}"
    assert search("t | parse_text()", {"t": text}) == {"speed": f"50{blank}Mbps"}
