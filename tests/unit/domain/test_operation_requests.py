"""Requests to operate on a batch as messages on the ingest queue."""

import json

import pytest

from service.domain.errors import PoisonMessageError
from service.domain.events import decode_ingest
from service.domain.operation_requests import ARGUMENTS, OperationRequest, WorkRequest, argument_problem


@pytest.mark.parametrize("op", ARGUMENTS)
@pytest.mark.parametrize(("request_id", "by"), [("", ""), ("r-1", "arn:aws:iam::1:user/ada")])
def test_a_request_survives_the_round_trip(op, request_id, by):
    """The message asks for no run."""
    request = OperationRequest(op, "demo#e1", request_id, by)
    message = decode_ingest(request.encode())
    assert (message.operation, message.jobs) == (request, ())


def test_the_arguments_of_a_request_survive_the_round_trip():
    """They are named as the long options; one that is null is not given."""
    args = {"max_concurrency": 4, "priority": None, "tolerate": "any=5%"}
    request = decode_ingest(OperationRequest("set", "demo#e1", args=args).encode()).operation
    assert request == OperationRequest("set", "demo#e1", args={"max_concurrency": 4, "tolerate": "any=5%"})


@pytest.mark.parametrize("incarnation", ["", "018bcfe5680a1b2c"])
def test_a_work_request_survives_the_round_trip(incarnation):
    """The fleet's own message names the batch and the operation."""
    work = WorkRequest("demo#e1", incarnation, 7)
    assert decode_ingest(work.encode()).operation == work


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            {"op": "fly"},
            "'op' \"fly\" is unknown; known: pause, resume, approve",
        ),
        ({"op": ["pause"]}, "is unknown"),
        ({"op": "finish", "batch_id": ""}, "'batch_id' is missing"),
        ({"batch": "a#b"}, "has no key 'batch'"),
        ({"request_id": 7}, "'request_id' is missing or not a str"),
        ({"request_id": "x" * 201}, "more than 200 characters"),
        ({"v": 2}, "version 2"),
        ({"args": [1]}, "'args' is \\[1\\]; write an object"),
        ({"args": {"grace": 5}}, "the operation 'finish' has no argument 'grace'; it has: none"),
        ({"op": "cancel", "args": {"grace": 601}}, "'grace' of 'cancel' is 601; use a whole number from 0"),
        ({"op": "cancel", "args": {"grace": True}}, "'grace' of 'cancel' is true; use a whole number from 0"),
        ({"op": "pause", "args": {"now": 1}}, "'now' of 'pause' is 1; use true or false"),
        ({"op": "redrive", "args": {"class": "x"}}, "'class' of 'redrive' is \"x\"; use a list of texts"),
        ({"op": "set", "args": {"tolerate": ""}}, "'tolerate' of 'set' is \"\"; use a text"),
        ({"op": "work"}, "'control' is missing"),
    ],
)
def test_an_operation_that_cannot_be_understood_is_poison(body, reason):
    """The reason names the key."""
    with pytest.raises(PoisonMessageError, match=reason):
        decode_ingest(json.dumps({"op": "finish", "batch_id": "a#b"} | body))


def test_an_operation_without_a_batch_is_poison():
    """The reason names the key that is missing."""
    with pytest.raises(PoisonMessageError, match="'batch_id' is missing"):
        decode_ingest('{"op": "finish"}')


def test_a_command_checks_arguments_as_a_message_does():
    """Both give the same sentence."""
    assert argument_problem("cancel", {"grace": 5}) == ""
    assert "use a whole number" in argument_problem("cancel", {"grace": 5.5})
