"""Registry of the ways to invoke, and the function that opens an agent of any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from service.agents import command, http, python
from service.agents.aws import bedrock, lambda_function, step_functions
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions, resolve
from service.agents.with_secrets import AgentWithSecrets
from service.domain.errors import ConfigError
from service.domain.model import Json
from service.domain.ports import Agent

AGENTS: Mapping[str, Callable[[ResolvedOptions, AgentContext], Agent]] = MappingProxyType(
    {
        "http": http.open_http,
        "lambda": lambda_function.open_lambda,
        "step_functions": step_functions.open_step_functions,
        "bedrock": bedrock.open_bedrock,
        "command": command.open_command,
        "python": python.open_python,
    }
)
"""`invoke` of a mapping's target -> the function that opens its agent."""


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
    opener = AGENTS.get(invoke)
    if opener is None:
        supported = ", ".join(AGENTS)
        raise ConfigError(
            f"target {name}: invoke: {invoke} is not supported by this version ({supported} are)"
        )
    context = replace(context or AgentContext(), environ=environ)
    resolved = resolve(options, environ=environ, where=f"target {name}")
    if resolved.secrets:
        return AgentWithSecrets(opener, resolved, context)
    return opener(resolved, context)
