"""`${NAME}` and `${secret:NAME}` in a target's options: values that are used and never shown.

Errors and logs name an option as it stands in the file (`${AGENT_URL}/search`). `ResolvedOptions.redact`
turns a resolved value back into its name wherever the other side repeats it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from service.domain.errors import ConfigError
from service.domain.model import Json
from service.mapping.syntax.problems import CompileError
from service.mapping.syntax.references import SecretReference

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = "secret:"  # noqa: S105 -- the prefix, not a secret

SHORTEST_REDACTED = 4
"""Shorter values (`GB`, `80`) are words of any text, and no secrets."""

Lookup = Callable[[str, str], str]
"""The value of a reference's inside, for a place in the mapping."""


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """The options of a target, resolved. Its repr shows neither the values nor where they came from.

    `secrets` are those that still stand as references, until `with_secrets` puts them in.
    """

    place: str
    values: Mapping[str, Json] = field(repr=False)
    written: Mapping[str, Json] = field(repr=False)
    resolved: tuple[tuple[str, str], ...] = field(repr=False)
    secrets: tuple[str, ...] = ()

    def expect(self, *known: str) -> None:
        """Refuse options that this way of invoking does not have."""
        unknown = sorted(set(self.values) - set(known))
        if unknown:
            raise ConfigError(f"{self.place}: unknown option {unknown[0]!r} (known: {', '.join(known)})")

    def text(self, name: str, default: str | None = None) -> str:
        """A string option; ConfigError where it is missing, empty or something else."""
        value = self.values.get(name, default)
        if value is None:
            raise ConfigError(f"{self.place}: {name} is missing")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{self.place}: {name} must be a text that is not empty")
        return value.strip()

    def optional(self, name: str) -> str:
        """A string option that may be missing or empty: then it is ""."""
        return self.text(name) if self.values.get(name) else ""

    def table(self, name: str) -> dict[str, Json]:
        """An option of keys and values, {} where it is missing; ConfigError where it is something else."""
        value = self.values.get(name) or {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{self.place}: {name} must be name: value pairs")
        return dict(value)

    def redact(self, text: str) -> str:
        """`text` with every resolved value replaced by its reference, longest first."""
        for reference, value in self.resolved:
            text = text.replace(value, reference)
        return text

    def with_secrets(self, known: Mapping[str, str]) -> ResolvedOptions:
        """The options with the secrets' values, by what stands behind `secret:`, in their places."""

        def lookup(name: str, _at: str) -> str:
            return known[name.removeprefix(_SECRET)] if name.startswith(_SECRET) else f"${{{name}}}"

        values = {key: _walk(value, key, lookup) for key, value in self.values.items()}
        found = {f"${{{_SECRET}{name}}}": value for name, value in known.items()}
        return replace(self, values=values, resolved=_hidden(found, dict(self.resolved)), secrets=())


def resolve(options: Mapping[str, Json], *, environ: Mapping[str, str], place: str) -> ResolvedOptions:
    """Put the environment's values into every string of `options`, keys left alone.

    Secrets are collected, not fetched. Raises ConfigError naming the variable and where it stands; never the
    value of another.
    """
    found: dict[str, str] = {}
    secrets: dict[str, None] = {}

    def lookup(name: str, at: str) -> str:
        if name.startswith(_SECRET):
            secrets[_secret(name.removeprefix(_SECRET), at)] = None
            return f"${{{name}}}"
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{at}: ${{{name}}} is no variable name (letters, digits and _)")
        if name not in environ:
            raise ConfigError(f"{at}: environment variable {name} is not set")
        found[f"${{{name}}}"] = environ[name]
        return environ[name]

    values = {key: _walk(value, f"{place}: {key}", lookup) for key, value in options.items()}
    return ResolvedOptions(place, values, dict(options), _hidden(found, {}), tuple(secrets))


def _walk(value: Json, at: str, lookup: Lookup) -> Json:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: lookup(match[1], at), value)
    if isinstance(value, Mapping):
        return {key: _walk(item, f"{at}.{key}", lookup) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, f"{at}[{index}]", lookup) for index, item in enumerate(value)]
    return value


def _secret(text: str, at: str) -> str:
    try:
        SecretReference.parse(text)
    except CompileError as error:
        raise ConfigError(f"{at}: {error.message} ({error.hint})") from None
    return text


def _hidden(found: Mapping[str, str], before: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Every reference with its value as it is, and as JSON and as a URL would repeat it; longest first."""
    pairs = set(before.items())
    for reference, value in found.items():
        written = (value, value.strip(), json.dumps(value)[1:-1], quote(value, safe=""))
        pairs |= {(reference, form) for form in written if len(form) >= SHORTEST_REDACTED}
    return tuple(sorted(pairs, key=lambda pair: (-len(pair[1]), pair)))
