"""The command `submit`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.app.settings import Settings
from service.app.submit import SubmitRequest, check_request, submit
from service.app.wiring.limits import reserved_places
from service.cli.batches.following import follow_to_end
from service.cli.batches.places import Place, open_aws, run_on
from service.cli.console import (
    BATCH_CODES,
    EXIT_OK,
    err,
    exit_with,
    print_json,
    print_line,
)
from service.cli.options import (
    ApproveByOption,
    ApproveIfOption,
    BudgetTokensOption,
    BudgetUsdOption,
    DeadlineOption,
    DelimiterOption,
    EncodingOption,
    EndpointOption,
    HoldOption,
    JsonOption,
    LimitOption,
    MappingOption,
    MaxCallsOption,
    PriorityOption,
    RegionOption,
    SampleOption,
    SampleRandomOption,
    TolerateOption,
    TroublePauseOption,
    WeightOption,
    read_approval,
    read_budget,
    read_settings,
)

app = typer.Typer()


@app.command(name="submit", epilog=BATCH_CODES)
def submit_(
    source: Annotated[str, typer.Argument(metavar="FILE|s3://…", help="A local file, or one in S3.")],
    mapping: MappingOption,
    *,
    execution_id: Annotated[
        str, typer.Option(help="Name of this run; the same name is never run twice.", show_default=False)
    ] = "",
    limit: LimitOption = None,
    deadline: DeadlineOption = None,
    priority: PriorityOption = None,
    weight: WeightOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    tolerate: TolerateOption = None,
    hold_s: HoldOption = None,
    trouble_pause_s: TroublePauseOption = None,
    sample: SampleOption = None,
    sample_random: SampleRandomOption = None,
    approve_by: ApproveByOption = None,
    approve_if: ApproveIfOption = None,
    budget_usd: BudgetUsdOption = None,
    budget_tokens: BudgetTokensOption = None,
    max_calls: MaxCallsOption = None,
    output: Annotated[
        str,
        typer.Option(
            metavar="s3://BUCKET/PREFIX/",
            show_default="results/MAPPING/EXECUTION/ in the service's bucket",
            help="Where the results are written.",
        ),
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it until it ends or is held; exit as `run` does.")
    ] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Start a run on a deployed or local service."""
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    request = SubmitRequest(
        source=source,
        mapping=mapping,
        execution_id=execution_id,
        limit=limit,
        deadline_s=deadline,
        priority=priority,
        weight=weight,
        delimiter=delimiter,
        encoding=encoding,
        tolerate=tolerate,
        hold_s=hold_s,
        trouble_pause_s=trouble_pause_s,
        approval=read_approval(
            sample=sample, sample_random=sample_random, approve_by=approve_by, approve_if=approve_if
        ),
        budget=read_budget(budget_usd, budget_tokens, max_calls),
        output=output,
    )
    check_request(request, reserved_places(settings))  # before AWS is called

    async def work(place: Place) -> int:
        return await _submit(place, request, settings, wait=wait, as_json=as_json)

    exit_with(run_on(open_aws(settings), settings, work))


async def _submit(
    place: Place, request: SubmitRequest, settings: Settings, *, wait: bool, as_json: bool
) -> int:
    """Submit a run and print its batch id; with `wait`, follow it. Return the exit code."""
    submission = await submit(place.ports, request, settings.bucket)
    id_ = submission.batch_id
    if wait:
        # stdout is for the result
        if not as_json:
            err.print(id_, highlight=False, markup=False)
        return await follow_to_end(place, id_, settings, as_json=as_json, replaces=submission.replaces)
    if as_json:
        print_json({"batch_id": id_})
    else:
        print_line(id_)
    return EXIT_OK
