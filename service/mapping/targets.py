"""The `target` of a run definition: a form per way to invoke, and what can be checked before a run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from service.domain.model import Json
from service.mapping.syntax.forms import NAME_FIELD, Form, read_form
from service.mapping.syntax.problems import CompileError, Path, Report, suggest
from service.mapping.syntax.references import check_references
from service.mapping.templates import compile_template

METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods whose requests carry no body: what the address does not take of an input becomes its query."""

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""The name of a header (RFC 9110, 5.6.2)."""

_FIXED_HOST = re.compile(r"(?:https?://[^/?#]+|\$\{[^}]+\}[^?#]*)[/?]|\$\{[^}]+\}$")
"""What stands before the first `{{` of a templated address: a row's value must not choose the host."""


class TargetForm(Form):
    """What every target has."""

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
    """A service of AWS, in the worker's region and at its endpoint unless said otherwise."""

    region: str = ""
    endpoint_url: str = ""


class BoundedForm(AwsForm):
    """A service that takes so much input and no more: what becomes of a larger one."""

    large_input: Literal["reject", "reference"] = "reject"


class LambdaForm(BoundedForm):
    """`invoke: lambda`."""

    invoke: Literal["lambda"]
    function: str = Field(min_length=1)
    qualifier: str = ""


class StepFunctionsForm(BoundedForm):
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
"""`invoke` -> its forms; the second one where the key stands that it is told by."""

_TOLD_BY = {"http": "preset", "bedrock": "agent_runtime"}


@dataclass(frozen=True, slots=True)
class Target:
    """What is invoked for a row.

    `options` are the other keys as they stand in the file, defaults included; `${NAME}` and
    `${secret:NAME}` in them are for the caller to resolve.
    """

    type: str
    name: str
    invoke: str
    options: dict[str, Json] = field(default_factory=dict)

    @property
    def max_tokens(self) -> int | None:
        """Tokens in the longest answer that `parameters` ask for, in a provider's words, if they do."""
        given = self.options.get("parameters") or {}
        given = {**given, **(given.get("inferenceConfig") or {})}
        words = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxTokens")
        return next((given[word] for word in words if isinstance(given.get(word), int)), None)


def compile_target(value: Json, report: Report, path: Path) -> Target | None:
    """None where it is wrong, with its problems in the report."""
    if not isinstance(value, dict):
        return None  # the form of the run says so
    invoke = value.get("invoke")
    if not isinstance(invoke, str) or invoke not in FORMS:
        what = f"unknown invoke {invoke!r}" if "invoke" in value else "'target.invoke' is missing"
        report.add((*path, "invoke"), what, suggest(str(invoke or ""), FORMS))
        return None
    form = read_form(FORMS[invoke][_TOLD_BY.get(invoke) in value], value, report, path)
    if form is None:
        return None
    if isinstance(form, HttpForm | ChatForm):
        _check_http(form, report, path)
    options = form.model_dump(exclude={"type", "name", "invoke"})
    for key, option in options.items():
        with report.at((*path, key)):
            check_references(option)
    return Target(form.type, form.name, invoke, options)


def _check_http(form: HttpForm | ChatForm, report: Report, path: Path) -> None:
    if form.url and not form.url.startswith(("http://", "https://", "${")):
        report.add((*path, "url"), f"{form.url!r} is no http:// or https:// address", "or ${NAME}")
    if isinstance(form, HttpForm):
        with report.at((*path, "url")):
            check_url_template(form.url)
    for name, value in form.headers.items():
        if HEADER_NAME.fullmatch(name) is None or not value.isprintable():
            report.add(
                (*path, "headers", name),
                f"header {name!r} cannot be sent",
                "no line breaks, no blanks in names",
            )


def check_url_template(url: str) -> None:
    """An address whose `{{ name }}` are filled in from the input, if it has any. Raises CompileError."""
    fixed = re.split(r"\{[{%#]", url, maxsplit=1)[0]
    if fixed == url:
        return
    if _FIXED_HOST.match(fixed) is None:
        raise CompileError(
            "a row's values must not choose the host of the url", "https://example.org/{{ name }}"
        )
    compile_template(url)
