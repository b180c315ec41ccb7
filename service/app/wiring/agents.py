"""Agents and rate limits of mappings, opened with the settings of this process."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from service.agents.description import CallDescriber, open_describer
from service.agents.options.context import AgentContext, Store, no_store
from service.agents.registry import open_agent
from service.app.settings import Settings, user_environment
from service.batch.role_ports import Ports
from service.domain.ports import Agent, Objects, StoredFile
from service.mapping import RowMapping
from service.runtime.byte_budget import ByteBudget
from service.worker.attempts import GRACE_S
from service.worker.rate_limit.limiter import Limiter

if TYPE_CHECKING:
    from service.adapters.aws.clients import AwsOptions


def agent_opener(
    settings: Settings, environ: Mapping[str, str] | None = None, objects: Objects | None = None
) -> Callable[[RowMapping], Agent]:
    """Return a function that opens the agent of a mapping. It raises ConfigError if the agent cannot be used.

    Without `objects` an agent cannot store large inputs.
    """
    variables = user_environment() if environ is None else environ
    reply_budget = ByteBudget(settings.http.reply_budget_bytes)
    store = _input_store(objects, settings.results_bucket) if objects else no_store

    def open_(mapping: RowMapping) -> Agent:
        return open_agent(
            mapping.target.invoke,
            mapping.target.options,
            name=mapping.target.name,
            environ=variables,
            context=_context(settings, mapping, reply_budget, store),
        )

    return open_


def call_describer(
    settings: Settings,
    mapping: RowMapping,
    environ: Mapping[str, str] | None = None,
    *,
    shows_variables: bool = True,
) -> CallDescriber:
    """The describer of a mapping's calls, with secrets masked. Nothing is called, stored or imported.

    Unless `shows_variables`, references to variables are shown as they are written: for calls that another
    process made. Raises ConfigError.
    """
    store = _unwritten(settings.results_bucket)
    context = _context(settings, mapping, ByteBudget(settings.http.reply_budget_bytes), store)
    return open_describer(
        mapping.target.invoke,
        mapping.target.options,
        name=mapping.target.name,
        environ=user_environment() if environ is None else environ,
        context=context,
        shows_variables=shows_variables,
    )


def _context(settings: Settings, mapping: RowMapping, reply_budget: ByteBudget, store: Store) -> AgentContext:
    return AgentContext(
        max_concurrency=mapping.concurrency(settings.worker.max_inflight_rows),
        proxy=settings.http.proxy,
        max_reply_bytes=settings.http.max_reply_bytes,
        reply_budget=reply_budget,
        search_path=str(Path.cwd()),
        secret_ttl_s=settings.secrets.ttl_s,
        aws=options_on_demand(settings),
        store=store,
    )


async def check_agent(settings: Settings, mapping: RowMapping) -> None:
    """Open and close the agent once, so that a missing variable is reported before rows meet it.

    Raises ConfigError if it cannot be used.
    """
    await agent_opener(settings)(mapping).close()


def options_on_demand(settings: Settings) -> Callable[[str], AwsOptions]:
    """Return a function that returns the options of AWS in a region; "" for that of the settings.

    It raises ConfigError without a region.
    """

    def options(region: str = "") -> AwsOptions:
        # Imported when an agent or a secret needs AWS: it takes half a second, and most agents do not.
        from service.app.aws.backend import aws_options  # noqa: PLC0415

        return aws_options(settings, region)

    return options


def _input_store(objects: Objects, bucket: str) -> Store:
    """Return a function that stores a large input in the bucket, which holds large outcomes as well."""

    async def put(key: str, body: bytes) -> StoredFile:
        return await objects.put(bucket, key, body, content_type="application/json")

    return put


def _unwritten(bucket: str) -> Store:
    """Return a function that says where a large input would be stored, and stores none."""

    async def put(key: str, body: bytes) -> StoredFile:
        return StoredFile(bucket, key, len(body), hashlib.sha256(body).hexdigest())

    return put


def limiter_opener(ports: Ports, name: str) -> Callable[[RowMapping], Limiter | None]:
    """Return the opener of this worker's side of a mapping's fleet-wide rate limit; None without a limit."""

    def open_(mapping: RowMapping) -> Limiter | None:
        if mapping.rate_limit is None:
            return None
        return Limiter(
            ports.table,
            mapping.rate_limit,
            owner=unique_owner(name),
            clock=ports.clock,
            metrics=ports.metrics,
            call_s=mapping.execution.timeout_s + GRACE_S,
            max_tokens=mapping.target.max_tokens,
        )

    return open_


def unique_owner(name: str) -> str:
    """A name for a lease or share that no other holder ever has."""
    return f"{name}/{uuid.uuid4().hex[:8]}"
