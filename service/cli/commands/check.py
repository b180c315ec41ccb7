"""Commands that compile mappings: `check`, `try`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from service.agents.wire.reply_bodies import parse_reply
from service.app.settings import Settings
from service.catalog.check import check_files
from service.cli.batches.kept_replies import read_row_replies
from service.cli.batches.places import Place, open_place, place_option, run_on
from service.cli.configuration import compile_edition, read_mapping_files
from service.cli.console import EXIT_FAILED_ROWS, EXIT_USAGE, err, exit_with, out, print_json, print_line
from service.cli.explanation import Verdict, show_verdict
from service.cli.options import (
    EndpointOption,
    JsonOption,
    MappingsOption,
    PlaceOption,
    RegionOption,
    SchemasOption,
    read_settings,
)
from service.domain import exact_json
from service.domain.errors import AgentRejectedError, AgentRetryableError, UsageError
from service.domain.model import Json, Status
from service.mapping import Explanation, Extractor, Problem

app = typer.Typer()


@app.command()
def check(
    mappings: MappingsOption = None, schemas: SchemasOption = None, as_json: JsonOption = False
) -> None:
    """Compile every mapping and schema, and run every sample in mappings/samples/NAME/.

    A line per problem: file:line: what is wrong — what to do. Exit 0 if all is right, 2 otherwise.
    """
    settings = _settings(mappings, schemas)
    files = read_mapping_files(settings)
    report = check_files(files, settings.mappings, settings.http.max_reply_bytes, parse_reply)
    if as_json:
        print_json(
            {
                "ok": not report.problems,
                "problems": [
                    {
                        "file": p.file, "line": p.line, "place": _one_line(p.place),
                        "what": _one_line(p.message), "hint": _one_line(p.hint),
                    }
                    for p in report.problems
                ],
                "mappings": report.mappings, "schemas": report.schemas, "samples": report.samples,
            }
        )  # fmt: skip
    else:
        for problem in report.problems:
            print_line(_problem_line(problem))
        count = len(report.problems)
        wrong = f"{count} problem{'' if count == 1 else 's'}" if count else "all right"
        skipped = "" if report.ran or not report.samples else "; samples run once everything compiles"
        style = "red" if count else "green"
        err.print(f"{report.counts}: {wrong}{skipped}", style=style, highlight=False, soft_wrap=True)
    if report.problems:
        exit_with(EXIT_USAGE)


@app.command(
    name="try",
    epilog="Exit codes: 0 the row would succeed, 3 it would fail, 2 bad usage or configuration.",
)
def try_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A run definition or a named extraction.")],
    reply: Annotated[
        Path | None,
        typer.Argument(metavar="[REPLY.json]", help="A saved reply; - reads stdin.", show_default=False),
    ] = None,
    *,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="BATCH", help="The kept reply of a row of this batch.")
    ] = None,
    row: Annotated[
        int | None, typer.Option("--row", min=1, metavar="N", help="The number of that row.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show where each value came from.")] = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Extract from a saved or kept agent reply: the values as they would stand in the CSV."""
    if (reply is None) == (batch is None) or (batch is None) != (row is None):
        raise UsageError("name a file with a reply, or a row with a kept one by --batch and --row")
    settings = _settings(mappings, schemas, endpoint_url=endpoint_url, region=region)
    edition = compile_edition(read_mapping_files(settings))
    extractor = edition.extractor(name)
    is_run = name in edition.catalog.names
    # a named extraction has no options for the CSV: the default applies
    escape = edition.definition(name).compile().csv.escape_formulas if is_run else True
    if reply is None:
        assert batch is not None
        assert row is not None
        side = place_option(where, endpoint_url, region)
        explanation = extractor.explain(_kept_reply(settings, batch, row, side))
    else:
        explanation = _explain(extractor, _read_reply(reply, settings.http.max_reply_bytes))
    verdict = Verdict(name, explanation, escape)
    if as_json:
        print_line(exact_json.indented(verdict.as_json()))
    else:
        show_verdict(out, verdict, explain=explain)
        if verdict.status is Status.FAILED and not explain:
            err.print("--explain shows what was tried for each field", style="dim", highlight=False)
    if verdict.status is Status.FAILED:
        exit_with(EXIT_FAILED_ROWS)


def _kept_reply(settings: Settings, batch: str, row: int, where: bool | None) -> Json:
    async def work(place: Place) -> Json:
        [found] = await read_row_replies(place, batch, [row])
        return found.reply.value

    return run_on(open_place(settings, batch, where), settings, work)


def _settings(
    mappings: str | None,
    schemas: str | None,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
) -> Settings:
    """Read the settings. Raises UsageError if a folder of schemas was named that does not exist."""
    loaded = read_settings(mappings=mappings, schemas=schemas, endpoint_url=endpoint_url, region=region)
    folder = loaded.schemas
    # the default folder may be missing: mappings need not use schemas
    if "schemas" in loaded.model_fields_set and isinstance(folder, Path) and not folder.is_dir():
        raise UsageError(f"{folder} is no folder with schemas; see --schemas DIR and ROWFLEET_SCHEMAS")
    return loaded


def _explain(extractor: Extractor, data: bytes) -> Explanation:
    """The extraction from a reply, which is read as a worker reads it: a stream joined, JSON, else text."""
    reply: Json = ""
    if data.strip():
        try:
            reply = parse_reply(data)
        except (AgentRejectedError, AgentRetryableError) as error:
            return extractor.explain_failure(error)
    # text is a valid reply, but this one was probably meant as JSON
    if isinstance(reply, str) and reply.lstrip()[:1] in {"{", "["}:
        err.print("the reply is no JSON and is taken for text", style="yellow", highlight=False)
    return extractor.explain(reply)


def _read_reply(path: Path, max_bytes: int) -> bytes:
    # one byte more than allowed shows that the reply is too long
    if str(path) == "-":
        data = sys.stdin.buffer.read(max_bytes + 1)
    else:
        with path.open("rb") as opened:
            data = opened.read(max_bytes + 1)
    if len(data) > max_bytes:
        limit = f"{max_bytes} bytes that workers accept (ROWFLEET_HTTP__MAX_REPLY_BYTES)"
        raise UsageError(f"{path}: longer than the {limit}")
    return data


def _problem_line(problem: Problem) -> str:
    place = f"{problem.file}:{max(problem.line, 1)}"
    return _one_line(f"{place}: {problem.text}" + (f" — {problem.hint}" if problem.hint else ""))


def _one_line(text: str) -> str:
    """Replace line breaks and control characters, which text quoted from a file may contain."""
    return "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text
    )
