"""A CSV row to an agent's input: columns to fields, constants, transforms, template, body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.domain.errors import CsvError, InputError
from service.domain.model import ERROR_COLUMN, Json
from service.mapping.expressions.expression import Expression, compile_transform
from service.mapping.syntax.forms import InputForm
from service.mapping.syntax.problems import CompileError, Path, Report, nearest, suggest
from service.mapping.syntax.references import reject_references
from service.mapping.templates import JsonTemplate, TextTemplate, compile_json_template, compile_template

PROMPT = "prompt"
_SHOWN_COLUMNS = 50
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class InputMapping:
    """A compiled `input_mapping`. `columns` maps input fields to CSV columns.

    With `pass_rest`, every column that is not in `excluded` passes under its own name as well; the `_error`
    of a failures.csv that was dropped in again does not, unless it is named.
    """

    columns: Mapping[str, str]
    static: Mapping[str, Json]
    pass_rest: bool
    excluded: frozenset[str]
    transforms: Mapping[str, tuple[Expression, ...]]
    template: TextTemplate | None
    body: JsonTemplate | None
    required_columns: frozenset[str]

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raises CsvError, naming the columns that are missing and those that the file has."""
        missing = sorted(self.required_columns - set(columns))
        if not missing:
            return
        names = ", ".join(repr(name) for name in missing)
        there = ", ".join(repr(name) for name in columns[:_SHOWN_COLUMNS])
        more = f" and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
        near = [name for column in missing if (name := nearest(column, columns))]
        hint = f"; did you mean {' and '.join(repr(name) for name in near)}?" if near else ""
        many = "s" if len(missing) > 1 else ""
        raise CsvError(f"the mapping names column{many} {names}, the file has {there}{more}{hint}")

    def build(self, columns: Sequence[str], cells: Sequence[str]) -> Json:
        """What the agent is sent for a row. Raises InputError."""
        if len(columns) != len(cells):
            raise InputError(f"{len(cells)} cells under {len(columns)} columns")
        row = dict(zip(columns, cells, strict=True))
        fields = self._fields(row)
        if self.template is not None:
            fields[PROMPT] = self.template.render(fields)
        return fields if self.body is None else self.body.render(fields)

    def _fields(self, row: Mapping[str, str]) -> dict[str, Json]:
        fields: dict[str, Json] = {}
        if self.pass_rest:
            fields = {
                name: cell for name, cell in row.items() if name not in self.excluded and name != ERROR_COLUMN
            }
        for name, column in self.columns.items():
            if column not in row:
                raise InputError(f"the row has no column {column!r}")
            fields[name] = row[column]
        fields |= self.static
        for name, steps in self.transforms.items():
            if name in fields:
                fields[name] = _transformed(name, fields[name], steps)
        return fields


def _transformed(name: str, before: Json, steps: Iterable[Expression]) -> Json:
    """A cell that held something must not come out as nothing: the agent would be asked about null."""
    value = before
    for step in steps:
        value = step.search(value)
    if value is None and before is not None and str(before).strip():
        shown = str(before)
        shown = shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "…"
        raise InputError(f"{name!r}: {' | '.join(step.text for step in steps)} makes nothing of {shown!r}")
    return value


def compile_input(form: InputForm, report: Report, path: Path) -> InputMapping:
    """With problems in the report, the mapping is of no use."""
    columns = dict(form.column_mappings)
    for place, column in enumerate(form.include_columns):
        if column in columns and columns[column] != column:
            report.add((*path, "include_columns", place), f"{column!r} is a field of column_mappings already")
        columns[column] = column
    for name, value in form.static_values.items():
        if name in columns:
            report.add((*path, "static_values", name), f"{name!r} is mapped to a column already")
        with report.at((*path, "static_values", name)):
            reject_references(value)
    known = set(columns) | set(form.static_values)
    pass_rest = not columns
    wanted = _Wanted(known, pass_rest, frozenset(form.exclude_columns))

    transforms: dict[str, tuple[Expression, ...]] = {}
    for name, names in form.transforms.items():
        with report.at((*path, "transforms", name)):
            wanted.add([name])
            listed = names if isinstance(names, list) else [names]
            transforms[name] = tuple(compile_transform(one) for one in listed)
    template: TextTemplate | None = None
    if form.template is not None:
        with report.at((*path, "template")):
            if PROMPT in known:
                raise CompileError(
                    f"there is a field {PROMPT!r} already, and the template's text has that name"
                )
            reject_references(form.template)
            template = compile_template(form.template)
            wanted.add(sorted(template.required_names), template.optional_names)
            known.add(PROMPT)
    body: JsonTemplate | None = None
    if form.body is not None:
        with report.at((*path, "body")):
            reject_references(form.body)
            body = compile_json_template(form.body)
            wanted.add(sorted(body.required_names), body.optional_names)
    required = frozenset(columns.values()) | wanted.excluded | wanted.columns
    return InputMapping(
        columns, form.static_values, pass_rest, wanted.excluded, transforms, template, body, required
    )


class _Wanted:
    """The fields that transforms and templates name: known ones, or else columns that the file must have."""

    def __init__(self, known: set[str], pass_rest: bool, excluded: frozenset[str]) -> None:
        self.known = known
        self.pass_rest = pass_rest
        self.excluded = excluded
        self.columns: set[str] = set()

    def add(self, names: Iterable[str], optional: Iterable[str] = ()) -> None:
        """Raises CompileError for a name that no field can have."""
        for name in (*names, *(() if self.pass_rest else optional)):
            if name in self.known:
                continue
            if name in self.excluded:
                raise CompileError(f"{name!r} is in exclude_columns")
            if not self.pass_rest:
                hint = suggest(name, self.known)
                raise CompileError(
                    f"no field {name!r}: with column_mappings, only what is named passes", hint
                )
            self.columns.add(name)
