"""Plain lines are read as the scanner reads them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.csvio import CsvReader, Header, Layout
from service.csvio.plain import plain_end
from service.domain.errors import CsvError
from service.domain.model import Checkpoint

PIECES = [
    *(b"\n", b"\n", b"\n", b"\r\n", b"\r", b",", b",", b";", b"a", b"b", b"7", b" ", b"\t", b'"', b"\\"),
    *(b"a,b\n", b"a,b,\n", b"1,2\n", b"1,2\n3,4\n", b" ,\n", b",\n", b"x;y\r\n", b"x,\ny,\n", b"#"),
    b"\x00",
    *(b'"q",2\n', b'"q\n",2\n', "é,ü\n".encode(), "é,ü\n".encode("cp1252"), b"\xff", b"\xef\xbb\xbf"),
    *(b"\x81\n", b"\x81\x40", b"_row,_error\n", b"9,BadRecordError\n", b"9,BadRecordError: x\n", b"nine,\n"),
    *(b"\x1c,1\n", b"\xc2\x85,1\n", b"x" * 40),
]  # fmt: skip
HEADERS = [
    b"",
    b"a,b\n",
    b"a,b\r\n",
    b"a,,b,\n",
    b"a;b\n",
    b"a\n",
    b"a,_row,_error\n",
    b"_error,_row\n",
    b"a,b\r",
]
ENCODINGS = ["auto", "cp1252", "iso8859-1", "gbk", "shift_jis", "utf-16-le", "ascii"]
layouts = st.builds(
    Layout,
    escape=st.sampled_from(["", "", "", "\\"]),
    comment=st.sampled_from(["", "", "", "#"]),
    skip_lines=st.sampled_from([0, 0, 1]),
    columns=st.sampled_from([(), (), ("a", "b")]),
    skip_blanks=st.booleans(),
)


class Scanning(CsvReader):
    """A reader that takes every record through the scanner."""

    def _set_header(self, header: Header) -> None:
        super()._set_header(header)
        self._plain = None


def readings(reader: CsvReader, chunks: list[bytes]) -> list[object]:
    """The records, blanks and place after each chunk, and at the end header or error."""
    found: list[object] = []
    try:
        found.extend((reader.feed(chunk), reader.blanks, reader.position) for chunk in chunks)
        found.append((reader.close(), reader.blanks, reader.header))
    except CsvError as error:
        found.append(str(error))
    return found


def chunks_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@settings(deadline=None, max_examples=400)
@given(
    head=st.sampled_from(HEADERS),
    pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=40),
    delimiter=st.sampled_from(["auto", "auto", ",", ";", "|"]),
    encoding=st.sampled_from(ENCODINGS),
    layout=layouts,
    size=st.sampled_from([1, 2, 3, 7, 50, 10_000]),
    largest=st.sampled_from([12, 40, 1_000]),
)
def test_any_bytes_are_read_as_by_the_scanner_alone(head, pieces, delimiter, encoding, layout, size, largest):
    """Records, defects, places, header and errors are the same, whatever bytes, settings and chunks are."""
    data = b"".join([head, *pieces])
    chunks = chunks_of(data, size)

    def read(kind: type[CsvReader]) -> list[object]:
        try:
            reader = kind(delimiter=delimiter, encoding=encoding, layout=layout, max_record_bytes=largest)
        except CsvError as error:
            return [str(error)]
        return readings(reader, chunks)

    assert read(CsvReader) == read(Scanning)


@settings(deadline=None)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=30),
    encoding=st.sampled_from(["auto", "cp1252"]),
    size=st.sampled_from([1, 5, 10_000]),
)
def test_a_reader_that_resumes_reads_what_the_scanner_alone_would_read(pieces, encoding, size):
    """The same from the end of every record."""
    data = b"".join([b"a,b\n1,2\n", *pieces])
    first = CsvReader(encoding=encoding, delimiter=",")
    try:
        records = first.feed(data) + first.close()
    except CsvError:
        return
    assert first.header is not None
    for record in records:
        chunks = chunks_of(data[record.end.byte_offset :], size)
        resumed = [
            kind.resume(first.header.columns, first.header.dialect, record.end)
            for kind in (CsvReader, Scanning)
        ]
        assert readings(resumed[0], chunks) == readings(resumed[1], chunks)


@pytest.mark.parametrize(
    ("view", "start", "position", "end"),
    [
        (b"1,2\n3,4\n5", 0, 0, 8),
        (b"1,2\n3,4\n5", 4, 4, 8),
        (b'1,2\n3,"4"\n5,6\n', 0, 0, 4),
        (b'"1"\n2\n', 0, 0, 0),
        (b"1,2", 0, 3, 0),
        (b'a "\n b', 0, 3, 0),
        (b"a\rb\r", 0, 0, 0),
    ],
)
def test_plain_lines_end_before_the_first_quote(view, start, position, end):
    """Only whole lines count, and only line feeds show that one is whole."""
    assert plain_end(view, start, position) == end


class Counting(CsvReader):
    """A reader that counts the records that the scanner has found."""

    scanned = 0

    def _add_record(self, *given) -> None:
        self.scanned += 1
        super()._add_record(*given)


def test_most_records_of_a_file_are_read_as_plain_lines():
    """A record with a quote does not keep those after it from the quick way."""
    data = b"a,b\n" + b'1,2\n3,4\n"5",6\n' * 100 + b"7,8"
    reader = Counting()
    records = reader.feed(data) + reader.close()
    assert [record.number for record in records] == list(range(1, 302))
    assert reader.scanned == 101
    assert records[-1].end == Checkpoint(301, len(data), 303)
