"""`${NAME}` in a target's options: values from the environment that are used and never shown.

Errors and logs name an option as it stands in the file (`${AGENT_URL}/search`), and `Options.redact` turns
a resolved value back into its name wherever the other side repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.errors import ConfigError
from service.model import Json

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = "secret:"  # noqa: S105 -- the prefix, not a secret

SHORTEST_REDACTED = 4
"""Shorter values (`GB`, `80`) are words of any text, and no secrets."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a target, resolved. Its repr shows neither the values nor where they came from."""

    place: str
    values: Mapping[str, Json] = field(repr=False)
    written: Mapping[str, Json] = field(repr=False)
    resolved: tuple[tuple[str, str], ...] = field(repr=False)

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

    def redact(self, text: str) -> str:
        """`text` with every resolved value replaced by its reference, longest first."""
        for reference, value in self.resolved:
            text = text.replace(value, reference)
        return text


def resolve(options: Mapping[str, Json], *, environ: Mapping[str, str], place: str) -> Options:
    """Put the environment's values into every string of `options`, keys left alone.

    Raises ConfigError naming the variable and where it stands; never the value of another.
    """
    found: dict[str, str] = {}

    def walk(value: Json, at: str) -> Json:
        if isinstance(value, str):
            return _REFERENCE.sub(lambda match: lookup(match[1], at), value)
        if isinstance(value, Mapping):
            return {key: walk(item, f"{at}.{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item, f"{at}[{index}]") for index, item in enumerate(value)]
        return value

    def lookup(name: str, at: str) -> str:
        if name.startswith(_SECRET):
            raise ConfigError(
                f"{at}: ${{{name}}}: secrets are not supported by this version yet "
                f"(hint: put the value into an environment variable and write ${{NAME}})"
            )
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{at}: ${{{name}}} is no variable name (letters, digits and _)")
        if name not in environ:
            raise ConfigError(f"{at}: environment variable {name} is not set")
        found[f"${{{name}}}"] = environ[name]
        return environ[name]

    values = {key: walk(value, f"{place}: {key}") for key, value in options.items()}
    hidden = [(name, value) for name, value in found.items() if len(value) >= SHORTEST_REDACTED]
    hidden.sort(key=lambda pair: -len(pair[1]))
    return Options(place=place, values=values, written=dict(options), resolved=tuple(hidden))
