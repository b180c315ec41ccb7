"""Masks: what stands in a call that is shown, in the place of every value that must not be seen.

Masked are every value of `${secret:…}`; a value of `${NAME}` in headers, keys, passwords and the user part of
an address; and a credential that a mapping holds itself. A mask is the reference as the mapping has it, or
`***`. A call is built from options that hold marks in the place of such values, never the values themselves,
so that no form in which a value might be sent can be overlooked. Secrets are not even read for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from service.agents.options.substitution import (
    ADDRESSES,
    HIDDEN,
    REFERENCE,
    SECRET,
    USER_PART,
    ResolvedOptions,
    basic_redactions,
    redactions_of,
)
from service.domain.model import Json
from service.domain.redaction import Redactions, redacted

_CREDENTIAL = re.compile(
    r"key|token|secret|passw|pwd|credential|auth|signature|cookie|(?:^|[_.-])(?:pass|sig|code)(?:$|[_.-])",
    re.IGNORECASE,
)
"""Names of headers, options, variables and parameters of a query whose values are taken for credentials."""

_QUERY_NAME = re.compile(r"[?&]([^=&?#]*)=[^&#]*$")
_PRIVATE_OPTIONS = frozenset({"headers", "api_key", "env"})
_FIRST_PORT = 61_000


@dataclass(slots=True)
class Marks:
    """The marks in options, each with the mask that is shown for it.

    `ports` stand in addresses only. Those in `bases` stand for scheme and host as well. `hidden` has the
    values behind the masks, as far as they are known; `named` are those of them that are credentials by their
    names or places. The others are in headers and variables, and may be no secrets.
    """

    texts: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    bases: set[str] = field(default_factory=set)
    hidden: list[tuple[str, str]] = field(default_factory=list, repr=False)
    named: list[tuple[str, str]] = field(default_factory=list, repr=False)

    def add(self, mask: str, value: str = "", *, is_named: bool = True) -> str:
        """A mark that `mask` is shown for, and that stands for `value` ("" if it is not known)."""
        if value:
            self.hidden.append((mask, value))
            if is_named:
                self.named.append((mask, value))
        # Letters and digits: the same in a URL, a header, JSON and a shell.
        mark = f"rowfleetmask{len(self.texts):04}x"
        self.texts[mark] = mask
        return mark

    def add_port(self, mask: str) -> str:
        """A mark in the place of a port."""
        mark = str(_FIRST_PORT + len(self.ports))
        self.ports[f":{mark}"] = f":{mask}"
        return mark

    def show(self, value: Json) -> Json:
        """A copy of a value built from marked options, with the masks in the place of the marks."""
        if isinstance(value, str):
            if value.startswith(("http://", "https://")):
                for mark, mask in self.ports.items():
                    value = value.replace(mark, mask, 1)
            for mark, mask in self.texts.items():
                value = value.replace(f"http://{mark}" if mark in self.bases else mark, mask)
            return value
        if isinstance(value, list):
            return [self.show(item) for item in value]
        if isinstance(value, dict):
            return {str(self.show(key)): self.show(item) for key, item in value.items()}
        return value

    @property
    def redactions(self) -> Redactions:
        """Pairs of a mask and a value that an agent may repeat, in each form."""
        return _redactions_of(self.hidden)

    @property
    def credentials(self) -> Redactions:
        """Those of the redactions that hide credentials."""
        return _redactions_of(self.named)


def _redactions_of(hidden: Iterable[tuple[str, str]]) -> Redactions:
    pairs: Redactions = ()
    for mask, value in hidden:
        pairs = redactions_of({mask: value}, pairs)
        if ":" in value:  # perhaps the user part of an address
            password = unquote(value.partition(":")[2])
            pairs = redactions_of({mask: password}, (*pairs, *basic_redactions(mask, value)))
    return pairs


@dataclass(frozen=True, slots=True)
class MaskedOptions:
    """The options of a target with marks in the place of what must not be seen."""

    options: ResolvedOptions
    marks: Marks

    def redact(self, value: Json) -> Json:
        """A copy of a value that an agent sent, with masks in the place of what it repeats."""
        return redacted(value, self.marks.redactions)


def mask_options(
    options: Mapping[str, Json], *, environ: Mapping[str, str], where: str, shows_variables: bool
) -> MaskedOptions:
    """The options with the values of variables, but for those that must not be seen.

    Unless `shows_variables`, all references stay as they are written: the call was made by another process,
    whose variables are not known. A variable that is not in `environ` stays a reference too.
    """
    marker = _Marker(environ, shows_variables=shows_variables)
    values = {name: marker.mark(value, (name,)) for name, value in options.items()}
    resolved = ResolvedOptions(where=where, values=values, written=dict(options), redactions=())
    return MaskedOptions(resolved, marker.marks)


class _Marker:
    """Puts marks into options. `marks` has all of them."""

    def __init__(self, environ: Mapping[str, str], *, shows_variables: bool) -> None:
        self.marks = Marks()
        self._environ = environ
        self._shows_variables = shows_variables

    def mark(self, value: Json, path: tuple[str, ...], before: str = "") -> Json:
        """A copy of an option's value; `before` is the item of a list before it."""
        if isinstance(value, str):
            return self._text(value, path, before)
        if isinstance(value, Mapping):
            return {name: self.mark(item, (*path, str(name))) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [
                self.mark(item, path, str(value[index - 1]) if index else "")
                for index, item in enumerate(value)
            ]
        return value

    def _text(self, text: str, path: tuple[str, ...], before: str) -> str:
        is_private = path[0] in _PRIVATE_OPTIONS
        if is_private and _CREDENTIAL.search(path[-1]) and text and REFERENCE.search(text) is None:
            return self.marks.add(HIDDEN, text)
        is_flag = before.startswith("-") and _CREDENTIAL.search(before) is not None
        is_named = is_flag or any(_CREDENTIAL.search(part) for part in path)
        is_address = path[-1] in ADDRESSES
        if is_address:
            text = USER_PART.sub(self._written_user, text)
        text = REFERENCE.sub(lambda match: self._reference(match, is_address, is_private, is_named), text)
        return self._address(text) if is_address else text

    def _reference(self, match: re.Match[str], is_address: bool, is_private: bool, is_named: bool) -> str:
        """The value of a reference, or a mark for it. `is_named`: in the place of a credential."""
        written, name = match[0], match[1]
        value = self._environ.get(name, "")
        query = _QUERY_NAME.search(match.string[: match.start()])
        is_named = (
            is_named
            or name.startswith(SECRET)
            or _CREDENTIAL.search(name) is not None
            or (query is not None and _CREDENTIAL.search(query[1]) is not None)
        )
        is_hidden = is_private or is_named
        if not is_hidden and self._shows_variables and name in self._environ:
            return value
        if is_address and re.search(r"://[^/?#]*:$", match.string[: match.start()]):
            return self.marks.add_port(written)
        return self.marks.add(written, value if is_hidden else "", is_named=is_named)

    def _written_user(self, match: re.Match[str]) -> str:
        """A mark for the user part of an address in the mapping."""
        written = match[0]
        values = REFERENCE.sub(lambda found: self._environ.get(found[1], ""), written)
        is_literal = REFERENCE.sub("", written.partition(":")[2] or written) != ""
        return self.marks.add(HIDDEN if is_literal else written, values)

    def _address(self, text: str) -> str:
        """An address in which the value of a variable may have a user part."""
        for mark in self.marks.texts:
            if text.startswith(mark):
                # The reference stands for the scheme and the host as well.
                self.marks.bases.add(mark)
                return f"http://{text}"
        return USER_PART.sub(
            lambda match: match[0] if match[0] in self.marks.texts else self.marks.add(HIDDEN, match[0]), text
        )
