"""The command `scaler`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from service.adapters.aws.clients import AwsOptions
from service.app.aws.backend import aws_options
from service.app.aws.lambda_runtime import ADDRESS, RuntimeApi, serve_invocations
from service.app.aws.scaling import look_json, open_scaler
from service.app.settings import Settings
from service.cli.console import COMMAND_CODES, out, print_json, run_async
from service.cli.options import EndpointOption, JsonOption, RegionOption, log_as_command, read_settings
from service.cli.service_options import log_as_service, service_metrics
from service.runtime.metrics import Metrics
from service.scaler.scaler import Look

app = typer.Typer()


@app.command(epilog=COMMAND_CODES)
def scaler(
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Decide and print, but change nothing.")
    ] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Set the number of tasks of each service by the work there is, once, and say why.

    As a Lambda function it does so at each invocation.
    """
    if address := os.environ.get(ADDRESS):
        _serve_lambda(RuntimeApi(address))
        return
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    log_as_command(settings)

    async def work() -> Look:
        async with open_scaler(settings, aws_options(settings), Metrics()) as opened:
            return await opened.look(is_dry_run=is_dry_run)

    look = run_async(work())
    if as_json:
        print_json(look_json(look))
    else:
        _show(look)


def _serve_lambda(api: RuntimeApi) -> None:
    """Look at every invocation. A process that cannot begin reports why, and ends."""
    try:
        settings = read_settings()
        log_as_service(settings)
        options = aws_options(settings)
    except Exception as error:
        api.fail_start(error)
        raise
    run_async(_serve(api, settings, options))


async def _serve(api: RuntimeApi, settings: Settings, options: AwsOptions) -> None:
    is_open = False
    try:
        async with open_scaler(settings, options, service_metrics(settings, ["scaler"])) as opened:
            is_open = True

            async def handle(_event: Any) -> Any:
                return look_json(await opened.look())

            await serve_invocations(api, handle)
    except Exception as error:
        if not is_open:
            api.fail_start(error)
        raise


def _show(look: Look) -> None:
    """Print a look for people: each service, and below it the reasons."""
    for name, each in look.decision.services.items():
        tasks = each.tasks
        before = f"{tasks.desired} -> " if each.is_change else "still "
        _print(
            f"{name}: {before}{each.desired} tasks ({tasks.running} running; work for {each.demand.tasks}; "
            f"at least {each.bounds.minimum}, at most {each.bounds.maximum})"
        )
        for reason in each.demand.reasons or ("nothing is to be done",):
            _print(f"  {reason}")
    if look.reason:
        _print(f"nothing was changed: {look.reason}")


def _print(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
