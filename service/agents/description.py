"""Description of calls: what would be sent, or was sent, for an input, without a call.

The calls are built by the code that builds those of workers, from options with their secrets masked
(`options/masking.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from service.agents.options.calls import CallBuilder
from service.agents.options.context import AgentContext
from service.agents.options.masking import MaskedOptions, mask_options
from service.agents.options.substitution import resolve
from service.agents.registry import open_calls
from service.domain.errors import AgentRejectedError, AgentRetryableError, ConfigError
from service.domain.model import Json
from service.domain.ports import Invocation


@dataclass(frozen=True, slots=True)
class CallDescriber:
    """Describes the calls of one target."""

    invoke: str
    builder: CallBuilder
    masked: MaskedOptions

    async def describe(self, invocation: Invocation) -> dict[str, Json]:
        """The call for an input: `invoke`, and what that way of invoking sends.

        Raises AgentRetryableError and AgentRejectedError, as the call would before anything is sent.
        """
        try:
            built = await self.builder.call(invocation)
        except (AgentRetryableError, AgentRejectedError) as error:
            raise error.reworded(str(self.masked.marks.show(str(error)))) from None
        shown = self.masked.marks.show(built.as_json())
        return {"invoke": self.invoke, **shown}

    def redact(self, value: Json) -> Json:
        """A reply of the target, with what it repeats masked."""
        return self.masked.redact(value)


def open_describer(
    invoke: str,
    options: Mapping[str, Json],
    *,
    name: str,
    environ: Mapping[str, str],
    context: AgentContext,
    shows_variables: bool = True,
) -> CallDescriber:
    """The describer of a target; the arguments are those of `open_agent`. Raises ConfigError as that does.

    Unless `shows_variables`, references are shown as they are written, and no variable has to be set.
    """
    where = f"target {name}"
    if shows_variables:
        resolve(options, environ=environ, where=where)  # a variable that is missing is reported as by `run`
    masked = mask_options(options, environ=environ, where=where, shows_variables=shows_variables)
    # No directory of this machine, unless the call would be made here.
    search_path = context.search_path if shows_variables else ""
    context = replace(context, environ=environ if shows_variables else {}, search_path=search_path)
    try:
        builder = open_calls(invoke, masked.options, context, name=name)
    except ConfigError as error:
        raise ConfigError(str(masked.marks.show(str(error)))) from None
    return CallDescriber(invoke, builder, masked)
