"""Encodings that a file may have, and the bytes that the scanner sees for each."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from service.domain.errors import CsvError

LONGEST_BOM = 4

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which is a prefix of it; `find` refuses UTF-32
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Encodings in which an ASCII byte always is that ASCII character, by their names in Python.
_PLAIN = re.compile(
    r"ascii|utf-8|iso8859-\d+|cp(125\d|437|720|737|775|85\d|86[0-35-9]|874|1006|1125)"
    r"|koi8-[rtu]|tis-620|mac-(cyrillic|greek|iceland|latin2|roman|turkish)|euc_\w+|gb2312"
)
# Two-byte encodings. Their second byte may look like a digit, a letter or `|`, never like a quote, a line end
# or one of `, ; tab`.
_TWO_BYTE = re.compile(r"big5(hkscs)?|cp9(32|49|50)|gbk|gb18030|shift_jis")
_UTF16 = {"utf-16": "utf-16-le", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be"}

_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_BEYOND_LATIN = re.compile("[^\x00-\xff]")
_NAMED_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}


@dataclass(frozen=True, slots=True)
class Charset:
    """An encoding by its Python name. `unit`: bytes per code unit. `candidates`: delimiters to sniff for."""

    name: str
    unit: int = 1
    candidates: str = ",;\t|"

    def check_delimiter(self, text: str) -> str:
        """The delimiter that the setting `text` names. Raises CsvError if it cannot be one."""
        delimiter = _NAMED_DELIMITERS.get(text, text)
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise CsvError(
                f"csv.delimiter: {text!r} is not one ASCII character other than a quote or line end"
            )
        if "|" not in self.candidates and (delimiter >= "@" or delimiter.isdigit()):
            raise CsvError(
                f"csv.delimiter: in {self.name}, {text!r} may be half of another character; "
                "convert the file to utf-8"
            )
        return delimiter

    def extend(self, view: bytes, raw: bytes, *, at_end: bool) -> bytes:
        """The scanner's view of `raw`, one byte per code unit; `view` is the view of a prefix of `raw`.

        A UTF-16 unit above U+00FF is 0xFF in the view. Half a unit is left out unless `at_end`.
        """
        if self.unit == 1:
            return raw
        whole = len(raw) // 2 * 2
        text = raw[len(view) * 2 : whole].decode(self.name, "surrogatepass")
        if not text.isascii():
            text = _BEYOND_LATIN.sub("\xff", _ASTRAL.sub("\xff\xff", text))
        half = b"\xff" if at_end and whole < len(raw) else b""
        return view + text.encode("latin-1") + half


def find(name: str) -> Charset:
    """The charset for a user's `name`. `utf-16` without a byte order mark is little-endian.

    Raises CsvError for an unknown encoding, and for one in which bytes cannot be searched for line ends.
    """
    try:
        python_name = codecs.lookup(name).name.removesuffix("-sig")
    except (LookupError, ValueError):
        raise CsvError(f"csv.encoding: {name!r} is not a known encoding") from None
    if python_name in _UTF16:
        return Charset(_UTF16[python_name], unit=2)
    if _PLAIN.fullmatch(python_name):
        return Charset(python_name)
    if _TWO_BYTE.fullmatch(python_name):
        return Charset(python_name, candidates=",;\t")
    raise CsvError(f"csv.encoding: {name!r} is not supported; convert the file to utf-8")


def find_bom(raw: bytes) -> tuple[bytes, Charset] | None:
    """The byte order mark at the beginning of `raw`, and its charset. Raises CsvError for UTF-32."""
    for bom, name in _BOMS:
        if raw.startswith(bom):
            return bom, find(name)
    return None
