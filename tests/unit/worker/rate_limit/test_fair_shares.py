"""Max-min fairness."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.worker.rate_limit.fair_shares import max_min_shares


@given(st.integers(0, 100), st.dictionaries(st.text(max_size=3), st.integers(0, 50)), st.integers(0, 99))
def test_shares_are_fair(total, wanted, rotation) -> None:
    """All is divided or all wishes are met. A worker that wants more has at most one less than any other."""
    shares = max_min_shares(total, wanted, rotation)
    assert sum(shares.values()) == min(total, sum(wanted.values()))
    assert all(shares[name] <= wanted[name] for name in wanted)
    largest = max(shares.values(), default=0)
    assert all(shares[name] >= largest - 1 for name in wanted if shares[name] < wanted[name])


def test_the_remainder_rotates() -> None:
    """Two for four workers go to other workers in each rotation: no worker starves."""
    wanted = dict.fromkeys("abcd", 9)
    given_to = [
        sorted(worker for worker, share in max_min_shares(2, wanted, rotation).items() if share)
        for rotation in range(3)
    ]
    assert given_to == [["a", "b"], ["b", "c"], ["c", "d"]]
