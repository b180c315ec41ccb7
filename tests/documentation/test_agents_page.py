"""Every example in docs/agents.md loads and opens."""

import json
import os
import re
from pathlib import Path

import pytest

from service.adapters.aws.clients import AwsOptions
from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.agents.registry import AGENTS
from service.agents.wire.reply_bodies import BodyType, parse_reply
from service.domain.errors import AgentRetryableError, RowfleetError
from service.domain.ports import Invocation
from service.mapping import Catalog, RowMapping

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text("utf-8")
FILES = {text.split()[1]: text for text in re.findall(r"```yaml\n(# mappings/.*?)```", PAGE, re.DOTALL)}
NAMES = [Path(name).stem for name in FILES]
ENVIRON = {"AGENT_URL": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": "key", "PATH": os.environ["PATH"]}
AROUND = AgentContext(search_path=str(ROOT), aws=lambda region: AwsOptions(region or "eu-west-1"))

STREAMS = re.findall(
    r"<!-- stream (\S+) -->\n```\n(.*?)```\n<!-- (?:gives -->\n```json\n(.*?)```|fails (.*?) -->)",
    PAGE,
    re.DOTALL,
)


def compiled(name: str) -> RowMapping:
    return Catalog.load(FILES, {}).definition(name).compile()


@pytest.mark.parametrize("name", NAMES)
async def test_an_example_opens(name: str) -> None:
    """The mapping compiles, and its agent opens and closes without a call."""
    target = compiled(name).target
    agent = open_agent(target.invoke, target.options, name=target.name, environ=ENVIRON, context=AROUND)
    await agent.close()
    with pytest.raises(AgentRetryableError, match="closed"):
        await agent.invoke(Invocation("1", {}))


async def test_the_command_runs() -> None:
    """The example for `command` works as it is on the page."""
    mapping = compiled("shout")
    target = mapping.target
    agent = open_agent(target.invoke, target.options, name=target.name, environ=ENVIRON, context=AROUND)
    body = mapping.build_input(["name"], ["ann"])
    reply = await agent.invoke(Invocation("1", body))
    assert mapping.extract(reply.body).values == {"shouted": "ANN"}
    await agent.close()


def test_every_way_has_an_example() -> None:
    """The page has each `invoke`, both presets, a Bedrock model and an AgentCore runtime."""
    targets = [compiled(name).target for name in NAMES]
    assert {target.invoke for target in targets} == set(AGENTS)
    assert {target.options["preset"] for target in targets if "preset" in target.options} == {
        "openai", "anthropic",
    }  # fmt: skip
    keys = {key for target in targets if target.invoke == "bedrock" for key in target.options}
    assert {"model", "agent_runtime"} <= keys


@pytest.mark.parametrize(("media_type", "stream", "reply", "failure"), STREAMS)
def test_an_example_of_a_stream(media_type: str, stream: str, reply: str, failure: str) -> None:
    """It is joined to the reply on the page, or fails with the error on the page."""
    body, type_ = stream.encode(), BodyType.parse(media_type)
    if not failure:
        assert parse_reply(body, type_) == json.loads(reply)
        return
    with pytest.raises(RowfleetError) as raised:
        parse_reply(body, type_)
    assert f"{raised.value.kind}: {raised.value}" == failure


def test_every_example_of_a_stream_is_run() -> None:
    """None is missed because of its form."""
    assert len(STREAMS) == PAGE.count("<!-- stream ") > 0
