"""`budget`: the most that all batches of a mapping may use together in a day."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from service.domain.budgets.options import MOST
from service.domain.model import NO_BUDGET, Budget, BudgetKind, Json
from service.domain.money import units_of
from service.mapping.syntax.forms import Form, Price, read_form
from service.mapping.syntax.problems import Report, ValuePath


class BudgetForm(Form):
    """`budget`, of each day in UTC."""

    usd_per_day: Price | None = None
    tokens_per_day: int | None = Field(default=None, ge=1, le=MOST[BudgetKind.TOKENS])
    calls_per_day: int | None = Field(default=None, ge=1, le=MOST[BudgetKind.CALLS])

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("limits nothing: usd_per_day, tokens_per_day, calls_per_day, or several of them")
        if self.usd_per_day is not None and not self.usd_per_day:
            raise ValueError("usd_per_day is 0: no call could be made")
        return self


def compile_budget(value: Json, report: Report, path: ValuePath) -> Budget:
    """Compile a `budget`; none limits nothing. The result must not be used if problems were reported."""
    form = None if value is None else read_form(BudgetForm, value, report, path)
    if form is None:
        return NO_BUDGET
    usd = form.usd_per_day
    return Budget(
        calls=form.calls_per_day,
        tokens=form.tokens_per_day,
        usd=None if usd is None else units_of(usd),
    )
