"""`input_mapping`: a CSV row -> the agent's input, by columns, constants, transforms, template and body."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.domain import exact_json
from service.domain.errors import CsvError, InputError
from service.domain.model import OWN_COLUMNS, Json
from service.mapping.expressions.expression import Expression, compile_transform
from service.mapping.syntax.forms import InputForm
from service.mapping.syntax.problems import CompileError, Report, ValuePath, nearest, suggest
from service.mapping.syntax.references import reject_references
from service.mapping.templates import JsonTemplate, TextTemplate, compile_json_template, compile_template

PROMPT = "prompt"
"""The input field that the text of `template` is put into."""

_MAX_COLUMNS_IN_ERROR = 50
_MAX_CELL_CHARS_IN_ERROR = 80


@dataclass(frozen=True, slots=True)
class InputMapping:
    """A compiled `input_mapping`. `columns` maps input fields to CSV columns.

    With `pass_other_columns`, every column that is not in `excluded` is passed under its own name. Those
    that result files add, as `_error`, are passed only if they are named.
    """

    columns: Mapping[str, str]
    static_values: Mapping[str, Json]
    pass_other_columns: bool
    excluded: frozenset[str]
    transforms: Mapping[str, tuple[Expression, ...]]
    template: TextTemplate | None
    body: JsonTemplate | None
    required_columns: frozenset[str]

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise CsvError with the missing columns and those that the file has, if any column is missing."""
        missing = sorted(self.required_columns - set(columns))
        if not missing:
            return
        names = ", ".join(repr(name) for name in missing)
        present = ", ".join(repr(name) for name in columns[:_MAX_COLUMNS_IN_ERROR])
        hidden = len(columns) - _MAX_COLUMNS_IN_ERROR
        more = f" and {hidden} more" if hidden > 0 else ""
        near = [name for column in missing if (name := nearest(column, columns))]
        hint = f"; did you mean {' and '.join(repr(name) for name in near)}?" if near else ""
        hint = self._wrong_way_round(missing, columns) or hint
        plural = "s" if len(missing) > 1 else ""
        raise CsvError(f"the mapping names column{plural} {names}, the file has {present}{more}{hint}")

    def _wrong_way_round(self, missing: Sequence[str], columns: Sequence[str]) -> str:
        """A hint if `column_mappings` has columns of the file in the place of input fields."""
        swapped = {
            name: column for name, column in self.columns.items() if column in missing and name in columns
        }
        if not swapped or set(missing) - set(swapped.values()):
            return ""
        right = ", ".join(f"{_yaml_text(column)}: {_yaml_text(name)}" for name, column in swapped.items())
        return (
            "; column_mappings is the wrong way round: the input field stands first, then the column; "
            f"write {{ {right} }}"
        )

    def build(self, columns: Sequence[str], cells: Sequence[str]) -> Json:
        """The agent's input for a row. Raises InputError."""
        if len(columns) != len(cells):
            raise InputError(f"{len(cells)} cells under {len(columns)} columns")
        row = dict(zip(columns, cells, strict=True))
        fields = self._fields(row)
        if self.template is not None:
            fields[PROMPT] = self.template.render(fields)
        return fields if self.body is None else self.body.render(fields)

    def _fields(self, row: Mapping[str, str]) -> dict[str, Json]:
        fields: dict[str, Json] = {}
        if self.pass_other_columns:
            fields = {
                name: cell
                for name, cell in row.items()
                if name not in self.excluded and name not in OWN_COLUMNS
            }
        for name, column in self.columns.items():
            if column not in row:
                raise InputError(f"the row has no column {column!r}")
            fields[name] = row[column]
        fields |= self.static_values
        for name, transforms in self.transforms.items():
            if name in fields:
                fields[name] = _apply_transforms(name, fields[name], transforms)
        return fields


def _yaml_text(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name) else exact_json.dumps(name)


def _apply_transforms(name: str, original: Json, transforms: Iterable[Expression]) -> Json:
    """The transformed value of a field. Raises InputError if a value that was not blank is lost."""
    value = original
    for transform in transforms:
        value = transform.search(value)
    # A transform gives None for a value that it cannot convert. Sending null would ask the agent about
    # something else than the row says.
    if value is None and original is not None and str(original).strip():
        text = str(original)
        if len(text) > _MAX_CELL_CHARS_IN_ERROR:
            text = text[:_MAX_CELL_CHARS_IN_ERROR] + "…"
        names = " | ".join(transform.text for transform in transforms)
        raise InputError(f"{name!r}: {names} makes nothing of {text!r}")
    return value


def compile_input(form: InputForm, report: Report, path: ValuePath) -> InputMapping:
    """Compile an `input_mapping`. If problems were reported, the result must not be used."""
    return _InputCompiler(form, report, path).compile()


class _InputCompiler:
    """Compiles one `input_mapping`, and collects the columns that a CSV file must have for it.

    Transforms and templates refer to input fields. If all columns are passed, a name that is no known field
    is a column that the file must have; otherwise it is an error.
    """

    def __init__(self, form: InputForm, report: Report, path: ValuePath) -> None:
        self._form = form
        self._report = report
        self._path = path
        self._excluded = frozenset(form.exclude_columns)
        self._columns = self._compile_columns()
        self._pass_other_columns = not self._columns
        self._fields = {*self._columns, *form.static_values}
        self._referenced_columns: set[str] = set()

    def compile(self) -> InputMapping:
        """The compiled mapping."""
        self._check_static_values()
        transforms = self._compile_transforms()
        template = self._compile_template()
        body = self._compile_body()
        return InputMapping(
            columns=self._columns,
            static_values=self._form.static_values,
            pass_other_columns=self._pass_other_columns,
            excluded=self._excluded,
            transforms=transforms,
            template=template,
            body=body,
            # A misspelt name in exclude_columns must be noticed too: its column would be sent.
            required_columns=frozenset({*self._columns.values(), *self._excluded, *self._referenced_columns}),
        )

    def _compile_columns(self) -> dict[str, str]:
        """Input field -> column, from column_mappings and include_columns."""
        columns = dict(self._form.column_mappings)
        for index, column in enumerate(self._form.include_columns):
            if column in columns and columns[column] != column:
                path = (*self._path, "include_columns", index)
                self._report.add(path, f"{column!r} is a field of column_mappings already")
            columns[column] = column
        return columns

    def _check_static_values(self) -> None:
        for name, value in self._form.static_values.items():
            path = (*self._path, "static_values", name)
            if name in self._columns:
                self._report.add(path, f"{name!r} is mapped to a column already")
            with self._report.at(path):
                reject_references(value)

    def _compile_transforms(self) -> dict[str, tuple[Expression, ...]]:
        transforms: dict[str, tuple[Expression, ...]] = {}
        for name, texts in self._form.transforms.items():
            place = (*self._path, "transforms", name)
            with self._report.at(place):
                self._refer_to([name])
            compiled: list[Expression] = []
            for index, text in enumerate(texts if isinstance(texts, list) else [texts]):
                with self._report.at((*place, index) if isinstance(texts, list) else place):
                    compiled.append(compile_transform(text))
            transforms[name] = tuple(compiled)
        return transforms

    def _compile_template(self) -> TextTemplate | None:
        source = self._form.template
        template: TextTemplate | None = None
        if source is not None:
            with self._report.at((*self._path, "template")):
                if PROMPT in self._fields:
                    raise CompileError(
                        f"there is a field {PROMPT!r} already, and the template's text has that name"
                    )
                reject_references(source)
                template = compile_template(source)
                self._refer_to(sorted(template.required_names), template.optional_names)
                self._fields.add(PROMPT)
        return template

    def _compile_body(self) -> JsonTemplate | None:
        source = self._form.body
        body: JsonTemplate | None = None
        if source is not None:
            with self._report.at((*self._path, "body")):
                reject_references(source)
                body = compile_json_template(source)
                self._refer_to(sorted(body.required_names), body.optional_names)
        return body

    def _refer_to(self, names: Iterable[str], optional_names: Iterable[str] = ()) -> None:
        """Note the fields that a transform or template refers to. Raises CompileError for an impossible one.

        An optional name (one with a default) may be missing from the file. If only named columns are passed,
        it must be a known field all the same: it could never have a value.
        """
        if not self._pass_other_columns:
            names = [*names, *optional_names]
        for name in names:
            if name in self._fields:
                continue
            if name in self._excluded:
                raise CompileError(f"{name!r} is in exclude_columns")
            if not self._pass_other_columns:
                hint = suggest(name, self._fields)
                raise CompileError(
                    f"no field {name!r}: with column_mappings, only what is named passes", hint
                )
            self._referenced_columns.add(name)
