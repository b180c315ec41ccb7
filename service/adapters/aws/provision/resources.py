"""Create or check the resources of a deployment: queues, table, bucket and notification.

Provisioning can be repeated. A resource that differs in a way that cannot be changed in place (another key, a
missing index) raises ConfigError. Nothing is ever deleted or replaced. A check changes nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.adapters.aws.clients import Clients
from service.adapters.aws.provision.access import Access, Finding
from service.adapters.aws.provision.bucket import BucketOptions, provision_bucket
from service.adapters.aws.provision.incoming import provision_incoming
from service.adapters.aws.provision.queues import QueueOptions, provision_queues
from service.adapters.aws.provision.table import provision_table

QUEUES = ("ingest", "rows", "aggregate")


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """Names of the resources of one deployment."""

    bucket: str
    table: str
    prefix: str

    def queue(self, role: str) -> str:
        """`{prefix}-ingest`, `{prefix}-rows` or `{prefix}-aggregate`."""
        return f"{self.prefix}-{role}"

    def dead_letters(self, role: str) -> str:
        """`{prefix}-ingest-dlq`, `{prefix}-rows-dlq` or `{prefix}-aggregate-dlq`."""
        return f"{self.queue(role)}-dlq"


async def provision(
    clients: Clients,
    names: ResourceNames,
    queues: Mapping[str, QueueOptions] | None = None,
    bucket: BucketOptions | None = None,
) -> list[str]:
    """Create missing resources and check existing ones; return a line on each. `queues` is by role.

    Raises ConfigError for a resource that cannot be used as it is.
    """
    access = Access(clients, may_write=True)
    return [
        finding.line for finding in await _inspect(access, names, queues or {}, bucket or BucketOptions())
    ]


async def find_differences(
    clients: Clients,
    names: ResourceNames,
    queues: Mapping[str, QueueOptions] | None = None,
    bucket: BucketOptions | None = None,
) -> list[Finding]:
    """Compare resources with those that `provision` would create, and change nothing. `queues` is by role.

    A resource that is missing hides the differences of those that refer to it.
    """
    access = Access(clients, may_write=False)
    return await _inspect(access, names, queues or {}, bucket or BucketOptions())


async def _inspect(
    access: Access, names: ResourceNames, queues: Mapping[str, QueueOptions], bucket: BucketOptions
) -> list[Finding]:
    findings: list[Finding] = []
    found = {}
    for role in QUEUES:
        found[role], about = await provision_queues(
            access, names.queue(role), names.dead_letters(role), queues.get(role, QueueOptions())
        )
        findings += about
    findings.append(await provision_table(access, names.table))
    exists, about = await provision_bucket(access, names.bucket, bucket)
    findings += about
    ingest = found["ingest"]
    if exists and ingest is not None:
        findings += await provision_incoming(access, names.bucket, ingest, bucket)
    return findings
