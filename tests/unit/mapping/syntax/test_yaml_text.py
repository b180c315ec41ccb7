import pytest

from service.mapping.syntax.yaml_text import read_documents


def read(text):
    documents, problems = read_documents("f.yaml", text)
    return [document.value for document in documents], [str(problem) for problem in problems]


def test_a_duplicate_key_is_a_problem_in_its_line():
    """A duplicate key is reported with its line and the line of the first."""
    assert read("a: 1\nb: 2\na: 3\n")[1] == ["f.yaml:3: duplicate key 'a' (first in line 1)"]


def test_a_template_without_quotes_is_a_problem_with_its_remedy():
    """YAML takes two braces for a table whose key is a table."""
    hint = "put text that holds {{ in quotes"
    assert read("a: {{ b }}\n")[1] == [f"f.yaml:1: a key must be plain text ({hint})"]
    assert read("? [b]\n: 1\n")[1] == ["f.yaml:1: a key must be plain text"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("0123", "0123"),
        ("12:30", "12:30"),
        ("2025-01-18", "2025-01-18"),
        ("true", True),
        ("12", 12),
        ("-1.5", -1.5),
        ("~", None),
        ("'12'", "12"),
        ("!!str 12", "12"),
        (".inf", ".inf"),
    ],
)
def test_only_json_scalars_are_recognised(text, value):
    """Countries, codes, times and dates stay text; JSON's numbers, true, false and null do not."""
    assert read(f"v: {text}\n") == ([{"v": value}], [])


@pytest.mark.parametrize("text", ["!!python/object:os.system x", "!secret x", "!!binary aGk="])
def test_tags_are_problems(text):
    """A YAML tag is reported: it neither makes an object nor is ignored."""
    assert "is not supported" in read(f"v: {text}\n")[1][0]


def test_alias_bombs_are_reported():
    """The limit for values counts expanded aliases: nine lines could become a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases written out" in read("\n".join(lines))[1][0]


def test_an_alias_to_itself_is_reported():
    """A value that contains itself reaches the depth limit."""
    assert "nested" in read("a: &a [*a]\n")[1][0]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a: " + "{a: " * 3000, "x" * 300_000, "a: [\n", "a: \x01", "\t- a: b: c"]
)
def test_unreadable_text_is_one_problem_with_a_line(text):
    """Text that is too deep, too large, broken or binary is one problem with file and line."""
    values, problems = read(text)
    assert values == []
    assert len(problems) == 1
    assert problems[0].startswith(("f.yaml:1: ", "f.yaml:2: "))


def test_merge_keys_are_reported():
    """A merge key `<<` is reported: it is neither merged nor read as an ordinary key."""
    assert "merge keys" in read("a: &a {x: 1}\nb: {<<: *a}\n")[1][0]


def test_aliases_repeat_values():
    """An alias has its anchor's value. Documents are separated by ---."""
    assert read("a: &a {x: 1}\nb: *a\n---\nc: 1\n---\n") == ([{"a": {"x": 1}, "b": {"x": 1}}, {"c": 1}], [])


@pytest.mark.parametrize("escape", ["\\UFFFFFFFF", "\\U00110000"])
def test_an_escape_of_no_character_is_named(escape):
    """The problem has the escape and its line, and says what the last character is."""
    documents, problems = read_documents("a.yaml", f'a: 1\nb: "{escape}"\n')
    assert documents == []
    assert (problems[0].line, problems[0].message) == (2, f"not YAML: {escape} is no character")
    assert "0010FFFF" in problems[0].hint
