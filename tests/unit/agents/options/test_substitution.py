"""Substitution of references in options, and redaction of their values."""

import base64

import pytest

from service.agents.options.substitution import resolve

NAME = "pa/ss \"w'rd"


def test_every_form_of_a_variable_stays_redacted_beside_a_secret() -> None:
    """As it is, in JSON and in a URL, also after the secrets are put in."""
    options = {"url": "http://h/${PASSWORD}", "headers": {"X": "${secret:env:KEY}"}}
    resolved = resolve(options, environ={"PASSWORD": NAME}, where="target a").with_secrets(
        {"env:KEY": "k3y-k3y-k3y"}
    )
    for form in (NAME, "pa/ss \\\"w'rd", "pa%2Fss%20%22w%27rd"):
        assert resolved.redact(f"<{form}>") == "<${PASSWORD}>"
    assert resolved.redact("k3y-k3y-k3y") == "${secret:env:KEY}"


def test_a_reference_inside_the_value_of_a_variable_is_text() -> None:
    """Beside a secret of the mapping it is neither looked up nor an error."""
    options = {"url": "http://h/${PATH}", "headers": {"X": "${secret:env:KEY}"}}
    resolved = resolve(options, environ={"PATH": "${secret:other}"}, where="target a")
    assert resolved.secrets == ("env:KEY",)
    values = resolved.with_secrets({"env:KEY": "k3y"}).values
    assert values == {"url": "http://h/${secret:other}", "headers": {"X": "k3y"}}


@pytest.mark.parametrize("url", ["https://bob:${PASSWORD}@h/", "https://bob:${secret:env:P}@h/"])
def test_a_user_of_an_address_is_redacted_in_the_form_that_http_sends(url: str) -> None:
    """Percent signs are decoded before it is written in Base64."""
    resolved = resolve({"url": url}, environ={"PASSWORD": "p%40ss-word"}, where="target a")
    resolved = resolved.with_secrets({"env:P": "p%40ss-word"})
    basic = base64.b64encode(b"bob:p@ss-word").decode()
    assert resolved.redact(f"Basic {basic}") == "Basic ***"
