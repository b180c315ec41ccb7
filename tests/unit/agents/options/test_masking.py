"""Masks of what must not be seen in a call that is shown."""

import base64

import pytest

from service.agents.options.masking import HIDDEN, mask_options

ENVIRON = {
    "HOST": "agent.example.org",
    "PORT": "8080",
    "WORD": "canary-of-a-variable",
    "API_KEY": "canary-of-a-key",
    "WITH_USER": "https://bob:canary-of-an-address@h.example.org/v1",
}


def shown(options: dict, *, shows_variables: bool = True) -> dict:
    masked = mask_options(options, environ=ENVIRON, where="target a", shows_variables=shows_variables)
    for canary in ("canary", "bob"):
        assert canary not in str(masked.options.values), "no value is there that a call could send"
    return masked.marks.show(dict(masked.options.values))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"url": "https://${HOST}/x"}, {"url": "https://agent.example.org/x"}),
        ({"url": "https://h/${secret:team/agent#path}"}, {"url": "https://h/${secret:team/agent#path}"}),
        ({"url": "https://h/?key=${WORD}&q=${HOST}"}, {"url": "https://h/?key=${WORD}&q=agent.example.org"}),
        ({"url": "https://${WORD}@h/"}, {"url": "https://${WORD}@h/"}),
        (
            {"url": "https://u:${secret:a/b#c}@h/"},
            {"url": "https://u:${secret:a/b#c}@h/"},
        ),
        ({"url": "https://u:canary@h/"}, {"url": f"https://{HIDDEN}@h/"}),
        ({"url": "${WITH_USER}/x"}, {"url": f"https://{HIDDEN}@h.example.org/v1/x"}),
        ({"url": "${secret:env:URL}/x"}, {"url": "${secret:env:URL}/x"}),
        ({"headers": {"X-Any": "a ${WORD}"}}, {"headers": {"X-Any": "a ${WORD}"}}),
        ({"headers": {"X-Api-Key": "canary"}}, {"headers": {"X-Api-Key": HIDDEN}}),
        ({"headers": {"X-Team": "blue"}}, {"headers": {"X-Team": "blue"}}),
        ({"api_key": "canary"}, {"api_key": HIDDEN}),
        ({"env": {"ANY": "${WORD}", "MODE": "fast"}}, {"env": {"ANY": "${WORD}", "MODE": "fast"}}),
        ({"command": ["x", "--token", "${WORD}"]}, {"command": ["x", "--token", "${WORD}"]}),
        ({"command": ["x", "--host", "${HOST}"]}, {"command": ["x", "--host", "agent.example.org"]}),
        ({"model": "${API_KEY}"}, {"model": "${API_KEY}"}),
        ({"parameters": {"password": "${WORD}", "n": 1}}, {"parameters": {"password": "${WORD}", "n": 1}}),
    ],
)
def test_masks(options, expected):
    """Secrets always; variables in headers, keys, passwords and user parts; credentials in the mapping."""
    assert shown(options) == expected


def test_a_call_of_another_process_shows_references_only():
    """Its variables are not known here, so a value of this machine would be a lie."""
    options = {"url": "http://${HOST}:${PORT}/v1", "model": "${MODEL}"}
    assert shown(options, shows_variables=False) == options


def test_a_reference_for_the_whole_address_can_be_checked_like_an_address():
    """The options of the call hold an address with scheme and host."""
    options = {"url": "${BASE}/x"}
    masked = mask_options(options, environ={}, where="target a", shows_variables=False)
    assert masked.options.text("url").startswith("http://")
    assert masked.marks.show(dict(masked.options.values)) == options


def test_a_reply_that_repeats_a_masked_value():
    """It is replaced in texts, keys and lists, in the form in which HTTP sends a user and a password too."""
    options = {"url": "${WITH_USER}", "headers": {"A": "${WORD}"}, "api_key": "canary-of-the-mapping"}
    masked = mask_options(options, environ=ENVIRON, where="target a", shows_variables=True)
    basic = base64.b64encode(b"bob:canary-of-an-address").decode()
    reply = {
        "canary-of-a-variable": [f"Basic {basic}", "canary-of-an-address", 1],
        "k": "canary-of-the-mapping",
    }
    assert masked.redact(reply) == {"${WORD}": [f"Basic {HIDDEN}", HIDDEN, 1], "k": HIDDEN}
