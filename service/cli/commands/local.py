"""The command `local`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from service.app.serve import ROLES
from service.app.settings import Settings
from service.catalog.folders import ReadMappingFiles
from service.cli import embedded, local
from service.cli.configuration import load_mappings, warn_of_problems
from service.cli.console import (
    print_line,
    run_async,
    stop_on_signals,
)
from service.cli.options import (
    MappingsOption,
    SchemasOption,
    read_settings,
)
from service.cli.service_options import log_as_service, parse_roles
from service.mapping import Catalog

app = typer.Typer()


@app.command(name="local")
def local_(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port of the endpoint; 0: any.")
    ] = 4566,
    roles: Annotated[str, typer.Option("--roles", help="all, none, or some of: " + ",".join(ROLES))] = "all",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep queues, table and bucket in this folder.", show_default=False),
    ] = None,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """Keep an embedded AWS endpoint, all resources and all roles running on this machine."""
    settings = read_settings(mappings=mappings, schemas=schemas)
    chosen = parse_roles(roles)
    log_as_service(settings)
    read_files, edition = load_mappings(settings, splits="splitter" in chosen)
    warn_of_problems(edition)
    run_async(_local(settings, read_files, edition.catalog, chosen, port=port, data=data))


async def _local(
    settings: Settings,
    read_files: ReadMappingFiles,
    catalog: Catalog,
    roles: list[str],
    *,
    port: int,
    data: Path | None,
) -> None:
    stop = stop_on_signals()
    async with local.local_service(settings, read_files, roles, stop, port=port, data_dir=data) as service:
        print_line(_instructions(service, settings, catalog, roles))
        await stop.wait()


def _instructions(service: local.LocalService, settings: Settings, catalog: Catalog, roles: list[str]) -> str:
    """The environment variables for commands in other shells, and examples of commands."""
    first = catalog.names[0] if catalog.names else "NAME"
    queue = f"{service.url}/000000000000/{service.backend.names.queue('ingest')}"
    job = json.dumps({"v": 1, "mapping": first, "source": f"s3://{settings.bucket}/any/key.csv"})
    exports = {
        "AWS_ENDPOINT_URL": service.url,
        "AWS_ACCESS_KEY_ID": embedded.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": embedded.SECRET_KEY,
        "AWS_REGION": embedded.REGION,
        "AWS_DEFAULT_REGION": embedded.REGION,
        "ROWFLEET_BUCKET": settings.bucket,
        "ROWFLEET_TABLE": settings.table,
        "ROWFLEET_PREFIX": settings.prefix,
    }
    lines = [f"export {name}={value}" for name, value in exports.items()]
    lines += [
        "",
        f"# roles: {', '.join(roles) or 'none'}; mappings: {', '.join(catalog.names) or 'none'}",
        f"# drop a file:   aws s3 cp FILE.csv s3://{settings.bucket}/{settings.incoming_prefix}{first}/",
        f"# send a job:    aws sqs send-message --endpoint-url {service.url} --queue-url {queue} \\",
        f"#                  --message-body '{job}'",
        f"# see results:   rowfleet list; aws s3 ls --recursive s3://{settings.results_bucket}/results/",
        "# Ctrl-C or SIGTERM stops",
    ]
    return "\n".join(lines)
