"""The parts of a run on this machine that a command line asks for: its file, its place, its sample."""

from __future__ import annotations

import sys
from pathlib import Path

from service.app.laptop.home import Home
from service.app.laptop.run_book import STDOUT
from service.app.laptop.source import STDIN_NAME, ScannedSource, scan_source, spool
from service.app.settings import Settings
from service.app.submit import SubmitRequest
from service.csvio.compression import NAMES
from service.domain.approval.conditions import ApprovalError
from service.domain.approval.options import check_approval
from service.domain.errors import UsageError
from service.mapping import Definition


def check_sample(request: SubmitRequest, definition: Definition) -> None:
    """Raise UsageError if the options of the approval do not fit the mapping."""
    mapping = definition.compile()
    try:
        check_approval(mapping.gate, mapping.output_fields, request.approval)
    except ApprovalError as error:
        raise UsageError(f"the approval of the sample: {error}") from None


def default_target(source: Path | None) -> str:
    """`IN.output.csv` beside the input; stdout for stdin."""
    if source is None:
        return STDOUT
    name = source.stem if source.suffix.lower() not in NAMES else Path(source.stem).stem
    return str(source.with_name(f"{name}.output.csv"))


def read_source(path: Path | None, settings: Settings, definition: Definition) -> ScannedSource:
    """The file, or what comes on stdin, which is kept in the folder of the store while it runs."""
    layout = definition.compile().csv.layout
    header_lines = layout.skip_lines + (not layout.columns)
    if path is not None:
        return scan_source(path, path.name, header_lines=header_lines)
    home = Home(settings.home)
    home.create()
    return scan_source(spool(sys.stdin.buffer, home.spool), STDIN_NAME, header_lines=header_lines)
