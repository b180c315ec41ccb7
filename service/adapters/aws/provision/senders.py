"""The services of AWS that a queue's policy admits."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

_OPERATORS = frozenset({"ArnEquals", "ArnLike", "StringEquals", "StringLike"})


def admits(statement: dict[str, Any], service: str, source_arn: str, account: str) -> bool:
    """True if a statement of a policy lets a service send messages on behalf of one of its resources.

    A statement with a condition on anything else than the source's ARN and account is not understood, and
    counts as one that does not.
    """
    if statement.get("Effect") != "Allow" or not _names(statement, service):
        return False
    actions = {action.lower() for action in _listed(statement.get("Action"))}
    if not actions & {"sqs:sendmessage", "sqs:*", "*"}:
        return False
    present = {"aws:sourcearn": source_arn, "aws:sourceaccount": account}
    for operator, keys in (statement.get("Condition") or {}).items():
        for key, values in keys.items():
            value = present.get(key.lower())
            if operator not in _OPERATORS or value is None:
                return False
            if not any(fnmatchcase(value, pattern) for pattern in _listed(values)):
                return False
    return True


def _names(statement: dict[str, Any], service: str) -> bool:
    principal = statement.get("Principal")
    return principal == "*" or (
        isinstance(principal, dict)
        and (service in _listed(principal.get("Service")) or "*" in _listed(principal.get("AWS")))
    )


def _listed(value: Any) -> list[str]:
    """The members of a value that a policy may give alone or in a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
