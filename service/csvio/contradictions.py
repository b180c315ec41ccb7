"""Contradictions: bytes that say another encoding than the one they are read with."""

from __future__ import annotations

import codecs
import re

from service.csvio.charset import Charset
from service.domain.errors import CsvError

_SINGLE_BYTE = re.compile(r"ascii|iso8859-\d+|cp\d+|koi8-[rtu]|tis-620|mac-\w+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SEQUENCE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_SURE_SEQUENCE = re.compile(rb"[\xc2-\xc5][\x80-\xbf]|[\xe0-\xf4][\x80-\xbf]{2}")
_UPPER_CONTROL = re.compile("[\x80-\x9f]")
_OF_WINDOWS = {
    "iso8859-1": "cp1252", "iso8859-15": "cp1252", "iso8859-2": "cp1250", "iso8859-16": "cp1250",
    "iso8859-5": "cp1251", "iso8859-7": "cp1253", "iso8859-9": "cp1254", "iso8859-8": "cp1255",
    "iso8859-6": "cp1256", "iso8859-4": "cp1257", "iso8859-13": "cp1257",
}  # fmt: skip
_LINE_ENDS = {(0x0A, 0), (0x0D, 0)}
_ASCII = 0x7F
_MANY = 3
"""Sequences of UTF-8 that other text does not have by chance."""


def fitting_encoding(raw: bytes) -> str:
    """The encoding that the beginning of a file looks like, "" if none does."""
    even, odd = raw[0::2].count(0), raw[1::2].count(0)
    if even + odd > len(raw) * 5 // 8:
        return "utf-32"
    if odd > even:
        return "utf-16-le"
    if even > odd:
        return "utf-16-be"
    for name in ("utf-8", "cp1252"):
        try:
            # The last character may be cut.
            codecs.getincrementaldecoder(name)().decode(raw)
        except UnicodeDecodeError:
            continue
        return name
    return ""


def check_sample(raw: bytes, charset: Charset) -> None:
    """Raise CsvError if the beginning of a file without byte order mark cannot be UTF-16 as configured."""
    if charset.unit == 1 or not raw:
        return
    low, high = (0, 1) if charset.name == "utf-16-le" else (1, 0)
    units = list(zip(raw[low::2], raw[high::2], strict=False))
    # A text in UTF-16 has a line end, or at least one delimiter, digit or Latin letter. In the other byte
    # order these become rare characters.
    if any(unit in _LINE_ENDS for unit in units):
        return
    is_swapped = any(unit[::-1] in _LINE_ENDS for unit in units)
    if is_swapped or not any(second == 0 and first <= _ASCII for first, second in units):
        fitting = fitting_encoding(raw)
        raise CsvError(
            f"the file is not {charset.name}: {remedy(fitting if fitting != charset.name else '')}"
        )


def check_header(text: str, raw: bytes, sample: bytes, charset: Charset) -> None:
    """Raise CsvError if a header has control characters, or is UTF-8 that is read as something else."""
    found = _CONTROL.search(text)
    if found:
        fitting = fitting_encoding(sample)
        raise CsvError(
            f"the header has the control character U+{ord(found[0]):04X}, so it is not {charset.name}: "
            f"{remedy(fitting if fitting != charset.name else '')}"
        )
    if is_misread_utf8(raw, charset):
        raise CsvError(f"the header is UTF-8, not {charset.name}: {remedy('utf-8')}")


def fitting_instead(raw: bytes, text: str, charset: Charset) -> str:
    """The encoding that the bytes of a text are in instead of the single-byte `charset`, or ""."""
    if is_misread_utf8(raw, charset):
        return "utf-8"
    # Nobody writes the control characters 0x80 to 0x9f of ISO 8859; Windows has letters and marks there.
    return _OF_WINDOWS.get(charset.name, "") if _UPPER_CONTROL.search(text) else ""


def is_misread_utf8(raw: bytes, charset: Charset) -> bool:
    """True if the bytes are UTF-8 but would be read as a single-byte encoding, as `Ã©` for `é`."""
    if raw.isascii() or not _SINGLE_BYTE.fullmatch(charset.name):
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    # Two characters of a single-byte encoding may look like one of UTF-8 by chance: `Ü»`.
    return bool(_SURE_SEQUENCE.search(raw)) or len(_SEQUENCE.findall(raw)) >= _MANY


def remedy(fitting: str) -> str:
    """The remedy for bytes that contradict the encoding; `fitting` is an encoding that would fit, or ""."""
    if fitting == "utf-32":
        return "it looks like utf-32, which is not supported; convert the file to utf-8"
    if fitting:
        return f"set csv.encoding (or --encoding) to {fitting}, which fits"
    return "set csv.encoding (or --encoding) to what the file is written in"
