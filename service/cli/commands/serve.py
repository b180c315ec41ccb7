"""Commands of a deployed service: `serve`, `setup`, `healthcheck`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.adapters.aws.clients import open_clients
from service.adapters.aws.provision.access import Finding
from service.app import healthcheck as app_healthcheck
from service.app.aws import backend as aws_backend
from service.app.aws.backend import aws_options, backend_on
from service.app.serve import ROLES, serve
from service.app.settings import Settings
from service.catalog.files import compile_catalog
from service.catalog.folders import MappingFolders
from service.cli.configuration import is_in_bucket, read_mapping_files
from service.cli.console import (
    EXIT_DIFFERENCES,
    EXIT_OK,
    exit_with,
    print_error,
    print_line,
    run_async,
    stop_on_signals,
)
from service.cli.garbage import freeze_modules
from service.cli.options import (
    EndpointOption,
    MappingsOption,
    RegionOption,
    SchemasOption,
    log_as_command,
    read_settings,
)
from service.cli.service_options import log_as_service, parse_roles, service_metrics
from service.domain.errors import UsageError
from service.runtime.metrics import count_calls

app = typer.Typer()


@app.command(name="serve")
def serve_(
    roles: Annotated[str, typer.Option("--roles", help="all, or some of: " + ",".join(ROLES))] = "all",
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Be a service process, configured by the environment; SIGTERM drains it."""
    settings = read_settings(mappings=mappings, schemas=schemas, endpoint_url=endpoint_url, region=region)
    chosen = parse_roles(roles)
    if not chosen:
        raise UsageError("--roles none: a service process plays at least one role")
    log_as_service(settings)
    if "splitter" in chosen and not is_in_bucket(settings):
        # files of the image must compile now; files in a bucket can be corrected while the service runs
        compile_catalog(read_mapping_files(settings))
    run_async(_serve(settings, chosen))


async def _serve(settings: Settings, roles: list[str]) -> None:
    stop = stop_on_signals()
    metrics, options = service_metrics(settings, roles), aws_options(settings)
    async with open_clients(options, count_calls(metrics)) as clients:
        backend = backend_on(clients, settings, metrics)
        folders = MappingFolders(settings.mappings, settings.schemas, backend.ports.objects)
        freeze_modules()
        await serve(backend, settings, folders.read, roles, stop)


@app.command(
    epilog="Exit codes: 0 done, 1 --check found differences, 2 bad usage or configuration, 130 interrupted."
)
def setup(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; a line on each resource, and what differs.")
    ] = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Create, or check, queues, table, bucket and notification on any endpoint.

    Resources that Terraform made are only checked (--check), with the settings that its module puts out.
    """
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    log_as_command(settings)
    if check:
        exit_with(_check(settings))

    async def work() -> list[str]:
        async with open_clients(aws_options(settings)) as clients:
            return await aws_backend.setup(clients, settings)

    for line in run_async(work()):
        print_line(line)


def _check(settings: Settings) -> int:
    """Print a line on each resource to stdout, and the number of differences to stderr."""

    async def work() -> list[Finding]:
        async with open_clients(aws_options(settings)) as clients:
            return await aws_backend.check_setup(clients, settings)

    findings = run_async(work())
    for finding in findings:
        print_line(f"DIFFERS {finding.line}" if finding.differs else finding.line)
    differing = sum(finding.differs for finding in findings)
    if not differing:
        return EXIT_OK
    print_error(
        f"{differing} of {len(findings)} differ from the settings: change the settings, or the resources by "
        "what made them (`terraform apply`, `rowfleet setup`)"
    )
    return EXIT_DIFFERENCES


@app.command(epilog="Exit codes: 0 alive, 1 not.")
def healthcheck() -> None:
    """Exit 0 if the service process on this machine is alive (/livez), 1 if not. Not about being ready."""
    exit_with(app_healthcheck.main())
