"""Registry of the ways to invoke, and the function that opens an agent of any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from types import MappingProxyType
from typing import Any

from service.agents.options.calls import CallBuilder
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions, resolve
from service.agents.with_masks import with_masks
from service.domain.errors import ConfigError
from service.domain.model import Json
from service.domain.ports import Agent

Opener = Callable[[ResolvedOptions, AgentContext], Agent]

AGENTS: Mapping[str, str] = MappingProxyType(
    {
        "http": "http.open_http",
        "lambda": "aws.lambda_function.open_lambda",
        "step_functions": "aws.step_functions.open_step_functions",
        "bedrock": "aws.bedrock.open_bedrock",
        "command": "command.open_command",
        "python": "python.open_python",
    }
)
"""`invoke` of a mapping's target -> module and function that open its agent, below `service.agents`."""


CALLS: Mapping[str, str] = MappingProxyType(
    {
        "http": "http.http_calls",
        "lambda": "aws.lambda_function.lambda_calls",
        "step_functions": "aws.step_functions.step_functions_calls",
        "bedrock": "aws.bedrock.bedrock_calls",
        "command": "command.command_calls",
        "python": "python.python_calls",
    }
)
"""`invoke` -> module and function that makes the builder of its calls, which its agent uses too."""


def _function(places: Mapping[str, str], invoke: str, name: str) -> Any:
    """The function for this `invoke` in a table of places. Raises ConfigError if there is none."""
    if (place := places.get(invoke)) is None:
        raise ConfigError(
            f"target {name}: invoke: {invoke} is not supported by this version ({', '.join(places)} are)"
        )
    module, _, function = place.rpartition(".")
    # Imported when a mapping needs it: those of AWS take half a second.
    return getattr(import_module(f"service.agents.{module}"), function)


def open_calls(invoke: str, options: ResolvedOptions, context: AgentContext, *, name: str) -> CallBuilder:
    """The builder of the calls of a target; `name` is the target's, for errors. Raises ConfigError."""
    builder: CallBuilder = _function(CALLS, invoke, name)(options, context)
    return builder


def open_agent(
    invoke: str,
    options: Mapping[str, Json],
    *,
    name: str,
    environ: Mapping[str, str],
    context: AgentContext | None = None,
) -> Agent:
    """Open the agent that a target describes. It connects at its first call.

    `name` is the target's, for errors. Raises ConfigError if `invoke` is not supported, an option is
    unknown or malformed, a variable of a reference is not in `environ`, or a function cannot be imported.
    If the options refer to secrets, errors that depend on their values are raised by the first call.
    """
    opener: Opener = _function(AGENTS, invoke, name)
    context = replace(context or AgentContext(), environ=environ)
    resolved = resolve(options, environ=environ, where=f"target {name}")
    if resolved.secrets:
        # Imported where there are any, for the same reason.
        from service.agents.with_secrets import AgentWithSecrets  # noqa: PLC0415

        return with_masks(AgentWithSecrets(opener, resolved, context), options, environ, resolved.where)
    return with_masks(opener(resolved, context), options, environ, resolved.where)
