"""Signature Version 4 of requests that differ in body and time only, and the clock that they are dated by."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_DATE_DIGITS = 8
_TOLERATED = timedelta(minutes=4)
"""AWS refuses a date that is more than five minutes off."""


class SigningClock:
    """The clock of this machine, and its correction by the time that AWS gave in a response."""

    def __init__(self) -> None:
        self._correction = timedelta()

    def timestamp(self) -> str:
        """The corrected time as X-Amz-Date has it: `20261118T100000Z`."""
        return (datetime.now(UTC) + self._correction).strftime(_TIMESTAMP)

    def correct(self, date: str) -> bool:
        """Take over the time in the header `Date`. False if it is no date or hardly differs."""
        try:
            correction = parsedate_to_datetime(date) - datetime.now(UTC)
        except (ValueError, TypeError):  # no date, or one without a zone
            return False
        if abs(correction - self._correction) < _TOLERATED:
            return False
        self._correction = correction
        return True


@dataclass(slots=True)
class RequestSigner:
    """Signs requests of one URL, with the same headers, by the same credentials.

    `credentials` are botocore's frozen ones. `signed` has the names of the signed headers, in lower case and
    sorted; they are among `headers`, apart from `host`, `x-amz-date` and `x-amz-security-token`.
    """

    credentials: Any
    region: str
    service: str
    url: str
    headers: Mapping[str, str]
    signed: str
    _before_date: str = field(init=False)
    _after_date: str = field(init=False)
    _key: bytes = field(init=False, default=b"")
    _key_date: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Write the canonical request up to the hash of the body, in two halves around its date."""
        place = urlsplit(self.url)
        values = {name.lower(): " ".join(value.split()) for name, value in self.headers.items()}
        values |= {"host": place.netloc, "x-amz-security-token": self.credentials.token or ""}
        before, after = self.signed.split("x-amz-date", 1)
        lines = [
            "".join(f"{name}:{values.get(name, '')}\n" for name in names.split(";") if name)
            for names in (before, after)
        ]
        self._before_date = f"POST\n{place.path or '/'}\n\n{lines[0]}x-amz-date:"
        self._after_date = f"\n{lines[1]}\n{self.signed}\n"

    def sign(self, body: bytes, timestamp: str) -> dict[str, str]:
        """The headers that date and sign a request with this body."""
        date = timestamp[:_DATE_DIGITS]
        scope = f"{date}/{self.region}/{self.service}/aws4_request"
        digest = hashlib.sha256(body).hexdigest()
        canonical = f"{self._before_date}{timestamp}{self._after_date}{digest}"
        text = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        if date != self._key_date:
            self._key, self._key_date = self._signing_key(date), date
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        added = {
            "X-Amz-Date": timestamp,
            "Authorization": f"{_ALGORITHM} Credential={self.credentials.access_key}/{scope}, "
            f"SignedHeaders={self.signed}, Signature={signature}",
        }
        if self.credentials.token:
            added["X-Amz-Security-Token"] = self.credentials.token
        return added

    def _signing_key(self, date: str) -> bytes:
        """The key of one day, which four hashes derive from the secret key."""
        key = f"AWS4{self.credentials.secret_key}".encode()
        for part in (date, self.region, self.service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key
