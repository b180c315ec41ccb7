"""Bodies of requests and responses."""

from __future__ import annotations

import json

import pytest
from botocore.parsers import ResponseParserError

from service.adapters.aws.direct.bodies import request_body, response_values


@pytest.mark.parametrize("value", ["é\u2028", "\ud83d", 2**70, {"a": [None, True, 1.5]}])
def test_a_body_is_the_json_of_its_parameters(value: object) -> None:
    """Any value of JSON, also those that orjson refuses."""
    assert json.loads(request_body({"value": value}, ())) == {"value": value}


def test_an_absent_token_is_made_once() -> None:
    """The parameters keep it, so that all attempts have it; a given token stays."""
    parameters: dict[str, object] = {}
    body = request_body(parameters, ("Token",))
    assert json.loads(body) == parameters
    assert request_body(parameters, ("Token",)) == body
    assert json.loads(request_body({"Token": "given"}, ("Token",))) == {"Token": "given"}


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"text"', b"1", b'{"status": 1}', b"\xff"])
def test_other_bytes_are_no_response(body: bytes) -> None:
    """A proxy or another service answers."""
    shape = type("Shape", (), {"members": {"Items": None}})
    with pytest.raises(ResponseParserError, match="its reply is"):
        response_values(body, shape)


@pytest.mark.parametrize(
    ("body", "values"), [(b"", {}), (b"{}", {}), (b'{"Items": 1, "New": 2}', {"Items": 1, "New": 2})]
)
def test_members_that_are_new_are_kept(body: bytes, values: dict[str, int]) -> None:
    """A service may answer with more than the description of its version."""
    assert response_values(body, type("Shape", (), {"members": {"Items": None}})) == values
