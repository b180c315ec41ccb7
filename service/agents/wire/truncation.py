"""Detection of JSON that ends in the middle."""

from __future__ import annotations

import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|["\[\]{}]', re.DOTALL)
"""A whole string, the quote of one without an end, or a bracket."""


def is_truncated_json(text: str) -> bool:
    """True if a text begins as a JSON object, list or string and ends before that is closed."""
    text = text.strip()
    if text[:1] not in {"{", "[", '"'}:
        return False
    depth = 0
    for match in _TOKEN.finditer(text):
        found = match[0]
        if found == '"':
            return True
        if found in {"{", "["}:
            depth += 1
        elif found in {"}", "]"}:
            depth -= 1
            if depth <= 0:
                return False
    return depth > 0
