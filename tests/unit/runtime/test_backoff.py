"""Back-off of calls that fail, and lingers: longer under load, and short again after it."""

import pytest

from service.domain.errors import AccessError
from service.runtime.backoff import LINGER_GROWTH, LONGEST_LINGER_S, MAX_LINGERS, Backoff, Linger, Lingers
from service.worker.admission.commit_backlog import MAX_COMMIT_WAIT_S


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


def test_a_linger_grows_with_refusals_and_shrinks_with_success() -> None:
    """Between what is set and a bound; at one refusal in eight commits it stays about the same."""
    linger = Linger(0.2)
    assert linger.is_shortest
    linger.lengthen()
    assert linger.seconds == 0.2 * LINGER_GROWTH
    before = linger.seconds
    for _ in range(7):
        linger.shorten()
    linger.lengthen()
    assert 0.8 * before < linger.seconds < 1.2 * before
    for _ in range(50):
        linger.lengthen()
    assert linger.seconds == LONGEST_LINGER_S < MAX_COMMIT_WAIT_S
    for _ in range(50):
        linger.shorten()
    assert linger.is_shortest


@pytest.mark.parametrize("shortest_s", [0.0, 10.0])
def test_a_linger_that_is_set_to_nothing_or_to_long_stays_so(shortest_s) -> None:
    """Zero has nothing that could grow, and a long one is never shortened to the bound."""
    linger = Linger(shortest_s)
    linger.lengthen()
    assert linger.seconds == shortest_s


def test_long_lingers_are_remembered_for_some_batches() -> None:
    """A batch of which no row waits for a moment does not begin anew; the oldest is forgotten first."""
    lingers: Lingers[int] = Lingers(0.2)
    for key in range(MAX_LINGERS + 1):
        linger = lingers.take(key)
        linger.lengthen()
        lingers.put_back(key, linger)
    assert lingers.take(0).is_shortest
    assert not lingers.take(1).is_shortest
    assert lingers.take(1).is_shortest
