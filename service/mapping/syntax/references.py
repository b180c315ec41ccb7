"""References in the options of a target: `${NAME}` and `${secret:NAME}`.

| reference | the value |
| --- | --- |
| `${NAME}` | an environment variable |
| `${secret:NAME}`, `${secret:secretsmanager:NAME}` | a secret of AWS Secrets Manager, by name or ARN |
| `${secret:ssm:/path}` | a parameter of the Systems Manager Parameter Store, decrypted |
| `${secret:file:/run/secrets/x}` | a file's text |
| `${secret:env:NAME}` | an environment variable that is treated as a secret |

`#key` after a secret's name selects one key of a secret that is a JSON object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.domain.model import Json
from service.mapping.syntax.problems import CompileError

SECRET_SOURCES = ("secretsmanager", "ssm", "file", "env")
"""The stores that a secret can be read from. The first is the default."""

_REFERENCE = re.compile(r"\$\{(?:[A-Za-z_][A-Za-z0-9_]*|secret:[A-Za-z0-9_/.+=@:-]+(?:#[A-Za-z0-9_.-]+)?)\}")
_SECRET = re.compile(r"\$\{secret:([^}]*)\}")


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A secret: the store it is in, its name there, and the key in its JSON ("" for the whole secret)."""

    source: str
    name: str
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> SecretReference:
        """Parse the text after `secret:`. Raises CompileError."""
        whole, _, key = text.partition("#")
        source, colon, name = whole.partition(":")
        if not colon or source == "arn":
            # A plain name or an ARN (arn:aws:secretsmanager:…), which has colons of its own.
            source, name = SECRET_SOURCES[0], whole
        if source not in SECRET_SOURCES:
            raise CompileError(
                f"${{secret:{text}}}: no source {source!r} of secrets",
                f"there are {', '.join(SECRET_SOURCES)}",
            )
        # The second test finds an empty key: `NAME#`.
        if not name or whole + ("#" + key if key else "") != text:
            raise CompileError(f"${{secret:{text}}} names no secret", "${secret:NAME} or ${secret:NAME#key}")
        return cls(source, name, key)


def check_references(option: Json) -> None:
    """Check the references in an option, at any depth. Raises CompileError for a malformed one."""
    if isinstance(option, dict | list):
        for item in option.values() if isinstance(option, dict) else option:
            check_references(item)
    elif isinstance(option, str):
        if "${" in _REFERENCE.sub("", option):
            raise CompileError("a ${ that is neither ${NAME} nor ${secret:NAME}")
        for found in _SECRET.findall(option):
            SecretReference.parse(found)


def reject_references(value: Json) -> None:
    """Raise CompileError for a reference in a value that is sent as written, without being resolved."""
    if isinstance(value, dict):
        for item in value.values():
            reject_references(item)
    elif isinstance(value, list):
        for item in value:
            reject_references(item)
    elif isinstance(value, str) and (found := _REFERENCE.search(value)):
        raise CompileError(
            f"{found[0]} would be sent as it stands",
            "the environment and secrets are for the options of target",
        )
