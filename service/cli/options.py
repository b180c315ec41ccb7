"""Options that commands share, and the settings, roles, logging and metrics that follow from them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.app.settings import Settings, load_settings
from service.domain.approval.conditions import ApprovalError
from service.domain.approval.options import read_option
from service.domain.budgets.options import BudgetError, option_of, parse_limit
from service.domain.errors import UsageError
from service.domain.model import (
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    MAX_DEADLINE_S,
    MAX_PRIORITY,
    MAX_SAMPLE,
    MAX_WEIGHT,
    Budget,
    BudgetKind,
)
from service.domain.operation_requests import MAX_CONCURRENCY
from service.runtime.logs import configure_logging

MappingsOption = Annotated[
    str | None, typer.Option("--mappings", help="Folder of mappings, or s3://…", show_default=False)
]
SchemasOption = Annotated[
    str | None, typer.Option("--schemas", help="Folder of schemas, or s3://…", show_default=False)
]
MappingOption = Annotated[str, typer.Option("--mapping", "-m", help="Name of the mapping (its file's stem).")]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint-url", help="AWS endpoint, e.g. of `rowfleet local`.", show_default=False),
]
RegionOption = Annotated[str | None, typer.Option("--region", help="AWS region.", show_default=False)]
PlaceOption = Annotated[
    bool | None,
    typer.Option(
        "--local/--aws", show_default=False,
        help="Look only in the store of this machine (.rowfleet/), or only on AWS; else here first.",
    ),
]  # fmt: skip
ConcurrencyOption = Annotated[
    int | None,
    typer.Option(
        "--concurrency", "-c", min=1, max=MAX_CONCURRENCY, metavar="N", show_default="16",
        help="Most calls at a time, for a batch of this machine.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N rows.", show_default=False)
]
DeadlineOption = Annotated[
    int | None,
    typer.Option(
        "--deadline", min=1, max=MAX_DEADLINE_S, metavar="SECONDS", show_default=False,
        help="Rows without a result by then are FAILED, and the output is written.",
    ),
]  # fmt: skip
PriorityOption = Annotated[
    int | None,
    typer.Option(
        "--priority", min=1, max=MAX_PRIORITY, metavar="N", show_default=str(DEFAULT_PRIORITY),
        help="Rows of a batch with a higher priority go first.",
    ),
]  # fmt: skip
WeightOption = Annotated[
    int | None,
    typer.Option(
        "--weight", min=1, max=MAX_WEIGHT, metavar="N", show_default=str(DEFAULT_WEIGHT),
        help="Batches of one priority share their agent in proportion to their weights.",
    ),
]  # fmt: skip
DelimiterOption = Annotated[
    str | None,
    typer.Option(
        "--delimiter", metavar="CHARACTER", show_default="that of the mapping",
        help="What divides the cells: auto, tab, or one character.",
    ),
]  # fmt: skip
EncodingOption = Annotated[
    str | None,
    typer.Option(
        "--encoding", metavar="NAME", show_default="that of the mapping",
        help="How the file is written: auto, or for example cp1252.",
    ),
]  # fmt: skip
TolerateOption = Annotated[
    str | None,
    typer.Option(
        "--tolerate", metavar="LIMITS", show_default="that of the mapping",
        help="Failed rows after which it is held, such as rejected=5%,any=500; first=0 runs all rows "
        "whatever the first ones do; on_exceeded=cancel ends it.",
    ),
]  # fmt: skip
HoldOption = Annotated[
    int | None,
    typer.Option(
        "--hold-s", min=1, max=MAX_DEADLINE_S, metavar="SECONDS", show_default="that of the service, 72 h",
        help="Held for so long by something other than its user, it is cancelled.",
    ),
]  # fmt: skip
TroublePauseOption = Annotated[
    int | None,
    typer.Option(
        "--trouble-pause-s", min=1, max=MAX_DEADLINE_S, metavar="SECONDS",
        show_default="that of the service, never",
        help="Once its target has served nobody for so long, it is held until the target serves again.",
    ),
]  # fmt: skip
SampleOption = Annotated[
    int | None,
    typer.Option(
        "--sample", min=0, max=MAX_SAMPLE, metavar="N", show_default="that of the mapping",
        help="Run N rows first; the others wait until you approve them. 0: none.",
    ),
]  # fmt: skip
SampleRandomOption = Annotated[
    bool | None,
    typer.Option("--sample-random", show_default=False, help="The rows of the sample are from anywhere."),
]
ApproveByOption = Annotated[
    str | None,
    typer.Option(
        "--approve-by", metavar="TIME", show_default="24h",
        help="Longest wait for approval, such as 90m, 24h or 2d; then the other rows fail.",
    ),
]  # fmt: skip
ApproveIfOption = Annotated[
    str | None,
    typer.Option(
        "--approve-if", metavar="CONDITIONS", show_default="that of the mapping",
        help="Conditions that approve the sample, such as success>=98%,fill.FIELD>=90%,"
        "cost_per_row_usd<=0.01.",
    ),
]  # fmt: skip
BudgetUsdOption = Annotated[
    str | None,
    typer.Option(
        "--budget-usd", metavar="USD", show_default=False,
        help="Most that its calls may cost, by `pricing` of the mapping; then it is held.",
    ),
]  # fmt: skip
BudgetTokensOption = Annotated[
    str | None,
    typer.Option(
        "--budget-tokens", metavar="N", show_default=False,
        help="Most input and output tokens of its calls; then it is held.",
    ),
]  # fmt: skip
MaxCallsOption = Annotated[
    str | None,
    typer.Option(
        "--max-calls", metavar="N", show_default=False,
        help="Most calls, repeated and failed ones too; then it is held.",
    ),
]  # fmt: skip
BatchArgument = Annotated[str, typer.Argument(metavar="BATCH", help="Batch id, e.g. my-tool#my-run.")]


def read_budget(usd: str | None, tokens: str | None, calls: str | None) -> Budget:
    """The budget that the three options state. Raises UsageError."""
    given = {BudgetKind.USD: usd, BudgetKind.TOKENS: tokens, BudgetKind.CALLS: calls}
    limits = {}
    for kind, text in given.items():
        if text is not None:
            try:
                limits[kind.value] = parse_limit(kind, text)
            except BudgetError as error:
                raise UsageError(f"{option_of(kind)} {error}") from None
    return Budget(**limits)


def read_settings(
    *,
    mappings: str | None = None,
    schemas: str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
) -> Settings:
    """The settings of the environment, overridden by flags. Raises SettingsError."""
    folders = {
        name: path for name, path in (("mappings", mappings), ("schemas", schemas)) if path is not None
    }
    loaded = load_settings(folders)
    aws = {name: text for name, text in (("endpoint_url", endpoint_url), ("region", region)) if text}
    if not aws:
        return loaded
    return loaded.model_copy(update={"aws": loaded.aws.model_copy(update=aws)})


def read_approval(**options: Any) -> dict[str, Any]:
    """The options of an approval that are given, as a job has them. Raises UsageError."""
    given = {}
    for name, value in options.items():
        if value is not None:
            try:
                given[name] = read_option(name, value)
            except ApprovalError as error:
                raise UsageError(f"--{name.replace('_', '-')}: {error}") from None
    return given


def log_as_command(settings: Settings) -> None:
    """Log only errors unless a log level was set: the command prints its own output."""
    # set fields include those that were set to their default
    level = settings.log_level if "log_level" in settings.model_fields_set else "error"
    configure_logging(level, as_json=settings.log_format == "json")
