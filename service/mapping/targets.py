"""The `target` of a run definition: a form for each way to invoke, and the checks that need no call.

A new way to invoke gets a form here, an entry in FORMS, and an agent in `service.agents`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from service.domain.model import Json
from service.mapping.syntax.forms import NAME_FIELD, Form, read_form
from service.mapping.syntax.problems import CompileError, Report, ValuePath, suggest
from service.mapping.syntax.references import check_references
from service.mapping.templates import compile_template

RESERVED_PACKAGE = "service"
"""The package of rowfleet itself. In its processes no other module can have this name."""

METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods without a request body. Input fields that the URL's path does not use become its query."""

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A header's name (RFC 9110, 5.6.2)."""

_FIXED_HOST = re.compile(r"(?:https?://[^/?#]+|\$\{[^}]+\}[^?#]*)[/?]|\$\{[^}]+\}$")
"""The text before the first `{{` of a URL template. It must have the whole host: no row may choose that."""


class TargetForm(Form):
    """The keys of every target."""

    type: Literal["agent", "tool"] = "agent"
    name: str = NAME_FIELD


class HttpForm(TargetForm):
    """`invoke: http`."""

    invoke: Literal["http"]
    url: str = Field(min_length=1)
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "POST"
    headers: dict[str, str] = Field(default_factory=dict)


class ChatForm(TargetForm):
    """`invoke: http` with a preset: a chat model behind the provider's usual interface."""

    invoke: Literal["http"]
    preset: Literal["openai", "anthropic"]
    url: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    api_key: str = ""
    model: str = Field(min_length=1)
    system: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class PythonForm(TargetForm):
    """`invoke: python`."""

    invoke: Literal["python"]
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")


class CommandForm(TargetForm):
    """`invoke: command`."""

    invoke: Literal["command"]
    command: list[str] = Field(min_length=1)
    env: dict[str, str] = Field(default_factory=dict)
    directory: str = ""


class AwsForm(TargetForm):
    """An AWS service. Without these keys, the worker's region and endpoint are used."""

    region: str = ""
    endpoint_url: str = ""


class SizeLimitedForm(AwsForm):
    """An AWS service with a limit for the input's size. `large_input` is for inputs above it."""

    large_input: Literal["reject", "reference"] = "reject"


class LambdaForm(SizeLimitedForm):
    """`invoke: lambda`."""

    invoke: Literal["lambda"]
    function: str = Field(min_length=1)
    qualifier: str = ""


class StepFunctionsForm(SizeLimitedForm):
    """`invoke: step_functions`."""

    invoke: Literal["step_functions"]
    state_machine: str = Field(pattern=r"^\$\{.+\}$|^arn:[^:]+:states:[^:]+:[^:]+:stateMachine:.+$")
    workflow: Literal["standard", "express"] = "standard"


class ConverseForm(AwsForm):
    """`invoke: bedrock` with a model."""

    invoke: Literal["bedrock"]
    model: str = Field(min_length=1)
    system: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _own_keys_stand_apart(self) -> Self:
        if taken := sorted({"messages", "modelId", "system"} & self.parameters.keys()):
            raise ValueError(f"parameters.{taken[0]} has a place of its own in the target or the input")
        return self


class AgentCoreForm(AwsForm):
    """`invoke: bedrock` with an AgentCore runtime."""

    invoke: Literal["bedrock"]
    agent_runtime: str = Field(pattern=r"^\$\{.+\}$|^arn:.+$")
    qualifier: str = ""


FORMS: dict[str, tuple[type[TargetForm], ...]] = {
    "http": (HttpForm, ChatForm),
    "python": (PythonForm,),
    "command": (CommandForm,),
    "lambda": (LambdaForm,),
    "step_functions": (StepFunctionsForm,),
    "bedrock": (ConverseForm, AgentCoreForm),
}
"""`invoke` -> its forms. The second form applies if its distinguishing key is present."""

_DISTINGUISHING_KEYS = {"http": "preset", "bedrock": "agent_runtime"}


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint that is invoked for every row.

    `options` are the remaining keys as written in the file, with defaults. The caller resolves `${NAME}` and
    `${secret:NAME}` in them.
    """

    type: str
    name: str
    invoke: str
    options: dict[str, Json] = field(default_factory=dict)

    @property
    def max_tokens(self) -> int | None:
        """The limit for output tokens in `parameters`, under any provider's name; None without one."""
        parameters = self.options.get("parameters") or {}
        parameters = {**parameters, **(parameters.get("inferenceConfig") or {})}
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxTokens"):
            if isinstance(limit := parameters.get(name), int):
                return limit
        return None


def compile_target(value: Json, report: Report, path: ValuePath) -> Target | None:
    """Compile a `target`. Returns None, with problems in the report, if it is invalid."""
    if not isinstance(value, dict):
        return None  # the form of the run definition reports it
    invoke = value.get("invoke")
    if not isinstance(invoke, str) or invoke not in FORMS:
        message = f"unknown invoke {invoke!r}" if "invoke" in value else "'target.invoke' is missing"
        report.add((*path, "invoke"), message, suggest(str(invoke or ""), FORMS))
        return None
    forms = FORMS[invoke]
    has_key = _DISTINGUISHING_KEYS.get(invoke) in value
    form = read_form(forms[1] if has_key else forms[0], value, report, path)
    if form is None:
        return None
    if isinstance(form, HttpForm | ChatForm):
        _check_http(form, report, path)
    if isinstance(form, PythonForm):
        _check_module(form, report, path)
    options = form.model_dump(exclude={"type", "name", "invoke"})
    # Only the form of references is checked here. Their values exist only where the agent runs.
    for key, option in options.items():
        with report.at((*path, key)):
            check_references(option)
    return Target(form.type, form.name, invoke, options)


def _check_module(form: PythonForm, report: Report, path: ValuePath) -> None:
    module = form.function.partition(":")[0]
    if module.partition(".")[0] == RESERVED_PACKAGE:
        report.add(
            (*path, "function"),
            f"module {module!r} cannot be imported: rowfleet's own package is called {RESERVED_PACKAGE!r}",
            f"rename your {RESERVED_PACKAGE}{'/' if '.' in module else '.py'}, or call it by invoke: command "
            "or http, which run in a process of their own",
        )


def _check_http(form: HttpForm | ChatForm, report: Report, path: ValuePath) -> None:
    # The whole address may come from the environment; it is then checked when the agent is opened.
    if form.url and not form.url.startswith(("http://", "https://", "${")):
        report.add((*path, "url"), f"{form.url!r} is no http:// or https:// address", "or ${NAME}")
    if isinstance(form, HttpForm):
        with report.at((*path, "url")):
            check_url_template(form.url)
    for name, value in form.headers.items():
        # A line break in a value would begin another header.
        if HEADER_NAME.fullmatch(name) is None or not value.isprintable():
            report.add(
                (*path, "headers", name),
                f"header {name!r} cannot be sent",
                "no line breaks, no blanks in names",
            )


def check_url_template(url: str) -> None:
    """Check a URL in which `{{ name }}` is filled in from the input. Raises CompileError."""
    fixed = re.split(r"\{[{%#]", url, maxsplit=1)[0]
    if fixed == url:
        return
    if _FIXED_HOST.match(fixed) is None:
        raise CompileError(
            "a row's values must not choose the host of the url", "https://example.org/{{ name }}"
        )
    compile_template(url)  # only for its errors: the agent compiles it again
