"""Wrapper of an agent whose options hold credentials: what the agent repeats of them is masked.

A value that is a credential by its name is masked in replies before the mapping sees them. The value of any
other variable in headers or in `env` may be a word of the data, so it is masked only where a reply is kept.
Errors have neither. Values of `${secret:…}` are masked by `AgentWithSecrets`, which knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from service.agents.options.masking import mask_options
from service.domain.errors import AgentRejectedError, AgentRetryableError
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.domain.redaction import Redactions, for_replies, redacted


class AgentWithMasks:
    """An agent whose errors and replies have masks in the place of `hidden` values and of `credentials`."""

    def __init__(self, agent: Agent, hidden: Redactions, credentials: Redactions) -> None:
        self._agent = agent
        self._hidden = hidden
        self._credentials = for_replies(credentials)
        self._masks = for_replies(hidden)

    async def invoke(self, invocation: Invocation) -> Reply:
        """Invoke the agent."""
        try:
            reply = await self._agent.invoke(invocation)
        except (AgentRetryableError, AgentRejectedError) as error:
            masked = error.reworded(str(redacted(str(error), self._hidden)))
            masked.stated_in = redacted(error.stated_in, self._masks)
            raise masked from None
        return replace(reply, body=redacted(reply.body, self._credentials), masks=self._masks)

    async def close(self) -> None:
        """Close the agent."""
        await self._agent.close()


def with_masks(agent: Agent, options: Mapping[str, Json], environ: Mapping[str, str], where: str) -> Agent:
    """The agent, with masks if its options hold values that must not be seen."""
    marks = mask_options(options, environ=environ, where=where, shows_variables=True).marks
    hidden = marks.redactions
    return AgentWithMasks(agent, hidden, marks.credentials) if hidden else agent
