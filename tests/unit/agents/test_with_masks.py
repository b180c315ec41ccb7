"""What an agent repeats of its options is masked, in replies and errors."""

import asyncio
import base64

import pytest

from service.agents.with_masks import AgentWithMasks, with_masks
from service.domain.errors import AgentRejectedError, AgentUnavailableError
from service.domain.ports import Invocation, Reply
from service.domain.redaction import redacted

ENVIRON = {"TOKEN": "canary-of-a-token", "TENANT": "Acme Limited", "REGION": "eu", "CODE": "k-12345"}


class EchoAgent:
    """Answers with what it was given; an exception is raised. Notes that it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answer with the input."""
        if isinstance(invocation.body, Exception):
            raise invocation.body
        return Reply(invocation.body, 7, {"a": "b"})

    async def close(self) -> None:
        """Note it."""
        self.is_closed = True


def agent(options: dict) -> AgentWithMasks:
    masked = with_masks(EchoAgent(), options, ENVIRON, "target a")
    assert isinstance(masked, AgentWithMasks)
    return masked


def invoke(agent: AgentWithMasks, body: object) -> Reply:
    return asyncio.run(agent.invoke(Invocation("1", body)))


@pytest.mark.parametrize(
    ("options", "said", "shown"),
    [
        ({"headers": {"Authorization": "Bearer ${TOKEN}"}}, "canary-of-a-token", "${TOKEN}"),
        ({"headers": {"X-Any": "${TOKEN}"}}, "canary-of-a-token", "${TOKEN}"),
        ({"url": "https://bob:canary-pass@h/"}, "canary-pass", "***"),
        (
            {"url": "https://bob:${TOKEN}@h/"},
            base64.b64encode(b"bob:canary-of-a-token").decode(),
            "https://bob:${TOKEN}",
        ),
        ({"api_key": "canary-literal"}, "canary-literal", "***"),
    ],
)
def test_credentials_are_masked_before_the_mapping_sees_them(options, said, shown):
    """In texts and keys, however deep; what has another type stays."""
    reply = invoke(agent(options), {"a": [f"you said {said}", 1, None, {said: 1.5}]})
    mask = shown.rpartition("/")[2].partition("@")[0]
    assert reply.body == {"a": [f"you said {mask}", 1, None, {mask: 1.5}]}
    assert (reply.size, reply.headers) == (7, {"a": "b"})


def test_the_value_of_another_header_is_masked_where_the_reply_is_kept():
    """It may be a word of the data, which the mapping has to see."""
    reply = invoke(agent({"headers": {"X-Tenant": "${TENANT}"}}), {"company": "Acme Limited"})
    assert reply.body == {"company": "Acme Limited"}
    assert redacted(reply.body, reply.masks) == {"company": "${TENANT}"}


def test_short_values_are_masked_in_errors_only():
    """In a reply they may be a part of any word."""
    one = agent({"headers": {"X-Region": "${REGION}", "X-Code": "${CODE}"}})
    reply = invoke(one, "europe, k-12345")
    assert (reply.body, redacted(reply.body, reply.masks)) == ("europe, k-12345", "europe, k-12345")
    with pytest.raises(AgentRejectedError, match=r"^no \$\{CODE\} in eu$"):
        invoke(one, AgentRejectedError("no k-12345 in eu"))


@pytest.mark.parametrize("kind", [AgentRejectedError, AgentUnavailableError])
def test_errors_are_masked(kind):
    """So are the events of a stream that states one."""
    error = kind("refused Acme Limited, canary-of-a-token")
    error.stated_in = [{"error": "canary-of-a-token"}]
    one = agent({"headers": {"X-Tenant": "${TENANT}", "Authorization": "${TOKEN}"}})
    with pytest.raises(kind, match=r"refused \$\{TENANT\}, \$\{TOKEN\}$") as caught:
        invoke(one, error)
    assert caught.value.stated_in == [{"error": "${TOKEN}"}]


def test_an_agent_without_such_options_stays_as_it_is():
    """An address is none of them."""
    plain = EchoAgent()
    assert with_masks(plain, {"url": "https://${TENANT}/", "headers": {"X-A": "b"}}, ENVIRON, "a") is plain
    masked = agent({"api_key": "${TOKEN}"})
    asyncio.run(masked.close())
    assert masked._agent.is_closed
