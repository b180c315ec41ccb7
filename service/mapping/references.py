"""`${NAME}` and `${secret:NAME}`: where they may stand in a mapping, and what is one."""

from __future__ import annotations

import re

from service.mapping.problems import Flaw
from service.model import Json

_REFERENCE = re.compile(r"\$\{(?:[A-Za-z_][A-Za-z0-9_]*|secret:[A-Za-z0-9_/.+=@-]+)\}")


def check_references(option: Json) -> None:
    """An option in which references are resolved. Raises Flaw for one that is malformed."""
    texts = option.values() if isinstance(option, dict) else [option]
    for text in texts:
        if "${" in _REFERENCE.sub("", str(text)):
            raise Flaw("a ${ that is neither ${NAME} nor ${secret:NAME}")


def refuse_references(value: Json) -> None:
    """A value that is sent as it stands: a reference in it would be, too. Raises Flaw."""
    if isinstance(value, dict):
        for item in value.values():
            refuse_references(item)
    elif isinstance(value, list):
        for item in value:
            refuse_references(item)
    elif isinstance(value, str) and (found := _REFERENCE.search(value)):
        raise Flaw(
            f"{found[0]} would be sent as it stands",
            "the environment and secrets are for target.url and target.headers",
        )
