"""Bodies of messages: reading them, and how logs and commands show them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import PoisonMessageError
from service.domain.message_format import encode, encode_texts, read_object, shown_body

TOKEN = "AQCEAAAAKgAAAAMAAAAA/AAAAT+0="
JOB = {"v": 1, "task_token": TOKEN, "mapping": "demo"}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(JOB),
        json.dumps(JOB, indent=2),
        json.dumps(JOB).replace("/", "\\/"),
        json.dumps({"Message": json.dumps(JOB), "TopicArn": "arn"}),
        json.dumps({"Message": json.dumps({"Message": json.dumps(JOB)})}),
        json.dumps(JOB)[:40],
    ],
)
def test_a_task_token_is_not_shown(body):
    """Neither plain nor inside of a notification, nor where the body is cut."""
    shown = shown_body(body)
    assert TOKEN[:8] not in shown
    assert "********" in shown
    assert shown_body(body, 20) == shown[:20]


def test_other_bodies_are_shown_as_they_are():
    """Only the token is left out."""
    assert shown_body(json.dumps({"mapping": "demo"})) == '{"mapping": "demo"}'
    assert shown_body(json.dumps(JOB)) == json.dumps(JOB | {"task_token": "********"})


def test_a_byte_order_mark_before_the_object_is_no_part_of_it():
    """PowerShell and others write one before JSON."""
    assert read_object('\ufeff{"v": 1}') == {"v": 1}
    with pytest.raises(PoisonMessageError, match="not JSON"):
        read_object('\ufeff\ufeff{"v": 1}')


@given(st.lists(st.text(st.characters(exclude_categories=())) | st.text('a"\\\x7f\x1f\n/é\u2028')))
def test_texts_are_encoded_as_in_an_object(texts):
    """Whatever characters they have, half of a surrogate pair included, the text is the same, and ASCII."""
    assert encode({"texts": texts}) == f'{{"texts":{encode_texts(texts)}}}'
    assert encode_texts(texts).isascii()
