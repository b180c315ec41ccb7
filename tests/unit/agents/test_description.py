"""Descriptions of calls. That they agree with what is sent is a contract of all agents."""

from dataclasses import replace

import pytest

from service.adapters.aws.clients import AwsOptions
from service.agents.description import open_describer
from service.agents.options.context import AgentContext
from service.domain.errors import AgentRejectedError, ConfigError
from service.domain.ports import Invocation, StoredFile

CONTEXT = AgentContext(search_path="/here", aws=lambda region: AwsOptions(region or "eu-west-1", None))


def describer(invoke: str, options: dict, *, shows_variables: bool = True, **environ: str):
    return open_describer(
        invoke, options, name="a", environ=environ, context=CONTEXT, shows_variables=shows_variables
    )


async def test_a_reference_to_a_large_input():
    """It is the one that the agent would get; the context decides if anything is stored."""

    async def store(key: str, body: bytes) -> StoredFile:
        return StoredFile("results", key, len(body), "digest")

    opened = open_describer(
        "lambda",
        {"function": "f", "large_input": "reference"},
        name="a", environ={}, context=replace(CONTEXT, store=store),
    )  # fmt: skip
    call = await opened.describe(Invocation("b/1/1", {"text": "x" * 7_000_000}))
    reference = call["parameters"]["Payload"]["input_s3"]
    assert (reference["bucket"], reference["bytes"]) == ("results", 7_000_011)


async def test_an_input_that_would_not_be_sent():
    """The error is that of the call."""
    with pytest.raises(AgentRejectedError, match="Lambda takes 6,291,456"):
        await describer("lambda", {"function": "f"}).describe(Invocation("b/1/1", "x" * 7_000_000))


def test_a_variable_that_is_missing_is_reported_as_by_a_run():
    """But not for the call of another process, which had it."""
    options = {"command": ["x", "${NOWHERE}"]}
    with pytest.raises(ConfigError, match="environment variable NOWHERE is not set"):
        describer("command", options)
    describer("command", options, shows_variables=False)


async def test_the_call_of_another_process_names_no_place_of_this_machine():
    """Neither a directory nor a region that only this process has."""
    call = await describer("command", {"command": ["x"]}, shows_variables=False).describe(Invocation("i", 1))
    assert call == {
        "invoke": "command", "command": ["x"], "directory": None, "env": {"INVOCATION_ID": "i"}, "stdin": 1,
    }  # fmt: skip
    here = await describer("command", {"command": ["x"]}).describe(Invocation("i", 1))
    assert here["directory"] == "/here"


def test_the_text_of_an_error_shows_masks():
    """An option that cannot be checked behind its mask is named as it is written."""
    with pytest.raises(ConfigError, match=r"large_input '\$\{secret:env:W\}' is none of"):
        describer("lambda", {"function": "f", "large_input": "${secret:env:W}"})
