"""The pause that the text of an error states."""

import pytest

from service.domain.stated.pauses import pause_in_text_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 20s.", 20),
        ("Please try again in 1m2.5s", 62.5),
        ("Please retry after 6 seconds", 6),
        ("Too Many Requests: retry after 8", 8),
        ("Too Many Requests: retry after 8.", 8),
        ("retry after 2026-11-30", None),
        ("retry after 5 attempts", None),
        ("retry after 10:30", None),
        ("try later", None),
    ],
)
def test_the_pause_in_a_text(text: str, seconds: float | None) -> None:
    """Telegram states the seconds without their unit; a date or a number of something else is no pause."""
    assert pause_in_text_s(text) == seconds
