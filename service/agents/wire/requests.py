"""What `invoke: http` sends for an input: the address with the input's values in it, and the body.

`{{ name }}` in `url` are filled in with fields of the input, percent-encoded. With GET, HEAD, DELETE and
OPTIONS, which carry no body, the fields that the address does not take become its query; texts as they are,
null and "" left out, everything else as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from yarl import URL

from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.replies import encode_input
from service.domain import exact_json
from service.domain.errors import AgentRejectedError, ConfigError, InputError
from service.domain.model import Json
from service.mapping.syntax.problems import CompileError
from service.mapping.targets import HEADER_NAME, METHODS_WITHOUT_BODY, check_url_template
from service.mapping.templates import TextTemplate, compile_template

_STEPS = frozenset({"", ".", ".."})
"""Segments of a path that lead somewhere else."""

_METHODS = ("POST", "PUT", "PATCH", *sorted(METHODS_WITHOUT_BODY))


def _as_it_is(body: Json) -> Json:
    return body


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """How every request looks. `shown` is the method and the URL as written in the mapping, fit for messages.

    `template` renders the address where it depends on the input; `shape` makes the body of the input.
    """

    url: URL
    shown: str
    method: str
    headers: Mapping[str, str]
    template: TextTemplate | None = None
    shape: Callable[[Json], Json] = field(default=_as_it_is)

    def fill(self, body: Json) -> tuple[URL, bytes | None]:
        """Address and payload for an input. Raises AgentRejectedError."""
        fields = body if isinstance(body, dict) else {}
        url = self.url if self.template is None else self._address(self.template, fields)
        if self.method not in METHODS_WITHOUT_BODY:
            return url, encode_input(self.shape(body))
        if not isinstance(body, dict):
            raise AgentRejectedError(f"{self.shown}: {self.method} has no body, and this input has no fields")
        used = (
            frozenset()
            if self.template is None
            else self.template.required_names | self.template.optional_names
        )
        query = urlencode(
            [(key, _text(value)) for key, value in fields.items() if key not in used and _text(value)]
        )
        if not query:
            return url, None
        separator = "&" if url.raw_query_string else "?"
        bare = str(url).partition("#")[0].removesuffix("?")
        return URL(f"{bare}{separator}{query}", encoded=True), None

    def _address(self, template: TextTemplate, fields: Mapping[str, Json]) -> URL:
        """A value must stay within the place that the mapping gives it, and fill it."""
        try:
            url = URL(template.render(fields), encoded=True)
        except (InputError, ValueError) as error:
            reason = str(error) if isinstance(error, InputError) else "the url cannot be filled in"
            raise AgentRejectedError(f"{self.shown}: {reason}") from None
        written = template.source.partition("?")[0]
        if "{" not in written:
            return url
        *inner, last = url.raw_path.split("/")[1:]
        ends_so = written.endswith("/")
        if any(part in _STEPS for part in inner) or (last in _STEPS and not (last == "" and ends_so)):
            raise AgentRejectedError(f"{self.shown}: a value is empty or a dot: it would change the path")
        return url


def http_request(options: ResolvedOptions) -> Request:
    """Raises ConfigError for options that make no request."""
    options.expect("url", "method", "headers")
    method = options.text("method", "POST").upper()
    if method not in _METHODS:
        raise ConfigError(f"{options.place}: method {method!r} is none of {', '.join(_METHODS)}")
    text = options.text("url")
    template = _template(options, text)
    url = check_url(options, re.split(r"\{[{%#]", text, maxsplit=1)[0] if template else text)
    shown = f"{method} {options.written['url']}"
    return Request(url, shown, method, check_headers(options), template)


def _template(options: ResolvedOptions, text: str) -> TextTemplate | None:
    """The address as a template where the mapping wrote one; what the environment holds is only text."""
    if "{{" not in str(options.written["url"]) and "{%" not in str(options.written["url"]):
        return None
    try:
        check_url_template(text)
        return compile_template(text, quoted=True)
    except CompileError as error:
        written = options.written["url"]
        raise ConfigError(f"{options.place}: url {written!r} is no template of an address") from error


def check_url(options: ResolvedOptions, text: str) -> URL:
    """The address of the option `url`, whose value is `text`. Raises ConfigError."""
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        url, port = URL(), None
    if url.scheme not in {"http", "https"} or not url.host or not port:
        written = options.written.get("url")
        raise ConfigError(f"{options.place}: url {written!r} is no address such as https://example.org/path")
    return url


def check_headers(options: ResolvedOptions) -> dict[str, str]:
    """The option `headers`, fit to be sent. Raises ConfigError."""
    headers: dict[str, str] = {}
    for name, value in options.table("headers").items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ConfigError(f"{options.place}: headers.{name} must be a text")
        text = str(value).strip()
        if HEADER_NAME.fullmatch(name) is None or not text.isprintable():
            raise ConfigError(f"{options.place}: headers.{name} holds characters that no header can carry")
        headers[name] = text
    return headers


def _text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else exact_json.dumps(value)
