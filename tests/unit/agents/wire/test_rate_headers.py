"""The delay that the headers of an error response state."""

import pytest

from service.agents.wire.rate_headers import retry_after_from_headers

NOW = 1_760_000_000.0  # 2025-10-09T08:53:20Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "9", "x-ratelimit-reset-requests": "1s"}, 9),
        ({"Retry-After": "Thu, 09 Oct 2025 08:53:50 GMT"}, 30),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "20ms", "X-RateLimit-Reset-Tokens": "1h2m3.5s"}, 3723.5),
        (
            {
                "x-ratelimit-reset-requests": "9s",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "2s",
                "x-ratelimit-remaining-tokens": "0",
            },
            2,
        ),
        ({"anthropic-ratelimit-requests-reset": "2025-10-09T08:53:25Z"}, 5),
        (
            {
                "anthropic-ratelimit-tokens-reset": "2025-10-09T08:54:20Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2025-10-09T09:53:20Z",
                "anthropic-ratelimit-requests-remaining": "49",
            },
            60,
        ),
        ({"x-ratelimit-reset": "1760000012"}, 12),
        ({"ratelimit-reset": "12"}, 12),
        ({"anthropic-ratelimit-requests-reset": "2025-10-09T08:00:00Z"}, 0),
        ({"Retry-After": "9s"}, 9),
        ({"Retry-After": "99999d"}, 86_400),
        ({"x-ratelimit-reset": "1760000012500"}, 12.5),
        ({"x-ratelimit-reset-after": "4.5"}, 4.5),
        ({"RateLimit": '"default";r=0;t=18'}, 18),
        ({"RateLimit": '"burst";r=3;t=2, "daily";r=0;t=60'}, 60),
        ({"RateLimit": '"default";r=3;t=18'}, None),
        ({"RateLimit": "limit=100, remaining=0, reset=14"}, 14),
        ({"RateLimit": "limit=100, remaining=7, reset=14"}, None),
        ({"RateLimit": "100"}, None),
        ({"x-ratelimit-reset-requests": "9999d"}, 86_400),
        ({"x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-reset-requests": ""}, None),
        ({"x-ratelimit-limit-requests": "60"}, None),
        ({}, None),
    ],
)
def test_the_stated_delay(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds, seconds, dates, durations and times. Resets count only for limits that are used up.

    https://platform.openai.com/docs/guides/rate-limits, https://docs.anthropic.com/en/api/rate-limits
    """
    assert retry_after_from_headers(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds))
