"""Signatures, compared with those of botocore's own signer, and the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.aws.direct.signatures import RequestSigner, SigningClock

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@given(
    secret=TEXT,
    token=st.none() | TEXT,
    url=st.sampled_from(["http://127.0.0.1:4566/", "https://sqs.eu-west-2.amazonaws.com/", "https://host"]),
    target=st.lists(TEXT, min_size=1, max_size=3).map("  ".join),
    body=st.binary(max_size=100),
    dates=st.lists(st.datetimes(timezones=st.just(UTC)), min_size=1, max_size=3),
)
def test_a_signature_is_that_of_botocore(
    secret: str, token: str | None, url: str, target: str, body: bytes, dates: list[datetime]
) -> None:
    """For any keys, headers, bodies and days."""
    credentials = ReadOnlyCredentials("AKID", secret, token)
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0", "User-Agent": "agent"}
    names = ["content-type", "host", "x-amz-date", *["x-amz-security-token"] * bool(token), "x-amz-target"]
    signer = RequestSigner(credentials, "eu-west-2", "sqs", url, headers, ";".join(names))
    theirs = SigV4Auth(credentials, "sqs", "eu-west-2")
    for date in dates:
        timestamp = date.strftime("%Y%m%dT%H%M%SZ")
        request = AWSRequest("POST", url, {**headers, "X-Amz-Date": timestamp}, body)
        if token:
            request.headers["X-Amz-Security-Token"] = token
        request.context["timestamp"] = timestamp
        text = theirs.string_to_sign(request, theirs.canonical_request(request))
        theirs._inject_signature_to_request(request, theirs.signature(text, request))
        ours = signer.sign(body, timestamp)
        assert ours["Authorization"] == request.headers["Authorization"]
        assert ours.get("X-Amz-Security-Token") == token


def dated(clock: SigningClock) -> datetime:
    """The clock's time."""
    return datetime.strptime(clock.timestamp(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@pytest.mark.parametrize("hours", [-30, 2])
def test_a_clock_is_corrected_by_a_date(hours: int) -> None:
    """It may be ahead or behind; the same date again corrects nothing."""
    clock = SigningClock()
    date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    assert clock.correct(date)
    assert abs(dated(clock) - datetime.now(UTC) - timedelta(hours=hours)) < timedelta(hours=1)
    assert not clock.correct(date)


@pytest.mark.parametrize("text", ["", "soon", "Thu, 01 Jan 2015 00:00:00 -0000"])
def test_what_is_no_date_corrects_nothing(text: str) -> None:
    """A proxy may write anything into a header."""
    clock = SigningClock()
    assert not clock.correct(text)
    assert abs(dated(clock) - datetime.now(UTC)) < timedelta(hours=1)
