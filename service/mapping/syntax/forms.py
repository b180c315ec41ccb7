"""The keys that mapping files may have, and the types of their values.

A form is the pydantic model of one table of keys. Expressions, transforms and templates are only text here;
they are compiled by the package above, `service.mapping`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from service.domain.approval.options import duration_s
from service.domain.model import MAX_DEADLINE_S, MAX_SAMPLE, Json
from service.domain.money import units_of
from service.domain.tolerance import DEFAULT_FIRST, read_tolerance
from service.mapping.syntax.problems import Report, ValuePath, dotted, suggest

NAME_FIELD = Field(min_length=1, max_length=128)


class Form(BaseModel):
    """A table of keys. Unknown keys are problems, and values are not converted (`strict`)."""

    # most forms are not used by a process, and building one takes a millisecond or two
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class InputForm(Form):
    """`input_mapping`; compiled by `service.mapping.inputs`."""

    column_mappings: dict[str, str] = {}
    static_values: dict[str, Any] = {}
    include_columns: list[str] = []
    exclude_columns: list[str] = []
    transforms: dict[str, Any] = {}
    template: str | None = None
    body: Any = None

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        if self.exclude_columns and (self.column_mappings or self.include_columns):
            raise ValueError(
                "exclude_columns has no effect beside column_mappings or include_columns, "
                "which pass only what they name"
            )
        return self


class RetryForm(Form):
    """`retry_policy`."""

    budget_seconds: float = Field(default=86_400.0, gt=0, le=MAX_DEADLINE_S, allow_inf_nan=False)
    max_attempts: int = Field(default=4, ge=1, le=1000)
    base_seconds: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    cap_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    jitter: Literal["full", "equal", "none"] = "equal"


class TolerateForm(Form):
    """`tolerate`: failures that a round may have. A limit is a number of rows, or a share such as `5%`."""

    rejected: int | str | None = None
    transient: int | str | None = None
    any: int | str | None = None
    first: int = DEFAULT_FIRST
    on_exceeded: Literal["pause", "cancel", "finish"] = "pause"

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        read_tolerance(self.model_dump(exclude_none=True))
        return self


class ExecutionForm(Form):
    """`execution`."""

    max_concurrency: int | None = Field(default=None, ge=1)
    timeout_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    batch_deadline_seconds: int | None = Field(default=None, ge=1, le=MAX_DEADLINE_S)
    row_deadline_seconds: float | None = Field(default=None, gt=0, le=MAX_DEADLINE_S, allow_inf_nan=False)
    retry_policy: RetryForm = RetryForm()
    tolerate: TolerateForm = TolerateForm()


class CsvForm(Form):
    """`csv`."""

    delimiter: str = "auto"
    encoding: str = "auto"
    escape: str = Field(default="", max_length=1)
    comment: str = Field(default="", max_length=1)
    skip_lines: int = Field(default=0, ge=0, le=1_000)
    columns: list[str] = []
    blank_records: Literal["skip", "run"] = "skip"
    bom: bool = False
    excel: bool = False
    escape_formulas: bool = True
    provenance: bool = False


class RateLimitForm(Form):
    """`rate_limit`: limits for all workers of the fleet together."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    requests_per_minute: int | None = Field(default=None, ge=1)
    input_tokens_per_minute: int | None = Field(default=None, ge=1)
    output_tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent: int | None = Field(default=None, ge=1, le=100_000)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.model_fields_set - {"name"}:
            raise ValueError(
                "names no limit: requests_per_minute, input_tokens_per_minute, output_tokens_per_minute "
                "or concurrent"
            )
        return self


_MAX_PRICE = 1_000_000


def _price(value: Json) -> Decimal:
    """A price as written. Raises ValueError unless it is a number from 0 to a million, of eight decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number such as 0.15")  # noqa: TRY004 -- pydantic reports ValueErrors
    price = Decimal(str(value))  # a float's shortest text is the one that was written
    if not 0 <= price <= _MAX_PRICE:
        raise ValueError(f"must be from 0 to {_MAX_PRICE:,}")
    units_of(price)
    return price


Price = Annotated[
    Decimal,
    BeforeValidator(_price),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": _MAX_PRICE}),
]


class PricingForm(Form):
    """`pricing`, unless that is `auto`; compiled by `service.mapping.pricing`."""

    input_per_million: Price | None = None
    output_per_million: Price | None = None
    cached_input_per_million: Price | None = None
    cache_write_per_million: Price | None = None
    per_call: Price | None = None
    max_cost_per_call: Price | None = None
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")

    @model_validator(mode="after")
    def _prices_agree(self) -> Self:
        prices = self.model_fields_set - {"currency", "max_cost_per_call"}
        if not prices:
            raise ValueError("states no price: input_per_million and output_per_million, per_call, or both")
        if prices != {"per_call"}:
            for name in ("input_per_million", "output_per_million"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name} is missing; if it costs nothing, write {name}: 0")
        return self


KeepReplies = Literal["none", "failed", "all"]
"""The rows whose replies are kept."""


class ApproveForm(Form):
    """`approve`: the rows that are run before the others wait for approval."""

    sample: int = Field(ge=1, le=MAX_SAMPLE)
    random: bool = False
    by: int | str = "24h"

    @field_validator("by")
    @classmethod
    def _is_a_time(cls, value: int | str) -> int | str:
        duration_s(value)
        return value


class ApproveIfForm(Form):
    """`approve_if`: conditions that approve a sample, such as `>= 98%`; `domain.approval` reads them."""

    success: str | None = None
    fill: dict[str, str] | None = None
    cost_per_row_usd: str | None = None


class RunForm(Form):
    """A run definition: the top of a mapping file, without `output_mappings`."""

    target: dict[str, Any]  # its form depends on `invoke`: see `targets`
    input_mapping: InputForm = InputForm()
    output_mapping: Any = None  # a name, or an ExtractionForm
    execution: ExecutionForm = ExecutionForm()
    rate_limit: RateLimitForm | None = None
    reuse: str | None = Field(default=None, pattern=r"^(batch|([1-9]\d{0,3}) days?)$")
    csv: CsvForm = CsvForm()
    keep_replies: KeepReplies = "all"
    pricing: Any = None  # auto, or a PricingForm
    budget: Any = None  # a BudgetForm
    approve: ApproveForm | None = None
    approve_if: ApproveIfForm | None = None

    @model_validator(mode="after")
    def _has_what_it_approves(self) -> Self:
        if self.approve_if is not None and self.approve is None:
            raise ValueError("approve_if needs approve, such as {sample: 20}: there is no sample to look at")
        return self


class ExtractionForm(Form):
    """An entry of `output_mappings`, or an inline `output_mapping`."""

    type: Literal["agent", "tool"] = "agent"
    extraction_methods: list[dict[str, Any]] = Field(min_length=1)  # forms depend on `method`
    required: list[str] = []
    reject_if: list[str] = []
    pending_if: list[str] = []
    not_found: list[str] = []
    allow_empty: bool = False
    allow_truncated: bool = False
    accept_errors: bool = False
    accept_html: bool = False


class MethodForm(Form):
    """The keys of every method. The values of `field_mappings` are expressions, or `{path, transform}`."""

    method: str
    field_mappings: dict[str, Any] = Field(min_length=1)

    @property
    def fields(self) -> tuple[str, dict[str, Any], Any]:
        """The key that holds the fields, the fields, and the transform that applies to all of them."""
        return "field_mappings", self.field_mappings, None


class ToolForm(MethodForm):
    """`tool_result` and `structured_output`."""

    tool_name: str = ""


class ResultsArrayForm(MethodForm):
    """`results_array`. With `each`, all items of the list are read and their texts are joined."""

    each: bool = False


class JmespathForm(Form):
    """`jmespath`."""

    method: str
    paths: dict[str, Any] = Field(min_length=1)
    transform: Any = None

    @property
    def fields(self) -> tuple[str, dict[str, Any], Any]:
        """As in MethodForm: in `paths`, the key `transform` is always the transform."""
        paths = {name: path for name, path in self.paths.items() if name != "transform"}
        return "paths", paths, self.paths.get("transform", self.transform)

    @model_validator(mode="after")
    def _one_transform(self) -> Self:
        if self.transform is not None and "transform" in self.paths:
            raise ValueError("transform stands twice, in paths and beside it")
        if set(self.paths) == {"transform"}:
            raise ValueError("paths names no field: the key transform is always the transform")
        return self


class PathForm(Form):
    """A path with a transform of its own."""

    path: str
    transform: Any = None


class SchemaForm(Form):
    """A schema file. `version` and `output_format` are for its readers only; any reply shape is accepted."""

    agent: str = NAME_FIELD
    version: str | int | float | Decimal = ""  # YAML reads 1.0 as a number
    output_format: str = ""
    fields: list[dict[str, Any]]  # read one by one as SchemaFieldForm, so that one mistake hides no other


class SchemaFieldForm(Form):
    """An entry of a schema's `fields`. The constraints depend on `type`; see `extraction.schemas`."""

    name: str
    type: str
    required: bool = False
    enum: list[Any] | None = Field(default=None, min_length=1)
    pattern: str | None = None
    minimum: Any = None
    maximum: Any = None
    extraction: list[dict[str, Any]] = []  # forms depend on `type`


class ToolPatternForm(Form):
    """`type: tool_result` in a schema: a pattern in the text of a tool's result."""

    type: Literal["tool_result"]
    tool: str = ""
    pattern: str = Field(min_length=1)


class StructuredPathForm(Form):
    """`type: structured` in a schema: a path in the structured output."""

    type: Literal["structured"]
    tool: str = ""
    path: str = Field(min_length=1)


FormT = TypeVar("FormT", bound=Form)


def read_form(form: type[FormT], value: Json, report: Report, path: ValuePath) -> FormT | None:
    """Validate a value as a form. Returns None, and adds the problems to the report, if it is invalid."""
    try:
        return form.model_validate(value)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            _add_problem(form, dict(item), report, path)
        return None


def _add_problem(form: type[Form], item: dict[str, Any], report: Report, path: ValuePath) -> None:
    """Add one of pydantic's errors in the words of the file."""
    # pydantic marks an error in a key itself, rather than in its value, with a last part "[key]".
    location: ValuePath = tuple(part for part in item["loc"] if part != "[key]")
    full_path = (*path, *location)
    kind, name = item["type"], dotted(full_path)
    if kind == "extra_forbidden":
        owner, key = _form_at(form, location[:-1]), str(location[-1])
        report.add(full_path, f"unknown key {name!r}", suggest(key, owner.model_fields))
    elif kind == "missing":
        report.add(full_path, f"{name!r} is missing")
    else:
        hint = _PATTERN_HINTS.get(str(location[-1]), "") if kind == "string_pattern_mismatch" else ""
        report.add(full_path, f"{name}: {_error_text(item)}" if name else _error_text(item), hint)


_PATTERN_HINTS = {
    "reuse": "batch, or a number of days such as 7 days",
    "function": "the module and its function: package.module:function",
    "state_machine": "the ARN of a state machine, or ${NAME}",
    "agent_runtime": "the ARN of a runtime, or ${NAME}",
}


def _error_text(item: dict[str, Any]) -> str:
    """Pydantic's message in YAML's terms: a table instead of a model, text instead of a string."""
    if item["type"] in {"model_type", "dict_type", "model_attributes_type"}:
        return "must be a table of keys and values"
    if item["type"] == "too_short":
        return "must not be empty"
    text = str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return text.replace("a valid string", "text").replace("String should", "must")


def _form_at(form: type[Form], location: ValuePath) -> type[Form]:
    """The innermost form on the way to a location; its keys are suggested for an unknown one."""
    for part in location:
        field = form.model_fields.get(str(part))
        if field is None:
            break
        # An optional form is a union with None.
        types = get_args(field.annotation) or (field.annotation,)
        inner = [one for one in types if isinstance(one, type) and issubclass(one, Form)]
        if not inner:
            break
        form = inner[0]
    return form
