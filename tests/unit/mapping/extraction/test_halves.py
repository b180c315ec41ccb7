"""Halves of characters (one of the two UTF-16 units of an emoji) in the values of a reply."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import AgentUnavailableError, RowfleetError
from service.mapping import Catalog

MAPPING = """
target: {type: agent, name: a, invoke: http, url: "http://127.0.0.1:9/"}
output_mapping:
  type: agent
  extraction_methods:
    - method: direct
      field_mappings: FIELDS
"""
SCHEMA = "agent: a\nfields: [{name: v, type: list}]\n"


def extractor(fields, schemas=None):
    return Catalog.load({"a.yaml": MAPPING.replace("FIELDS", json.dumps(fields))}, schemas or {}).extractor(
        "a"
    )


@pytest.mark.parametrize(
    "reply",
    [
        r'{"v": "fine \ud83d"}',
        r'{"v": "\ude00 fine"}',
        r'{"v": "\ude00\ud83d"}',
        r'{"v": ["a", {"b": "\ud83d"}]}',
        r'{"v": {"\ud83d": 1}}',
    ],
)
def test_half_of_a_character_in_a_value(reply):
    """No value that a file can hold is meant by it: another attempt may bring the whole character."""
    with pytest.raises(AgentUnavailableError, match=r"value of v holds half of a character \(\\ud"):
        extractor({"v": "$.v"}).extract(json.loads(reply))


@pytest.mark.parametrize("expression", ["$.v | upper()", "$.v | parse('code (.+)')", "$.v | trim()"])
def test_half_of_a_character_that_a_transform_passes_on(expression):
    """No transform makes a value of it."""
    with pytest.raises(AgentUnavailableError, match="half of a character"):
        extractor({"v": expression}).extract({"v": "code 4\ud83d"})


def test_half_of_a_character_in_json_within_a_text():
    """Escapes in a text become halves only when the text is opened."""
    reply = {"v": r'["\ud83d"]'}
    with pytest.raises(AgentUnavailableError, match="half of a character"):
        extractor({"v": "$.v | parse_json()"}).extract(reply)
    typed = extractor({"v": "$.v"}, {"a.yaml": SCHEMA})
    assert typed.extract({"v": r'["\ud83d\ude00"]'}).values == {"v": ["\U0001f600"]}
    with pytest.raises(AgentUnavailableError, match="half of a character"):
        typed.extract(reply)
    assert isinstance(typed.explain(reply).error, AgentUnavailableError)


def test_half_of_a_character_that_nobody_reads():
    """It does no harm beside the values, nor in the part of a text that a pattern leaves out."""
    reply = {"v": "Exchange: WHITEHALL\nNote: \ud83d", "log": "\ude00", "\ud83d": 1}
    one = extractor({"v": "$.v | parse('Exchange: (.+)')"})
    assert one.extract(reply).values == {"v": "WHITEHALL"}


def test_two_halves_are_one_character():
    """Pieces of a list that an expression joins are whole; so is a value with U+FFFD that the agent sent."""
    reply = {"v": ["\ud83d", "\ude00"], "w": "\ufffd"}
    assert extractor({"v": "join('', v)", "w": "$.w"}).extract(reply).values == {
        "v": "\U0001f600",
        "w": "\ufffd",
    }


def test_an_explanation_shows_no_halves():
    """`try --explain` names the error; a value with a half is none."""
    found = extractor({"v": "$.v", "w": "$.w"}).explain({"v": "\ud83d", "w": "fine"})
    assert isinstance(found.error, AgentUnavailableError)
    assert found.values == {"v": None, "w": "fine"}


TEXTS = st.text(st.sampled_from(["a", "\ud83d", "\ude00", "\ufffd", "\U0001f600", "\n"]), max_size=6)


@given(reply=st.recursive(TEXTS, lambda one: st.lists(one, max_size=3) | st.dictionaries(TEXTS, one)))
def test_every_value_can_be_written(reply):
    """A reply gives values that UTF-8 can hold and that lost nothing, or an error."""
    try:
        value = extractor({"v": "$.v"}).extract({"v": reply}).values["v"]
    except RowfleetError as error:
        str(error).encode()
        return
    json.dumps(value, ensure_ascii=False).encode()
    assert json.dumps(value).count("ufffd") == json.dumps(reply).count("ufffd")
