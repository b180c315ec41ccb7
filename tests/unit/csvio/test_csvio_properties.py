import codecs
import csv
import encodings.aliases
import io
import itertools
import re
import sys
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from service.csvio import CsvReader, Layout, Record, charset, encode_row, writer
from service.domain.errors import CsvError
from service.domain.model import Checkpoint, Dialect

unhurried = settings(deadline=None)
RUN = Layout(skip_blanks=False)
cell_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(
    'a,;|\t"\r\n é\x00', max_size=8
)
cuts = st.lists(st.integers(0, 120), max_size=12)
CHARACTERS = 'a,"\r\n ;é\x00\\'
TURNS = ['""', ',"', '",', '"\n', '"\r', '\n"', '"\r"', ' "', '" ', '\\"', '"a""\n"', "\r\n"]
tricky = st.lists(st.sampled_from([*CHARACTERS, *TURNS]), max_size=30).map("".join)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """Rows of equal length."""
    width = draw(st.integers(1, 4))
    return draw(st.lists(st.lists(cell_text, min_size=width, max_size=width), min_size=1, max_size=6))


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


def read(reader: CsvReader, chunks: Sequence[bytes]) -> list[Record]:
    return [record for chunk in chunks for record in reader.feed(chunk)] + reader.close()


def outcome(data: bytes, chunks: Sequence[bytes], **options: str | int) -> object:
    """A reader's records and header for these bytes, or the text of its error."""
    assert b"".join(chunks) == data
    reader = CsvReader(**options)
    try:
        return read(reader, chunks), reader.header
    except CsvError as error:
        return str(error)


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@unhurried
@given(
    table=tables(),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"]),
    line_end=st.sampled_from(["\r\n", "\n", "\r"]),
    cuts=cuts,
)
def test_reads_what_csv_writes(
    table: list[list[str]], delimiter: str, encoding: str, line_end: str, cuts: list[int]
):
    """Any table is read back cell by cell, with any delimiter, encoding, line end and chunks."""
    if encoding == "gb18030" and delimiter == "|":
        delimiter = ","
    header = [f"c{i}" for i in range(len(table[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(
        [header, *table]
    )
    data = text.getvalue().encode(encoding)
    reader = CsvReader(delimiter=delimiter, encoding=encoding, layout=RUN)
    records = read(reader, pieces(data, cuts))
    assert reader.header is not None
    assert reader.header.columns == tuple(header)
    assert [list(record.cells) for record in records] == table
    assert not any(record.defect for record in records)
    assert records[-1].end.byte_offset == len(data)


@unhurried
@given(
    text=tricky,
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]),
    cuts=cuts,
)
def test_agrees_with_pythons_csv(text: str, encoding: str, cuts: list[int]):
    """Any text gives the cells of csv.reader, except for blank lines, open quotes, and blanks around them."""
    # a quote after a blank begins a quoted cell, in which delimiters and line ends are text
    assume(re.search(r'(?:^|[,\r\n])[ \t]+"[^"]*[,\r\n]', text) is None)
    assume('\\"' not in text)  # where a `\"` stands, a record ends where its writer ended it
    # the first lines have no delimiter at their end, so that those of the text are no habit of the file
    text = 21 * "x,y\n" + text
    data = ("h,i\n" + text).encode(encoding)
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    is_open = list(csv.reader(io.StringIO(text + "\nafter\n", newline="")))[-1] != ["after"]
    reader = CsvReader(delimiter=",", encoding=encoding, layout=RUN)
    if is_open:
        with pytest.raises(CsvError, match="has no end"):
            read(reader, pieces(data, cuts))
        return
    records = read(reader, pieces(data, cuts))
    for record, row in zip(records, rows, strict=True):
        assert len(record.cells) == len(row)
        for cell, other in zip(record.cells, row, strict=True):
            is_cut = other.startswith(cell) and '"' in text and not other[len(cell) :].strip()
            assert cell == other or is_cut or next(csv.reader([other.strip()])) == [cell]
    assert all(record.defect or len(record.cells) == 2 for record in records)


@unhurried
@given(
    text=tricky,
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-8-sig", "utf-16"]),
)
def test_resumes_at_every_record(text: str, encoding: str):
    """A reader resumed at any record's `end` returns the remaining records with numbers, lines, offsets."""
    data = ('h,"i\n"\n' + text + ('"' if text.count('"') % 2 else "")).encode(encoding)
    reader = CsvReader(encoding=encoding)
    try:
        records = read(reader, [data])
    except CsvError:
        return  # an odd quote: nothing to resume
    assert reader.header is not None
    for done, record in enumerate(records, 1):
        columns, dialect = reader.header.columns, reader.header.dialect
        resumed = CsvReader.resume(columns, dialect, record.end)
        assert read(resumed, single_bytes(data[record.end.byte_offset :])) == records[done:]


@unhurried
@given(text=tricky)
def test_lines_and_offsets_are_those_of_the_file(text: str):
    """A record's `line` and `end` equal a count of the bytes and line ends before them."""
    data = ("h\n" + text).encode()
    try:
        records = read(CsvReader(layout=RUN), [data])
    except CsvError:
        return
    for record, following in itertools.pairwise(records):
        before = data[: record.end.byte_offset].decode()
        lines = before.count("\n") + before.count("\r") - before.count("\r\n")
        assert record.end == Checkpoint(record.number, len(before.encode()), lines + 1)
        assert before[-1] in "\r\n"
        skipped = data[record.end.byte_offset :].decode()
        blank = skipped[: len(skipped) - len(skipped.lstrip("\r\n"))]
        assert following.line == record.end.line + len(blank.replace("\r\n", "\n"))


@unhurried
@given(
    mark=st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]),
    data=st.lists(st.sampled_from([*b'a,;|"\r\n\x00\xff\xfe\xc3\xa9\xd8']), max_size=50).map(bytes)
    | tricky.map(str.encode),
    limit=st.integers(1, 60),
    encoding=st.sampled_from(["auto", "utf-16-le", "gb18030"]),
    cuts=cuts,
)
@example(mark=b"", data=b'a;b;c,"1\n2"\n', limit=8, encoding="auto", cuts=[])
@example(mark=b"", data=b"a\n12\r\n", limit=2, encoding="auto", cuts=[])
def test_chunks_make_no_difference(mark: bytes, data: bytes, limit: int, encoding: str, cuts: list[int]):
    """Any bytes give records or CsvError, and the same ones however they are cut into chunks."""
    data = mark + data
    whole = outcome(data, [data], encoding=encoding, max_record_bytes=limit)
    assert outcome(data, pieces(data, cuts), encoding=encoding, max_record_bytes=limit) == whole
    assert outcome(data, single_bytes(data), encoding=encoding, max_record_bytes=limit) == whole


@unhurried
@given(table=tables())
def test_written_rows_read_back(table: list[list[str]]):
    """csv.reader and CsvReader read rows written by `encode_row` back unchanged."""
    header = [f"a;b|c\t{i}" for i in range(len(table[0]))]
    data = b"".join(encode_row(row) for row in [header, *table])
    assert list(csv.reader(io.StringIO(data.decode(), newline=""))) == [header, *table]
    reader = CsvReader(layout=RUN)
    assert [list(record.cells) for record in read(reader, [data])] == table
    assert reader.header is not None
    assert list(reader.header.columns) == header


@pytest.mark.parametrize("name", sorted({*encodings.aliases.aliases.values(), "cp874", "koi8_u"}))
def test_accepted_encodings_hide_no_ascii(name: str):
    """In every accepted encoding no byte that the scanner searches for is part of another character."""
    try:
        found = charset.find(name)
    except CsvError:
        return
    if found.unit == 2:
        return
    sought = set(b'\r\n"') | set(found.candidates.encode())
    assert bytes(sought).decode(name).encode() == bytes(sought)
    encode = codecs.getencoder(found.name)
    for code in itertools.chain(range(0x80, 0xD800), range(0xE000, 0x30000, 3)):
        try:
            encoded = encode(chr(code))[0]
        except UnicodeEncodeError:
            continue
        assert sought.isdisjoint(encoded), hex(code)


def row_cell_by_cell(cells: Sequence[str], dialect: Dialect) -> bytes:
    """A row whose cells are looked at one by one."""
    quoted = []
    for cell in cells:
        escaped = cell.replace(dialect.escape, dialect.escape * 2) if dialect.escape else cell
        must_quote = any(character in escaped for character in f'",;|\t\r\n{dialect.delimiter}')
        quoted.append(f'"{escaped.replace(chr(34), chr(34) * 2)}"' if must_quote else escaped)
    if dialect.comment and quoted and quoted[0].startswith(dialect.comment):
        quoted[0] = f'"{quoted[0]}"'
    text = (dialect.delimiter.join(quoted) or '""') + "\r\n"
    try:
        return text.encode(dialect.encoding)
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text).encode(dialect.encoding, "backslashreplace")


@unhurried
@given(
    cells=st.lists(st.text(st.characters(exclude_categories=())) | st.text('ab,;|\t"\r\n#\\: é'), max_size=5),
    delimiter=st.sampled_from(",,;|\t:#"),
    encoding=st.sampled_from(["utf-8", "utf-8", "cp1252", "utf-16-le"]),
    escape=st.sampled_from(["", "", "\\"]),
    comment=st.sampled_from(["", "", "#"]),
)
def test_a_row_is_written_as_cell_by_cell(
    cells: list[str], delimiter: str, encoding: str, escape: str, comment: str
):
    """A row with nothing to quote is written at once, with the same bytes."""
    dialect = Dialect(encoding, delimiter, escape=escape, comment=comment)
    assert encode_row(cells, dialect) == row_cell_by_cell(cells, dialect)


def test_no_letter_or_digit_begins_a_formula():
    """Cells that begin with one are not looked at any further."""
    characters = map(chr, range(sys.maxunicode + 1))
    assert not [
        character
        for character in characters
        if character.isalnum() and (character in writer._FORMULA_START or writer._UNSEEN.match(character))
    ]
