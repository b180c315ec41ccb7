"""Bodies of messages as logs and commands show them."""

import json

import pytest

from service.domain.message_format import shown_body

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
