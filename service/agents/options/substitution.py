"""Substitution of `${NAME}` and `${secret:NAME}` in a target's options, and redaction of their values.

Errors and logs show an option as it is written in the mapping file (`${AGENT_URL}/search`), never its value.
`ResolvedOptions.redact` replaces values by their references in texts that an agent sent.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from service.domain.errors import ConfigError
from service.domain.model import Json
from service.domain.redaction import Redactions
from service.mapping.syntax.problems import CompileError
from service.mapping.syntax.references import SecretReference

REFERENCE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET = "secret:"  # noqa: S105 -- the prefix, not a secret

HIDDEN = "***"
"""The mask of a credential that has no reference of its own."""

ADDRESSES = ("url", "endpoint_url")
"""Options that are addresses."""

USER_PART = re.compile(r"(?<=://)(?:\$\{[^}]*\}|[^/?#$])*(?=@)")
"""`user:password` in an address, in which references may stand."""

MIN_REDACTED_CHARS = 4
"""Shorter values (`GB`, `80`) are not redacted: they occur in any text, and are no secrets."""

Lookup = Callable[[str, str], str]
"""(text between `${` and `}`, position in the mapping for errors) -> the value to put in."""


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """The options of a target with the environment's values in them. Its repr shows no values.

    - `where` is the target's name, for errors.
    - `values` are the options to use, `written` those of the mapping file, to show.
    - `secrets` names the secrets whose references are still in `values`, until `with_secrets` resolves them.
    """

    where: str
    values: Mapping[str, Json] = field(repr=False)
    written: Mapping[str, Json] = field(repr=False)
    redactions: Redactions = field(repr=False)
    secrets: tuple[str, ...] = ()

    def allow_only(self, *known: str) -> None:
        """Raises ConfigError if there is an option with another name."""
        unknown = sorted(set(self.values) - set(known))
        if unknown:
            raise ConfigError(f"{self.where}: unknown option {unknown[0]!r} (known: {', '.join(known)})")

    def text(self, name: str, default: str | None = None) -> str:
        """A string option. Raises ConfigError if it is missing without a default, empty, or no string."""
        value = self.values.get(name, default)
        if value is None:
            raise ConfigError(f"{self.where}: {name} is missing")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{self.where}: {name} must be a text that is not empty")
        return value.strip()

    def optional_text(self, name: str) -> str:
        """A string option, "" if it is missing or empty. Raises ConfigError if it is no string."""
        return self.text(name) if self.values.get(name) else ""

    def pairs(self, name: str) -> dict[str, Json]:
        """An option of names and values, {} if it is missing. Raises ConfigError if it is no mapping."""
        value = self.values.get(name) or {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{self.where}: {name} must be name: value pairs")
        return dict(value)

    def redact(self, text: str) -> str:
        """`text` with every resolved value replaced by its reference."""
        for reference, value in self.redactions:
            text = text.replace(value, reference)
        return text

    def with_secrets(self, secrets: Mapping[str, str]) -> ResolvedOptions:
        """The options with the values of secrets put in, by the text after `secret:` in the reference."""

        def lookup(name: str, _at: str) -> str:
            # The environment was substituted before. A `${…}` left over belongs to a variable's value.
            is_secret = name.startswith(SECRET)
            return secrets.get(name.removeprefix(SECRET), f"${{{name}}}") if is_secret else f"${{{name}}}"

        values = {key: _substitute(value, key, lookup) for key, value in self.values.items()}
        found = {f"${{{SECRET}{name}}}": value for name, value in secrets.items()}
        earlier = (*self.redactions, *user_part_redactions(values))
        return replace(self, values=values, redactions=redactions_of(found, earlier), secrets=())


def resolve(options: Mapping[str, Json], *, environ: Mapping[str, str], where: str) -> ResolvedOptions:
    """Substitute variables in every string of `options`, but not in keys. Secrets are only collected.

    Raises ConfigError that names the variable and its position in the mapping, but no value.
    """
    found: dict[str, str] = {}
    secrets: dict[str, None] = {}  # a set in the order of appearance

    def lookup(name: str, at: str) -> str:
        if name.startswith(SECRET):
            secrets[_check_secret(name.removeprefix(SECRET), at)] = None
            return f"${{{name}}}"
        if not _VARIABLE_NAME.fullmatch(name):
            raise ConfigError(f"{at}: ${{{name}}} is no variable name (letters, digits and _)")
        if name not in environ:
            raise ConfigError(f"{at}: environment variable {name} is not set")
        found[f"${{{name}}}"] = environ[name]
        return environ[name]

    values = {key: _substitute(value, f"{where}: {key}", lookup) for key, value in options.items()}
    return ResolvedOptions(
        where=where,
        values=values,
        written=dict(options),
        redactions=redactions_of(found, user_part_redactions(values)),
        secrets=tuple(secrets),
    )


def _substitute(value: Json, at: str, lookup: Lookup) -> Json:
    """A copy of `value` with every reference in its strings replaced by `lookup`'s result."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: lookup(match[1], at), value)
    if isinstance(value, Mapping):
        return {key: _substitute(item, f"{at}.{key}", lookup) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_substitute(item, f"{at}[{index}]", lookup) for index, item in enumerate(value)]
    return value


def _check_secret(text: str, at: str) -> str:
    try:
        SecretReference.parse(text)
    except CompileError as error:
        raise ConfigError(f"{at}: {error.message} ({error.hint})") from None
    return text


def user_part_redactions(values: Mapping[str, Json]) -> Redactions:
    """Redactions of the users and passwords in addresses, in the form in which HTTP sends them: in Base64."""
    texts = (str(values.get(name) or "") for name in ADDRESSES)
    parts = [match[0] for text in texts for match in USER_PART.finditer(text) if "${" not in match[0]]
    return tuple(pair for part in parts for pair in basic_redactions(HIDDEN, part))


def basic_redactions(mask: str, user_part: str) -> Redactions:
    """Redactions of `user:password` in Base64, in the encodings in which HTTP clients send it."""
    encoded = {unquote(user_part).encode(name, "replace") for name in ("utf-8", "latin-1")}
    return tuple((mask, base64.b64encode(form).decode()) for form in encoded)


def redactions_of(found: Mapping[str, str], earlier: Redactions) -> Redactions:
    """`earlier`, and the values in `found` in every form in which an agent may repeat them."""
    pairs = set(earlier)
    for reference, value in found.items():
        as_json, as_url = json.dumps(value)[1:-1], quote(value, safe="")
        for form in (value, value.strip(), as_json, as_url):
            if len(form) >= MIN_REDACTED_CHARS:
                pairs.add((reference, form))
    # Longest first: a value that contains a shorter one must be replaced as a whole.
    return tuple(sorted(pairs, key=lambda pair: (-len(pair[1]), pair)))
