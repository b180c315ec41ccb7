"""Shortening text that goes into a message or a table."""


def truncate(text: str, max_chars: int) -> str:
    """`text` if it has at most `max_chars` characters, else its beginning and `…`, `max_chars` in all."""
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"
