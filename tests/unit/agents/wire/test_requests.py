"""Requests over HTTP: addresses with values of the row in them, queries, and methods without a body."""

import pytest

from service.agents.options.substitution import resolve
from service.agents.wire.requests import http_request
from service.domain.errors import AgentRejectedError, ConfigError


def filled(body: object, **options: object) -> tuple[str, bytes | None]:
    made = http_request(resolve(options, environ={"BASE": "http://h/v1"}, where="target a"))
    url, payload = made.render(body)
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
def test_values_stay_where_the_mapping_puts_them(url: str, fields: dict, address: str) -> None:
    """Whatever they hold, they are one segment or one parameter, and no reference is read in them."""
    assert filled(fields, url=url)[0] == address


@pytest.mark.parametrize("value", ["", ".", "..", None])
def test_a_value_that_would_change_the_path_rejects_the_row(value: object) -> None:
    """DELETE /items/ is another thing than DELETE /items/7."""
    for url in ("http://h/items/{{ id }}", "http://h/{{ id }}/x", "http://h/{{ id }}/"):
        with pytest.raises(AgentRejectedError, match="would change the path"):
            filled({"id": value}, url=url, method="DELETE")


def test_a_field_that_is_not_there_rejects_the_row() -> None:
    """In words; so does an input that has no fields."""
    with pytest.raises(AgentRejectedError, match="'id' is undefined"):
        filled({}, url="http://h/{{ id }}")
    with pytest.raises(AgentRejectedError, match="'id' is undefined"):
        filled(["id"], url="http://h/{{ id }}")


def test_a_method_without_a_body_sends_the_other_fields_as_a_query() -> None:
    """Nothing of the input is lost: what the address does not take follows it."""
    fields = {"id": 7, "q": "a b", "n": 1.5, "on": True, "list": [1], "none": None, "empty": ""}
    address, payload = filled(fields, url="http://h/{{ id }}?v=1", method="GET")
    assert address == "http://h/7?v=1&q=a+b&n=1.5&on=true&list=%5B1%5D"
    assert payload is None
    assert filled({"a": "1"}, url="http://h/x", method="delete")[0] == "http://h/x?a=1"
    assert filled({}, url="http://h/x", method="GET") == ("http://h/x", None)
    with pytest.raises(AgentRejectedError, match="has no body"):
        filled("text", url="http://h/", method="GET")


def test_a_body_keeps_the_fields_that_the_address_takes() -> None:
    """POST sends the input as it is."""
    assert filled({"id": 7}, url="http://h/{{ id }}") == ("http://h/7", b'{"id":7}')


@pytest.mark.parametrize(
    "url", ["http://{{ a }}/", "{{ a }}", "http://h{{ a }}/", "${BASE}{{ a }}", "http://h/{{ a"]
)
def test_a_row_does_not_choose_the_host(url: str) -> None:
    """Nor is half a template taken; both are said before a row is spent."""
    with pytest.raises(ConfigError, match="no template of an address"):
        http_request(resolve({"url": url}, environ={"BASE": "http://h"}, where="target a"))
