"""HTTP requests: URLs with values of the input, queries, and methods without a body."""

import pytest

from service.agents.options.substitution import resolve
from service.agents.wire.requests import http_request
from service.domain.errors import AgentRejectedError, ConfigError


def render(body: object, **options: object) -> tuple[str, bytes | None]:
    request = http_request(resolve(options, environ={"BASE": "http://h/v1"}, where="target a"))
    url, payload = request.render(body)
    return str(url), payload


@pytest.mark.parametrize(
    ("url", "fields", "address"),
    [
        ("${BASE}/x/{{ id }}", {"id": "SW1A 2AA"}, "http://h/v1/x/SW1A%202AA"),
        ("http://h/{{ id }}", {"id": "a/b?c#d&e"}, "http://h/a%2Fb%3Fc%23d%26e"),
        ("http://h/{{ id }}", {"id": "${BASE}"}, "http://h/%24%7BBASE%7D"),
        ("http://h/{{ id }}", {"id": "%2e%2e"}, "http://h/%252e%252e"),
        ("http://h/{{ id }}", {"id": "é"}, "http://h/%C3%A9"),
        ("http://h/{{ id | lower }}", {"id": "ABC"}, "http://h/abc"),
        ("http://h/x?q={{ q }}", {"q": "a&b=c"}, "http://h/x?q=a%26b%3Dc"),
        ("http://h/x?q={{ q }}", {"q": ""}, "http://h/x?q="),
        ("http://h/{{ id }}/", {"id": 7}, "http://h/7/"),
        ("http://h?q={{ q }}", {"q": "1"}, "http://h/?q=1"),
    ],
)
def test_a_value_stays_one_segment_or_parameter(url: str, fields: dict, address: str) -> None:
    """Its characters are percent-encoded, and a `${…}` in it is no reference."""
    assert render(fields, url=url)[0] == address


@pytest.mark.parametrize("value", ["", ".", "..", None])
def test_a_value_that_would_change_the_path_rejects_the_row(value: object) -> None:
    """DELETE /items/ must not be sent instead of DELETE /items/7."""
    for url in ("http://h/items/{{ id }}", "http://h/{{ id }}/x", "http://h/{{ id }}/"):
        with pytest.raises(AgentRejectedError, match="would change the path"):
            render({"id": value}, url=url, method="DELETE")


def test_a_missing_field_rejects_the_row() -> None:
    """So does an input that is no object."""
    with pytest.raises(AgentRejectedError, match="'id' is undefined"):
        render({}, url="http://h/{{ id }}")
    with pytest.raises(AgentRejectedError, match="'id' is undefined"):
        render(["id"], url="http://h/{{ id }}")


def test_a_method_without_a_body_sends_unused_fields_as_query() -> None:
    """Fields that the URL does not use are added to its query."""
    fields = {"id": 7, "q": "a b", "n": 1.5, "on": True, "list": [1], "none": None, "empty": ""}
    address, payload = render(fields, url="http://h/{{ id }}?v=1", method="GET")
    assert address == "http://h/7?v=1&q=a+b&n=1.5&on=true&list=%5B1%5D"
    assert payload is None
    assert render({"a": "1"}, url="http://h/x", method="delete")[0] == "http://h/x?a=1"
    assert render({}, url="http://h/x", method="GET") == ("http://h/x", None)
    with pytest.raises(AgentRejectedError, match="has no body"):
        render("text", url="http://h/", method="GET")


def test_a_body_contains_fields_used_in_the_url() -> None:
    """POST sends the whole input."""
    assert render({"id": 7}, url="http://h/{{ id }}") == ("http://h/7", b'{"id":7}')


@pytest.mark.parametrize(
    "url", ["http://{{ a }}/", "{{ a }}", "http://h{{ a }}/", "${BASE}{{ a }}", "http://h/{{ a"]
)
def test_a_row_cannot_choose_the_host(url: str) -> None:
    """A template in the host, or a malformed one, raises ConfigError when the agent is opened."""
    with pytest.raises(ConfigError, match="no template of an address"):
        http_request(resolve({"url": url}, environ={"BASE": "http://h"}, where="target a"))
