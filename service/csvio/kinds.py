"""Kinds of files that are no CSV, whatever they are called, told by their first bytes."""

from __future__ import annotations

import re

from service.domain.errors import CsvError

PREFIX_BYTES = 16 * 1024
_FIRST_PRINTABLE = 0x20

_MAGIC = (
    (b"\x1f\x8b", "a gzip file", "name it .csv.gz, or decompress it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "name it .csv.zst, or decompress it"),
    (b"BZh", "a bzip2 file", "decompress it"),
    (b"\xfd7zXZ\x00", "an xz file", "decompress it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (b"%PDF-", "a PDF document", "export its table as CSV"),
    (b"{\\rtf", "an RTF document", "save its table as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Office file", "save it as CSV in the spreadsheet"),
    (b"PAR1", "a Parquet file", "convert it to CSV"),
    (b"Obj\x01", "an Avro file", "convert it to CSV"),
    (b"ORC", "an ORC file", "convert it to CSV"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"\x89PNG\r\n", "a PNG image", "name another file"),
    (b"\xff\xd8\xff", "a JPEG image", "name another file"),
    (b"GIF8", "a GIF image", "name another file"),
    (b"ARROW1", "an Arrow file", "convert it to CSV"),
)
_TEXTS = (
    (re.compile(r"<!doctype html|<(?:html|head|body|table|script|div|meta)\b", re.IGNORECASE), "an HTML page",
     "it may be the error or log-in page of a download"),
    (re.compile(r"version https://git-lfs\.|/annex/objects/"), "a pointer of Git LFS or git-annex",
     "fetch the file that it stands for"),
    (re.compile(r"-----BEGIN [A-Z ]+-----"), "an encrypted or signed text", "decrypt it"),
    (re.compile(r"MIME-Version:", re.IGNORECASE), "a web archive or an e-mail", "save its table as CSV"),
    (re.compile(r"<\?xml|<!--"), "an XML document", "convert it to CSV"),
    (re.compile(r"\{\s*(?:\"|\}|$)"), "JSON or JSON lines", "convert it to CSV"),
    (re.compile(r"\[\s*(?:[{\[]|\]\s*$|$)"), "a JSON list", "convert it to CSV"),
    (re.compile(r"(?=[^\r\n]*\|)[^\r\n]*+(?:\r\n|\n|\r)"  # a line with |, and one of nothing but lines
                r"(?=[^\r\n]*-)(?=[ \t]*\||[^\r\n]*(?:--|:-|-:))(?=[^\r\n]*[|+])[ \t|+:-]+(?:[\r\n]|$)"
                r"|\+-[-+]*\+[ \t]*(?:\r\n|\n|\r)\|"),
     "a table drawn with lines, as in Markdown", "export it as CSV"),
)  # fmt: skip
_SPREADSHEET = re.compile(rb"\[Content_Types\]\.xml|xl/|_rels/")


def check_kind(raw: bytes) -> None:
    """Raise CsvError that names the kind of a file that is no CSV; `raw` is its beginning."""
    for magic, kind, remedy in _MAGIC:
        # "ORC" and "BZh" alone could begin a header; a binary file is not readable text.
        if raw.startswith(magic) and (len(magic) > 3 or _is_binary(raw)):  # noqa: PLR2004 -- above
            raise CsvError(f"the file is {kind}, no CSV: {remedy}")
    if raw.startswith(b"PK\x03\x04"):
        if b"mimetypeapplication/vnd.oasis" in raw:
            raise CsvError("the file is an OpenDocument file, no CSV: save it as CSV in the spreadsheet")
        if _SPREADSHEET.search(raw):
            raise CsvError("the file is an Excel workbook (xlsx), no CSV: save it as CSV in the spreadsheet")
        raise CsvError("the file is a zip archive, no CSV: unpack it")


def check_text(text: str) -> None:
    """Raise CsvError that names the kind of a text that is no CSV; `text` is its beginning."""
    beginning = text.lstrip("\ufeff \t\r\n")
    for pattern, kind, remedy in _TEXTS:
        if pattern.match(beginning):
            raise CsvError(f"the file is {kind}, no CSV: {remedy}")


def _is_binary(raw: bytes) -> bool:
    return any(byte < _FIRST_PRINTABLE and byte not in b"\t\r\n" for byte in raw)
