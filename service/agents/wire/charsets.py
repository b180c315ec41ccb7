"""Character sets of replies.

A reply is UTF-8 wherever its bytes are valid UTF-8, whatever its header says: other texts are so only by rare
chance, and many servers state a default that they do not keep to. Otherwise the header's charset counts.
Bytes that fit neither are no reply: a replacement character would be a wrong value.
"""

from __future__ import annotations

import codecs
import json

from service.domain.errors import AgentRejectedError, AgentUnavailableError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WITHOUT_HIGH_BYTES = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")
"""Beginnings of the names of charsets whose bytes are often valid UTF-8, with another meaning."""

_SUPERSETS = {
    "gb2312": ("gb18030",),
    "gbk": ("gb18030",),
    "shift_jis": ("cp932",),
    "euc_kr": ("cp949",),
    "big5": ("big5hkscs",),
    "iso8859-9": ("cp1254",),
    "tis-620": ("cp874",),
}
"""Charset -> what its label means on the web (encoding.spec.whatwg.org), if a reply has more characters."""

_LATIN_1 = "iso8859-1"
_NUL = 0


def decode_reply(data: bytes, charset: str | None) -> str:
    """The bytes of a reply as text, without a byte order mark.

    `charset` is that of the header, None if it states none. Raises AgentUnavailableError for UTF-8 that ends
    within a character, and AgentRejectedError for other bytes that do not fit.
    """
    for mark, name in _BOMS:
        if data.startswith(mark) and (text := _decode(data, name)) is not None:
            return text.removeprefix("\ufeff")
    for name in _candidates(data, _codec(charset)):
        if (text := _decode(data, name)) is not None:
            return text
    if _is_cut(data):
        raise AgentUnavailableError("the reply broke off in the middle of a character")
    stated = (
        f"nor {charset}, which its header states" if charset else "and its header states no other charset"
    )
    raise AgentRejectedError(f"the reply cannot be decoded: its bytes are not UTF-8, {stated}")


def _candidates(data: bytes, stated: str) -> list[str]:
    """The charsets to try, in order."""
    names = ["utf-8"]
    if stated.startswith(_WITHOUT_HIGH_BYTES):
        # UTF-8 all the same, if it is JSON only so: UTF-16 would have a NUL in the first character.
        is_json = data.lstrip()[:1] in {b"{", b"["} and _NUL not in data
        names = (
            ["utf-8", stated] if is_json and stated.startswith(("utf-16", "utf-32")) else [stated, "utf-8"]
        )
    elif stated == _LATIN_1:
        # By the label latin-1 servers mean Windows' superset of it (encoding.spec.whatwg.org).
        names += ["cp1252", "latin-1"]
    elif stated:
        names += [stated, *_SUPERSETS.get(stated, ())]
    elif _NUL in data[:4]:
        # JSON without a charset may be UTF-16 or UTF-32 (RFC 4627).
        names.insert(0, json.detect_encoding(data))
    return names


def _codec(charset: str | None) -> str:
    """Python's name of a charset, "" if it is unknown or no charset of text."""
    try:
        name = codecs.lookup(charset or "").name
        "".encode(name)
    except (LookupError, ValueError):
        return ""
    return name


def _decode(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except (UnicodeError, LookupError):
        return None


def _is_cut(data: bytes) -> bool:
    """True for UTF-8 whose last character is incomplete, and which has another one that is not ASCII."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and not data[: error.start].isascii()
    return False
