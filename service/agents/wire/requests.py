"""Requests of `invoke: http`: the URL with the input's values in it, and the body.

`{{ name }}` in `url` is replaced by the input's field, percent-encoded. GET, HEAD, DELETE and OPTIONS carry
no body: fields that are not used in the URL become its query. Strings go in as they are, null and "" are
omitted, everything else is written as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from multidict import CIMultiDict, istr
from yarl import URL

from service import __version__
from service.agents.options.calls import shown_payload
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.content_encoding import ACCEPTED
from service.agents.wire.event_stream import MEDIA_TYPE
from service.agents.wire.replies import encode_input
from service.domain import exact_json
from service.domain.errors import AgentRejectedError, ConfigError, InputError
from service.domain.model import Json
from service.domain.ports import Invocation
from service.mapping.syntax.problems import CompileError
from service.mapping.targets import HEADER_NAME, METHODS_WITHOUT_BODY, check_url_template
from service.mapping.templates import TextTemplate, compile_template

_DOT_SEGMENTS = frozenset({"", ".", ".."})
"""Path segments that lead to another path: servers remove dots (RFC 3986, 5.2.4) and often empty segments."""

_METHODS = ("POST", "PUT", "PATCH", *sorted(METHODS_WITHOUT_BODY))


_ROW_HEADER = istr("Idempotency-Key")
_ACCEPT = f"application/json, {MEDIA_TYPE};q=0.9, text/*;q=0.9, */*;q=0.5"


def _unchanged(body: Json) -> Json:
    return body


@dataclass(frozen=True, slots=True, repr=False)
class HttpCall:
    """One HTTP request. `headers` are those of this row, `common_headers` those of all rows of the target.

    The HTTP client adds `Host`, `Content-Length`, and `Authorization` for a user in the URL.
    """

    method: str
    url: URL
    common_headers: Mapping[str, str]
    headers: Mapping[str, str]
    payload: bytes | None

    def as_json(self) -> dict[str, Json]:
        """The call to show; `body` is null for a method without one."""
        headers = CIMultiDict(self.common_headers)
        headers.update(self.headers)
        return {
            "method": self.method,
            "url": str(self.url),
            "headers": dict(headers),
            "body": shown_payload(self.payload),
        }


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """The request of a target, to be rendered for each input.

    `label` is the method and the URL as written in the mapping, for errors. `headers` are those of the
    mapping, `common_headers` all that every row sends. `template` renders the URL if it depends on the input.
    `make_body` turns an input into the body.
    """

    url: URL
    label: str
    method: str
    headers: Mapping[str, str]
    template: TextTemplate | None = None
    make_body: Callable[[Json], Json] = field(default=_unchanged)
    common_headers: Mapping[str, str] = field(init=False)
    _names_rows: bool = field(init=False)

    def __post_init__(self) -> None:
        # Defaults; the target's own headers of the same name replace them.
        headers = CIMultiDict(
            {"User-Agent": f"rowfleet/{__version__}", "Accept": _ACCEPT, "Accept-Encoding": ACCEPTED}
        )
        if self.method not in METHODS_WITHOUT_BODY:
            headers["Content-Type"] = "application/json"
        headers.update(self.headers)
        object.__setattr__(self, "common_headers", headers)
        object.__setattr__(self, "_names_rows", _ROW_HEADER in headers)

    async def call(self, invocation: Invocation) -> HttpCall:
        """The call for an input. Raises AgentRejectedError."""
        url, payload = self.render(invocation.body)
        headers: dict[str, str] = {} if self._names_rows else {_ROW_HEADER: invocation.id}
        return HttpCall(self.method, url, self.common_headers, headers, payload)

    def render(self, body: Json) -> tuple[URL, bytes | None]:
        """URL and body for an input; None without a body. Raises AgentRejectedError."""
        fields = body if isinstance(body, dict) else {}
        url = self.url if self.template is None else self._render_url(self.template, fields)
        if self.method not in METHODS_WITHOUT_BODY:
            return url, encode_input(self.make_body(body))
        if not isinstance(body, dict):
            raise AgentRejectedError(f"{self.label}: {self.method} has no body, and this input has no fields")
        return self._add_query(url, fields), None

    def _add_query(self, url: URL, fields: Mapping[str, Json]) -> URL:
        used: frozenset[str] = frozenset()
        if self.template is not None:
            used = self.template.required_names | self.template.optional_names
        texts = {name: _text(value) for name, value in fields.items() if name not in used}
        query = urlencode({name: text for name, text in texts.items() if text})
        if not query:
            return url
        separator = "&" if url.raw_query_string else "?"
        # A fragment is never sent, and a query behind it would be lost.
        base = str(url).partition("#")[0].removesuffix("?")
        return URL(f"{base}{separator}{query}", encoded=True)

    def _render_url(self, template: TextTemplate, fields: Mapping[str, Json]) -> URL:
        """The URL for an input. Raises AgentRejectedError if a value is missing or would change the path.

        With an empty value or a dot, `DELETE /items/{{ id }}` would address all items or another collection.
        """
        try:
            url = URL(template.render(fields), encoded=True)
        except (InputError, ValueError) as error:
            reason = str(error) if isinstance(error, InputError) else "the url cannot be filled in"
            raise AgentRejectedError(f"{self.label}: {reason}") from None
        written_path = template.source.partition("?")[0]
        if "{" not in written_path:
            return url
        *inner, last = url.raw_path.split("/")[1:]
        is_trailing_slash = last == "" and written_path.endswith("/")
        if any(part in _DOT_SEGMENTS for part in inner) or (last in _DOT_SEGMENTS and not is_trailing_slash):
            raise AgentRejectedError(f"{self.label}: a value is empty or a dot: it would change the path")
        return url


def http_request(options: ResolvedOptions) -> Request:
    """The requests of a target without a preset. Raises ConfigError."""
    options.allow_only("url", "method", "headers")
    method = options.text("method", "POST").upper()
    if method not in _METHODS:
        raise ConfigError(f"{options.where}: method {method!r} is none of {', '.join(_METHODS)}")
    text = options.text("url")
    template = _compile_url(options, text)
    fixed_part = re.split(r"\{[{%#]", text, maxsplit=1)[0] if template else text
    return Request(
        url=check_url(options, fixed_part),
        label=f"{method} {options.written['url']}",
        method=method,
        headers=check_headers(options),
        template=template,
    )


def _compile_url(options: ResolvedOptions, text: str) -> TextTemplate | None:
    """The template of the URL, None if the mapping wrote none. Raises ConfigError."""
    # Braces in the value of an environment variable are text, so the URL as written decides.
    if "{{" not in str(options.written["url"]) and "{%" not in str(options.written["url"]):
        return None
    try:
        check_url_template(text)
        return compile_template(text, percent_encoded=True)
    except CompileError as error:
        written = options.written["url"]
        raise ConfigError(f"{options.where}: url {written!r} is no template of an address") from error


def check_url(options: ResolvedOptions, text: str) -> URL:
    """The URL `text`, the value of the option `url`. Raises ConfigError unless it is http(s) with a host."""
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        url, port = URL(), None
    if url.scheme not in {"http", "https"} or not url.host or not port:
        # Shown as written: the value may hold a password.
        written = options.written.get("url")
        raise ConfigError(f"{options.where}: url {written!r} is no address such as https://example.org/path")
    return url


def check_headers(options: ResolvedOptions) -> dict[str, str]:
    """The option `headers` as strings. Raises ConfigError if a name or value cannot be sent."""
    headers: dict[str, str] = {}
    for name, value in options.pairs("headers").items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ConfigError(f"{options.where}: headers.{name} must be a text")
        text = str(value).strip()
        # A line break in a value would let it add headers of its own.
        if HEADER_NAME.fullmatch(name) is None or not text.isprintable():
            raise ConfigError(f"{options.where}: headers.{name} holds characters that no header can carry")
        headers[name] = text
    return headers


def _text(value: Json) -> str:
    """A value in a query."""
    if value is None:
        return ""
    return value if isinstance(value, str) else exact_json.dumps(value)
