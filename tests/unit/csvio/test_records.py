"""Files and records that are refused in words, and a failures.csv that is safe to run again."""

import base64
import codecs

import pytest

from service.csvio import (
    CsvReader,
    Layout,
    Record,
    byte_order_mark,
    encode_row,
    failure_header,
    failure_line,
    row_data,
)
from service.domain.errors import CsvError
from service.domain.model import Outcome, RowError, Status


def read(data: bytes, **options: object) -> tuple[CsvReader, list[Record]]:
    reader = CsvReader(**options)
    return reader, reader.feed(data) + reader.close()


def refusal(data: bytes, **options: object) -> str:
    with pytest.raises(CsvError) as caught:
        read(data, **options)
    return str(caught.value)


def failed(reader: CsvReader, record: Record, text: str = "") -> Outcome:
    raw = base64.b64encode(record.raw).decode()
    error = RowError("BadRecordError" if record.defect else "InputError", record.defect or text)
    data = row_data(reader.header.columns, record.cells, raw)
    return Outcome(record.number, 1, Status.FAILED, data, {}, 0, "2026-01-01T00:00:00Z", error=error)


def failures(data: bytes, text: str = "no", **options: object) -> bytes:
    """The failures.csv of a run in which each row fails."""
    reader, records = read(data, **options)
    columns, dialect = reader.header.columns, reader.header.dialect
    header = byte_order_mark(dialect) + encode_row(failure_header(columns), dialect)
    lines = [failure_line(failed(reader, record, text), columns, dialect) for record in records]
    return header + b"".join(lines)


RAGGED = b"id,address,postcode\n1,Here,AB1\n2,Flat 2, 5 High Street,AB1 2CD\n3,There,AB2\n"
REFUSED = {
    "unquoted comma": (RAGGED, b"2,Flat 2, 5 High Street,AB1 2CD"),
    "one column": (b"text\nHello, world\n", b"Hello, world"),
    "too few cells": (b"a,b,c\nx,y\n1,2,3\n", b"x,y"),
    "cp1252": (b"a,b\n1,caf\xe9\n", b"1,caf\xe9"),
    "semicolons": (b"a;b\n1;2;3\n", b"1;2;3"),
    "missing quote": (b'a,b,c\n1,"Ann,x\n2,Bob,y\n3,"Cy",z\n', b'1,"Ann,x\n2,Bob,y\n3,"Cy",z'),
    "inch": (b'a,b\n1,"27" monitor"\n', b'1,"27" monitor"'),
    "utf-16": (b"\xff\xfe" + "a,b\n1,2,3\n".encode("utf-16-le"), "1,2,3".encode("utf-16-le")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_records_come_back_as_they_were(name: str):
    """A refused record keeps its bytes in failures.csv, and is refused again for the same reason."""
    data, line = REFUSED[name]
    first = failures(data)
    assert line in first
    _, records = read(first)
    assert any(record.raw == line and record.defect for record in records)
    assert {record.defect for record in records if record.raw == line} == {
        record.defect for record in read(data)[1] if record.raw == line
    }
    second = failures(first)
    assert line in second
    assert second.count(b"_error") == first.count(b"_error")


@pytest.mark.parametrize(
    "row",
    [
        b'2,Flat 2, 5 High Street,AB1,2,"BadRecordError: 4 cells"',
        b"2,Flat 2, 5 High Street,7,2,BadRecordError",
        b"2,Flat 2, 5 High Street,AB1,2,AgentTimeoutError: x",
    ],
)
def test_a_row_whose_cells_a_spreadsheet_moved_is_refused(row: bytes):
    """A spreadsheet pads the header; then the error lies under no name, or a text under `_row`."""
    data = b"id,address,postcode,_row,_error,\r\n1,Here,AB1,1,,\r\n" + row + b"\r\n3,There,AB2,3.0,,\r\n"
    assert [bool(record.defect) for record in read(data)[1]] == [False, True, False]


def test_a_refused_record_runs_once_its_error_is_cleared():
    """Only a corrected record whose `_error` is empty is no longer refused."""
    mended = failures(RAGGED, "x").replace(b"Flat 2, 5 High Street", b'"Flat 2, 5 High Street"')
    _, records = read(mended)
    assert [bool(record.defect) for record in records] == [False, True, False]
    begin = mended.index(b',"BadRecordError')
    cleared = mended[:begin] + b",\r\n" + mended[mended.index(b"\r\n", begin) + 2 :]
    _, records = read(cleared)
    assert records[1].cells == ("2", "Flat 2, 5 High Street", "AB1 2CD", "2", "")
    assert not records[1].defect


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("a;b\r\né;1,5\r\n".encode("cp1252"), {"encoding": "cp1252"}),
        ("\ufeffa\tb\né\tx,y\n".encode("utf-16-le"), {}),
        (b"a^b\n1;2^x,y\n", {"delimiter": "^"}),
        (b'a,b\n"x\\"y",c\\\\d\n', {"layout": Layout(escape="\\")}),
        (b"title\n\na,b\n1,2\n", {"layout": Layout(skip_lines=2)}),
        (b"1,2\n3,4\n", {"layout": Layout(columns=("a", "b"))}),
        (b"a,b\n#x,y\n1,2\n", {"layout": Layout(comment="#")}),
    ],
)
def test_failures_are_read_with_the_settings_of_the_input(data: bytes, options: dict):
    """failures.csv has encoding, delimiter and escapes of the input, and is read with the same settings."""
    reader, records = read(data, **options)
    again, repeated = read(failures(data, **options), **options)
    assert again.header.columns == (*reader.header.columns, "_row", "_error")
    assert [record.cells[:-2] for record in repeated] == [record.cells for record in records]
    assert not any(record.defect for record in repeated)


def test_rows_without_their_cells_do_not_run_again():
    """A row of failures.csv whose cells are cut or absent is refused: other cells would be sent."""
    _, records = read(
        b"a,b,_row,_error\n"
        b",,7,SourceError: the message was lost\n"
        b"xx,y,8,RowTooLargeError: no (cells longer than 2 characters are cut in the results)\n"
        b"x,y,9,AgentRejectedError: no\n"
    )
    assert ["run again from here" in record.defect for record in records] == [True, True, False]


def test_a_column_row_of_the_user_is_kept():
    """`_row` is ours only beside `_error`; otherwise it is renamed, and a note says so."""
    reader, _ = read(b"_row,a\n1,2\n")
    assert reader.header.columns == ("_row_2", "a")
    assert reader.header.notes


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b'a,b\n1,"Ann\n2,Bob\n3,"Cy"\n4,x\n', "lines 2 to 4"),
        (b'a,b\n1,"27" monitor"\n', "line 2"),
        (b'a,b\n1,"say \\"hi\\""\n', 'set csv.escape: "\\\\"'),
        (b'a,b,c\n1,"Ann\n2,",x"\n', "a record of several lines"),
        (b'a,b,c\n1, "x, y"\n', "2 cells, the header has 3"),
        (b'a,b,c\n1, "x, y\n', "a blank before an opening quote"),
        (b'a,b,c\n1, "x, y" z\n', "a blank before an opening quote"),
        (b'a,b,c\n1,Ann",x\n', "a closing quote without an opening one"),
    ],
)
def test_doubtful_quotes(data: bytes, lines: str):
    """Text after a closing quote, which a missing quote leads to, is a defect that names its lines."""
    assert lines in read(data)[1][0].defect


@pytest.mark.parametrize(
    "cells",
    [b'"a, b","c"', b' "a, b" , "c"', b'"a, b"  , "c" ', b'"a, b",\t"c"', b' "a, b",c', b'\xc2\xa0"a, b",c'],
)
def test_blanks_around_quoted_cells(cells: bytes):
    """Blanks around the quotes of a cell are no part of it, as in `1, "x"`."""
    _, (record,) = read(b"a,b\n" + cells + b"\n")
    assert (record.cells, record.defect) == (("a, b", "c"), "")


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('1, "x, y"', ("1", "x, y")),
        ('1, "x, ""y"""', ("1", 'x, "y"')),
        (' "1, 2" ,\t"x" ', ("1, 2", "x")),
        ('1, ""', ("1", "")),
        ('1, "a" and "b"', ("1", ' "a" and "b"')),
        ('1, ""x""', ("1", ' ""x""')),
    ],
)
def test_a_blank_before_a_quoted_cell(text: str, cells: tuple[str, ...], size: int):
    """A cell that is quoted but for blanks around it may have delimiters; any other text stays what it is."""
    data = f"a,b\n{text}\n3,4\n".encode()
    reader = CsvReader()
    records = [r for at in range(0, len(data), size) for r in reader.feed(data[at : at + size])]
    assert [(r.cells, r.defect) for r in records + reader.close()] == [(cells, ""), (("3", "4"), "")]


def test_a_blank_before_a_quote_opens_no_line():
    """A quote after a blank that has no end in its line is refused, and swallows no line."""
    _, records = read(b'a,b\n1, "x\ny", 2\n3,4\n')
    assert [bool(record.defect) for record in records] == [True, True, False]


@pytest.mark.parametrize("text", ['27" monitor', "6'2\"", '24 x 36"', ' "hi" and "bye"', '5″ "'])
def test_quotes_that_are_text(text: str):
    """Inches and quotes in the middle of a cell without quotes stay as they are."""
    _, (record,) = read(f"a,b\n1,{text}\n".encode())
    assert (record.cells, record.defect) == (("1", text), "")


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("middle", ['foo,bar\nbaz"', '{\n\\"a\\"\n)}"', '\\"x\\""', 'a\\\\"'])
def test_no_line_of_a_record_with_backslashes_is_a_record(middle: str, size: int):
    r"""A `\"` inside a quoted cell refuses the record as its writer meant it, to its last line."""
    data = f'a,b\n1,"He said \\"x\\"\n{middle}\n2,ok\n3,"say \\"hi\\""\n4,"C:\\dir\\"\n'.encode()
    reader = CsvReader()
    records = [r for at in range(0, len(data), size) for r in reader.feed(data[at : at + size])]
    records += reader.close()
    assert [r.cells for r in records if not r.defect] == [("2", "ok"), ("4", "C:\\dir\\")]
    assert [r.number for r in records if "csv.escape" in r.defect] == [1, 3]


def test_a_joined_file_begins_again():
    """A byte order mark begins a file that was joined to another; its header is no row."""
    mark = b"\xef\xbb\xbf"
    _, records = read(mark + b"a,b\n1,x\n" + mark + b"a,b\n2,y\n" + mark + b'"3",z\n')
    assert [r.cells for r in records if not r.defect] == [("1", "x"), ("2", "y"), ("3", "z")]
    assert "the header once more (line 3)" in records[1].defect


def test_a_value_that_is_the_name_of_the_only_column():
    """A file of one column may have its name as a value."""
    assert [record.defect for record in read(b"a\na\n")[1]] == [""]


def test_escapes():
    r"""With `csv.escape`, `\"` does not end a cell, and `\\` is a backslash; doubled quotes work as well."""
    data = b'a,b\n"say \\"hi\\", then ""go""",x\n"C:\\\\dir\\\\","\\n"\ny\\,z,\\"w\n'
    _, records = read(data, layout=Layout(escape="\\"))
    assert [record.cells for record in records] == [
        ('say "hi", then "go"', "x"), ("C:\\dir\\", "\\n"), ("y,z", '"w'),
    ]  # fmt: skip
    assert not any(record.defect for record in records)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_escapes_over_chunks(size: int):
    """An escape at the end of a chunk belongs to the character that follows."""
    data = b'a,b\n"x\\"",1\n"\\\\",2\n' * 30
    layout = Layout(escape="\\")
    reader = CsvReader(layout=layout)
    records = [r for at in range(0, len(data), size) for r in reader.feed(data[at : at + size])]
    assert records + reader.close() == read(data, layout=layout)[1]


ENCODINGS = {
    "UTF-8 read as UTF-16": ("a,b\n1,é\n".encode(), {"encoding": "utf-16"}, "to utf-8"),
    "UTF-16 without mark": ("a,b\n1,2\n".encode("utf-16-le"), {}, "to utf-16-le"),
    "big-endian UTF-16 without mark": ("a,b\n1,2\n".encode("utf-16-be"), {}, "to utf-16-be"),
    "the other byte order": ("a,b\n1,2\n".encode("utf-16-be"), {"encoding": "utf-16"}, "to utf-16-be"),
    "UTF-16 read as cp1252": ("a,b\n1,2\n".encode("utf-16-le"), {"encoding": "cp1252"}, "to utf-16-le"),
    "UTF-8 header read as cp1252": ("größe,b\n1,2\n".encode(), {"encoding": "cp1252"}, "to utf-8"),
    "a control character": (b"a\x01,b\n1,2\n", {}, "U+0001"),
    "cp1252 read as UTF-8": ("größe,b\n".encode("cp1252"), {}, "to cp1252"),
    "UTF-32": ("a,b\n1,2\n".encode("utf-32-le"), {}, "utf-32"),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_bytes_that_contradict_the_encoding(name: str):
    """The file fails, with the encoding that would fit."""
    data, options, hint = ENCODINGS[name]
    assert hint in refusal(data, **options)


@pytest.mark.parametrize(("name", "fitting"), [("latin-1", "cp1252"), ("iso8859-2", "cp1250")])
def test_windows_letters_read_as_iso_8859(name: str, fitting: str):
    """Quotes and dashes of Windows are control characters in ISO 8859, which no text has."""
    _, records = read("a,b\n1,“x”\n2,Zoë\n".encode("cp1252"), encoding=name)
    assert f"set csv.encoding to {fitting}" in records[0].defect
    assert not records[1].defect


def test_utf8_records_read_as_a_single_byte_encoding():
    """A record in UTF-8 is not sent as mojibake; text of the single-byte encoding is."""
    _, records = read("a,b\n1,Zoë\n".encode(), encoding="cp1252")
    assert "set csv.encoding to utf-8" in records[0].defect
    _, records = read("a,b\n1,MENÜ»\n2,Zoë\n".encode("cp1252"), encoding="cp1252")
    assert [record.cells[1] for record in records] == ["MENÜ»", "Zoë"]


KINDS = {
    "gzip": b"\x1f\x8b\x08\x00abc",
    "zip": b"PK\x03\x04\x14\x00file.txt",
    "xlsx": b"PK\x03\x04\x14\x00\x06\x00[Content_Types].xml",
    "JSON": b'{"id": 1, "name": "x"}\n{"id": 2}\n',
    "JSON list": b'[{"id": 1}]',
    "HTML": b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n",
    "PDF": b"%PDF-1.7\n",
    "Parquet": b"PAR1\x15\x04",
    "XML": b'<?xml version="1.0"?>\n<Error/>',
    "Zstandard": b"\x28\xb5\x2f\xfd\x00",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
    "encrypted": b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n",
    "web archive": b"MIME-Version: 1.0\nContent-Type: multipart/related\n",
    "Excel": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
}


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_of_files(name: str):
    """A file that is no CSV fails with its kind."""
    text = refusal(KINDS[name])
    assert name in text or name.replace(" ", " ").lower() in text.lower()


@pytest.mark.parametrize(
    "header", [b"{id},b", b"[id],[name]", b"<id>,b", b"ORCA,b", b"PKG,b", b"BZh,c", b"version,b", b"MIME,b"]
)
def test_headers_that_only_look_odd(header: bytes):
    """A header that begins with a bracket or letters of a magic number is a header."""
    read(header + b"\n1,2\n")


def test_a_title_above_the_header():
    """It would make a single column of the table, and a value of its header."""
    table = "Prices of 2025-01-06\nid;name;price\n1;Eni;1,85\n2;IP;1,90\n"
    assert "csv.skip_lines: 1" in refusal(table.encode())


@pytest.mark.parametrize(
    "text",
    [
        "text\nHello; you\nBye; you\n",
        "text\na;b;c\n",
        "text\na;b;c\nd\n",
        "text\na;b;c\nd;e\n",
        "c0\nv0\na;b\n",
    ],
)
def test_a_column_of_texts_with_semicolons_has_no_title(text: str):
    """Too few or different numbers of cells are texts, as is a column whose delimiter is stated."""
    _, records = read(text.encode())
    assert [list(record.cells) for record in records] == [[line] for line in text.split("\n")[1:-1]]
    _, records = read(b"text\na;b;c\nd;e;f\n", delimiter=",")
    assert [record.cells[0] for record in records] == ["a;b;c", "d;e;f"]


@pytest.mark.parametrize(
    "data",
    [
        b"id,t\n1,\xed\xa0\xbd\n2,\xf0\x9f\x98\x80\n",
        codecs.BOM_UTF16_LE + "id,t\n1,\ud83d\n2,\U0001f600\n".encode("utf-16-le", "surrogatepass"),
        codecs.BOM_UTF16_BE + "id,t\n1,\ude00\n2,\U0001f600\n".encode("utf-16-be", "surrogatepass"),
    ],
    ids=["utf-8", "utf-16-le", "utf-16-be"],
)
def test_half_of_a_character_is_no_text(data: bytes):
    """No cell that is sent holds one: its record is refused, and the others are read."""
    _, (damaged, whole) = read(data)
    assert "set csv.encoding" in damaged.defect
    assert whole.cells == ("2", "\U0001f600")
    assert not whole.defect
