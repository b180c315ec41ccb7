"""The parts of a mapping that say what is sent."""

import json

import pytest

from service.mapping import Definition
from service.steering.remapping.sent_parts import first_difference
from tests.unit.laboratory import DEMO, definition_of


def changed(**parts):
    """The laboratory's mapping with other parts."""
    return Definition("demo", json.dumps(json.loads(definition_of(DEMO).text) | parts))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("answer: $.answer", "answer: $.other"),
        ("max_attempts: 3", "max_attempts: 9"),
        ("  timeout_seconds: 10\n", ""),
    ],
)
def test_what_is_done_with_a_reply_is_no_difference(old, new):
    """Nor are limits of calls."""
    assert first_difference(definition_of(DEMO), definition_of(DEMO.replace(old, new))) == ""


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"input_mapping": {"column_mappings": {"name": "id"}}}, "input_mapping.column_mappings.name"),
        ({"input_mapping": {"template": "say"}}, "input_mapping.column_mappings"),
        ({"input_mapping": None}, "input_mapping.column_mappings"),
        ({"target": {"type": "agent"}}, "target.function"),
    ],
)
def test_the_first_key_that_differs_is_named(parts, place):
    """With dots between its parts."""
    assert first_difference(definition_of(DEMO), changed(**parts)) == place


def test_true_is_not_1():
    """An agent gets another value."""
    one, true = (changed(input_mapping={"static_values": {"x": value}}) for value in (1, True))
    assert first_difference(one, true) == "input_mapping.static_values.x"


def test_a_part_that_is_left_out_is_an_empty_one():
    """Both send nothing."""
    assert first_difference(Definition("a", '{"target":{}}'), Definition("a", '{"input_mapping":{}}')) == ""
