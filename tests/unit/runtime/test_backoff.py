"""Back-off of calls that fail one after the other."""

from service.domain.errors import AccessError
from service.runtime.backoff import Backoff


def test_the_back_off_doubles_to_thirty_seconds():
    """Pauses double from 0.5 s up to 30 s; failures during a pause count as one; a success resets it."""
    backoff, now, pauses = Backoff(), 100.0, []
    for _ in range(9):
        backoff.failed(AccessError("denied"), now)
        backoff.failed(AccessError("denied again"), now)
        pauses.append(backoff.until - now)
        now = backoff.until
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.reason == "denied again"
    assert backoff.succeeded()
    assert not backoff.succeeded()
    backoff.failed(AccessError("denied"), now)
    assert backoff.until - now == 0.5
