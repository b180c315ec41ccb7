"""Character sets of replies."""

import codecs

import pytest

from service.agents.wire.charsets import decode_reply
from service.domain.errors import AgentRejectedError, AgentUnavailableError

JSON = '{"é": "日本"}'


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (JSON.encode(), None, JSON),
        (JSON.encode(), "iso-8859-1", JSON),
        (JSON.encode(), "us-ascii", JSON),
        (JSON.encode(), "utf-16", JSON),
        (JSON.encode(), "no-such-charset", JSON),
        (codecs.BOM_UTF8 + JSON.encode(), "latin-1", JSON),
        (JSON.encode("utf-16"), None, JSON),
        (JSON.encode("utf-16"), "utf-8", JSON),
        (JSON.encode("utf-16-le"), "utf-16", JSON),
        (JSON.encode("utf-16-be"), None, JSON),
        (JSON.encode("utf-32"), None, JSON),
        (JSON.encode("utf-16-le"), "utf-16le", JSON),
        (JSON.encode("shift_jis", "replace"), "shift_jis", JSON.replace("é", "?")),
        ("镕基".encode("gb18030"), "gb2312", "镕基"),
        ("①".encode("cp932"), "shift_jis", "①"),
        ("日本".encode("iso2022_jp"), "iso-2022-jp", "日本"),
        ("caf\xe9".encode("latin-1"), "ISO-8859-1", "café"),
        (b"\x93caf\xe9\x94", "iso-8859-1", "“café”"),
        ("50 €".encode("cp1252"), "windows-1252", "50 €"),
        (b"abc", "hex", "abc"),
        (b"", None, ""),
    ],
)
def test_the_text_of_a_reply(data: bytes, charset: str | None, text: str) -> None:
    """It is UTF-8 where its bytes are valid UTF-8, else of the charset that its header states."""
    assert decode_reply(data, charset) == text


@pytest.mark.parametrize(
    ("data", "charset"),
    [
        (b"caf\xe9", None),
        (b"caf\xe9", "utf-8"),
        (b"caf\xe9", "us-ascii"),
        (b"\xe9", "no-such"),
        (b"\xe9", "hex"),
    ],
)
def test_bytes_of_no_charset_are_a_failure(data: bytes, charset: str | None) -> None:
    """A replacement character would be a wrong value."""
    with pytest.raises(AgentRejectedError, match="cannot be decoded"):
        decode_reply(data, charset)


def test_a_reply_that_ends_within_a_character() -> None:
    """Beside other characters of UTF-8, the beginning of one at the end is a reply that broke off."""
    with pytest.raises(AgentUnavailableError, match="middle of a character"):
        decode_reply('{"é": "日'.encode()[:-1], None)
