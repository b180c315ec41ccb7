"""`approve` and `approve_if`: the sample that a mapping asks approval for."""

from __future__ import annotations

from service.domain.approval.conditions import ApprovalError, read_conditions, unknown_field
from service.domain.approval.options import duration_s
from service.domain.model import SampleGate
from service.mapping.syntax.forms import RunForm
from service.mapping.syntax.problems import Report


def compile_gate(form: RunForm, output_fields: tuple[str, ...], report: Report) -> SampleGate | None:
    """The gate of a mapping, None for none. Wrong conditions are in the report."""
    asked = form.approve
    if asked is None:
        return None
    conditions: dict[str, str] = {}
    if form.approve_if is not None:
        try:
            conditions = read_conditions(form.approve_if.model_dump(exclude_none=True))
        except ApprovalError as error:
            report.add(("approve_if",), str(error))
        if problem := unknown_field(conditions, output_fields):
            report.add(("approve_if", "fill"), problem)
    return SampleGate(asked.sample, asked.random, duration_s(asked.by), conditions)
