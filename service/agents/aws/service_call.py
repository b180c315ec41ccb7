"""One call of a service of AWS, with its parameters as the API names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.agents.aws.client import aws_options
from service.agents.options.calls import shown_payload
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.domain import exact_json
from service.domain.errors import ConfigError
from service.domain.model import Json


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """A service of AWS, where a target calls it. Region and endpoint are "" if they are not known here."""

    service: str
    region: str
    endpoint_url: str


def place_of(service: str, options: ResolvedOptions, context: AgentContext) -> ServicePlace:
    """The place that an agent with these options and this context calls."""
    try:
        aws = aws_options(service, options, context)
    except ConfigError:
        # No region: opening the agent says so. The target's own options are shown at least.
        return ServicePlace(service, options.optional_text("region"), options.optional_text("endpoint_url"))
    return ServicePlace(service, aws.region or "", aws.endpoint_url or "")


@dataclass(frozen=True, slots=True, repr=False)
class ServiceCall:
    """A call of `operation`, as the client names it. `body` is the parameter that holds the input as JSON."""

    place: ServicePlace
    operation: str
    parameters: Mapping[str, Any]
    body: str = ""

    async def send(self, client: Any) -> dict[str, Any]:
        """Make the call. Raises the errors of botocore."""
        response: dict[str, Any] = await getattr(client, self.operation)(**self.parameters)
        return response

    def as_json(self) -> dict[str, Json]:
        """The call to show: the parameter with the input is parsed JSON."""
        parameters = dict(self.parameters)
        if self.body:
            parameters[self.body] = shown_payload(parameters[self.body])
        return {
            "service": self.place.service,
            "operation": "".join(part.title() for part in self.operation.split("_")),
            "region": self.place.region or None,
            "endpoint_url": self.place.endpoint_url or None,
            # floats, which botocore needs, as the texts that are sent
            "parameters": exact_json.loads(exact_json.dumps(parameters)),
        }
