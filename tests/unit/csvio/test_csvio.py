from decimal import Decimal

import pytest

from service.csvio import (
    CsvReader,
    Layout,
    OutputRows,
    Record,
    encode_row,
    failure_cells,
    failure_header,
    output_header,
    row_data,
)
from service.domain.errors import CsvError
from service.domain.model import Checkpoint, Outcome, RowError, Status


def read(data: bytes, **options: str | int) -> tuple[CsvReader, list[Record]]:
    reader = CsvReader(**options)
    return reader, reader.feed(data) + reader.close()


def cells(data: bytes, **options: str | int) -> list[tuple[str, ...]]:
    return [record.cells for record in read(data, **options)[1]]


def columns(data: bytes, **options: str | int) -> tuple[str, ...]:
    header = read(data, **options)[0].header
    assert header is not None
    return header.columns


def refusal(data: bytes, **options: str | int) -> str:
    with pytest.raises(CsvError) as caught:
        read(data, **options)
    return str(caught.value)


def outcome(output: dict | None = None, error: RowError | None = None, row: dict | None = None) -> Outcome:
    status = Status.FAILED if error else Status.SUCCESS
    return Outcome(1, 1, status, row or {"a": "x"}, output or {}, 12, "2025-01-01T00:00:00Z", error=error)


def written(value: object, *, escape_formulas: bool = True) -> str:
    """The text of one output value."""
    return OutputRows([], ["f"], escape_formulas=escape_formulas).cells(outcome({"f": value}))[0]


class TestRecords:
    @pytest.mark.parametrize(
        "data", [b"a,b\r\n1,2\r\n3,4\r\n", b"a,b\n1,2\n3,4", b"a,b\r1,2\r3,4\r", b"a,b\r1,2\n3,4"]
    )
    def test_line_ends(self, data: bytes):
        """CRLF, LF and CR end a record, also mixed, and the last record needs none."""
        assert cells(data) == [("1", "2"), ("3", "4")]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "cp1252"])
    @pytest.mark.parametrize(
        "end", ["\x1a", "\r\n\x1a", "\r\n\x1a\r\n", "\n" + "\x1a" * 128, '\n"3","4"\x1a']
    )
    @pytest.mark.parametrize("size", [1, 7, 1_000])
    def test_the_end_of_file_of_dos_is_no_part_of_it(self, encoding: str, end: str, size: int):
        """0x1A at the end of a file is in no cell and no record, however the file is cut into chunks."""
        data = ("a,b\r\n1,2" + end).encode(encoding)
        reader = CsvReader(encoding=encoding)
        records = [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])]
        found = [record.cells for record in records + reader.close()]
        assert found == [("1", "2"), *([("3", "4")] if "3" in end else [])]

    @pytest.mark.parametrize("data", [b"a,b\n1,x\x1ay\n", b'a,b\n1,"x\x1ay"\n', b"a,b\n1,x\x1ay\n2,z\n"])
    def test_such_a_byte_before_the_end_is_data(self, data: bytes):
        """Only at the end of a file it is a mark."""
        assert cells(data)[0] == ("1", "x\x1ay")

    def test_quotes(self):
        """A quoted cell may hold line ends, delimiters and doubled quotes."""
        assert cells(b'a,b\n"1\r\n1",",""\n"\n') == [("1\r\n1", ',"\n')]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (b'ab"c,d', ('ab"c', "d")),
            (b' "a,d', (' "a', "d")),
            (b'"a"b,d', ("ab", "d")),
            (b'"a"b"c,d', ('ab"c', "d")),
            (b'"a" "b",d', ('a "b"', "d")),
            (b'"","d"', ("", "d")),
            (b'"""",d', ('"', "d")),
        ],
    )
    def test_stray_quotes(self, text: bytes, expected: tuple[str, ...]):
        """A quote inside a cell is literal, and so is text after a closing quote."""
        assert cells(b"a,b\n" + text + b"\n") == [expected]

    def test_blank_lines(self):
        """Blank lines and, unless told otherwise, lines of empty cells are no records but count as lines."""
        data = b"\n\r\na,b\n\n1,2\r\n\r\n,\n , ,\n3,4\n,\n"
        reader, records = read(data)
        assert [(r.number, r.line, r.cells) for r in records] == [(1, 5, ("1", "2")), (2, 9, ("3", "4"))]
        assert (reader.blanks, records[1].end.blanks, reader.position) == (
            3,
            2,
            Checkpoint(2, len(data), 11, 3),
        )
        _, records = read(data, layout=Layout(skip_blanks=False))
        assert [(r.line, r.cells) for r in records][1:3] == [(7, ("", "")), (8, (" ", " ", ""))]

    def test_one_column(self):
        """In a file of one column a blank line is no record, and an empty quoted cell can be one."""
        assert cells(b'a\nx\n\n""\ny') == [("x",), ("y",)]
        assert cells(b'a\nx\n\n""\ny', layout=Layout(skip_blanks=False)) == [("x",), ("",), ("y",)]

    def test_nul_and_separators_of_unicode(self):
        """NUL, form feed and Unicode's own line separators are ordinary text."""
        assert cells("a,b\n\x00x\x0c,\x85\u2028\x1c\n".encode()) == [("\x00x\x0c", "\x85\u2028\x1c")]

    def test_big_cell(self):
        """A cell may be larger than the csv module's limit of 131072 characters."""
        assert cells(b'a\n"' + b"x\n" * 200_000 + b'"\n')[0][0] == "x\n" * 200_000

    def test_record_ends(self):
        """`end` has the count of records, the offset after the line end, and the number of the next line."""
        _, records = read(b'a,b\r\n"1\n",2\r\n3,4')
        assert [r.end for r in records] == [Checkpoint(1, 13, 4), Checkpoint(2, 16, 5)]

    def test_crlf_over_two_chunks(self):
        """A record waits for the byte after its CR, so that its end is after the LF."""
        reader = CsvReader()
        assert reader.feed(b"\n" * 20 + b"a,b\r") == []
        assert reader.header is None
        assert reader.feed(b"\n1,2\r") == []
        (record,) = reader.feed(b"\n")
        assert (record.line, record.end) == (22, Checkpoint(1, 30, 23))
        assert reader.close() == []

    def test_header_only(self):
        """A header without records is a table of no rows."""
        reader, records = read(b"a,b")
        assert records == []
        assert reader.header is not None

    def test_too_few_and_too_many_cells(self):
        """A ragged record has a defect with the number of cells, and keeps all its cells."""
        _, records = read(b'a,b\n"\n1"\n1,2,3\n')
        assert [(r.cells, r.defect) for r in records] == [
            (("\n1",), "1 cell, the header has 2 (line 2, delimiter ',')"),
            (("1", "2", "3"), "3 cells, the header has 2 (line 4, delimiter ',')"),
        ]

    def test_undecodable_record(self):
        """Bytes that do not decode are a defect with position and hint; the rest of the file is read."""
        _, records = read(b"a,b\n1,caf\xe9\n2,3\n")
        assert records[0].cells == ("1", "caf\\xe9")
        assert records[0].defect == (
            "byte 0xe9 at position 9 is not utf-8 (line 2): set csv.encoding to what the file is written in; "
            "cp1252 reads 'café'"
        )
        assert records[1].defect == ""

    def test_half_a_unit(self):
        """If a UTF-16 file ends inside a character, the last record has a defect and keeps the stray byte."""
        _, records = read("a\nx".encode("utf-16") + b"\x41")
        assert [(r.cells, r.end.byte_offset) for r in records] == [(("x\\x41",), 9)]
        assert "byte 0x41 at position 8 is not utf-16-le" in records[0].defect

    def test_too_large(self):
        """A record above the limit fails the file with its line number, whether it is complete or not."""
        text = "the record that starts on line 3 is larger than 9 bytes (ROWFLEET_SPLIT__MAX_RECORD_BYTES)"
        assert refusal(b"a,b\n1,2\n12345,7890\n1,2\n", max_record_bytes=9) == text
        reader = CsvReader(max_record_bytes=9)
        with pytest.raises(CsvError, match="line 3 is larger than 9 bytes"):
            reader.feed(b"a,b\n1,2\n12345,78901" + b"\n" * 20)
        assert cells(b"a,b\n1234,6789\r\n", max_record_bytes=9) == [("1234", "6789")]

    def test_too_large_in_quotes(self):
        """If a record above the limit is in quotes, the error names the line where the quote was opened."""
        text = refusal(b'a,b\n"1\n2","3456789\n3,4\n', max_record_bytes=9)
        assert text.endswith("; the quote opened on line 3 may be missing its end")

    def test_open_quote(self):
        """A quote that is never closed fails the file, naming the line where it was opened."""
        text = "the quote opened on line {} has no end: it swallows the rest of the file"
        assert refusal(b'a,b\n1,2\n"x\ny","z\n3,4\n') == text.format(4)
        assert refusal(b'a,b\n1,"') == text.format(2)
        assert refusal(b'\na,"b\n1,2') == text.format(2)


class TestDialect:
    @pytest.mark.parametrize(
        ("header", "delimiter"),
        [
            (b"a,b", ","), (b"a;b", ";"), (b"a\tb", "\t"), (b"a|b", "|"), (b"a", ","), (b"a,b;c;d", ";"),
            (b'"a,b,c";d', ";"), (b'"a"",,"";";"b,\n,"', ";"), (b"a;b,c", ","),
        ],
    )  # fmt: skip
    def test_sniffing(self, header: bytes, delimiter: str):
        """The delimiter is the one that stands most often in the header outside quotes, else a comma."""
        found = read(header + b"\n")[0].header
        assert found is not None
        assert (found.dialect.encoding, found.dialect.delimiter) == ("utf-8", delimiter)

    def test_sniffing_looks_at_the_header_first(self):
        """A delimiter that the header lacks is none, and blank lines before the header do not matter."""
        assert cells(b"\n\na;b\n1,1,1;2\n") == [("1,1,1", "2")]

    def test_set_delimiter(self):
        """The delimiter may be configured, also by the name `tab`."""
        assert columns(b"a,x^b,y\n", delimiter="^") == ("a,x", "b,y")
        assert columns(b"a,x\tb,y\n", delimiter="tab") == ("a,x", "b,y")

    @pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\0", "é"])
    def test_impossible_delimiter(self, delimiter: str):
        """An invalid delimiter is refused at once."""
        with pytest.raises(CsvError, match=r"csv\.delimiter: .* is not one ASCII character"):
            CsvReader(delimiter=delimiter)

    @pytest.mark.parametrize(
        ("bom", "encoding"),
        [(b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")],
    )
    def test_bom(self, bom: bytes, encoding: str):
        """A byte order mark overrules the configured encoding; offsets include it."""
        data = bom + 'é;"b"\n"1\n";😀\n3;4\n'.encode(encoding)
        reader, records = read(data, encoding="cp1252")
        assert reader.header is not None
        assert reader.header.columns == ("é", "b")
        dialect = reader.header.dialect
        assert (dialect.encoding, dialect.delimiter, dialect.bom_bytes) == (encoding, ";", len(bom))
        assert [r.cells for r in records] == [("1\n", "😀"), ("3", "4")]
        assert records[-1].end == Checkpoint(2, len(data), 5)

    def test_utf16_by_units(self):
        """A byte of a UTF-16 unit that looks like a line end, a quote or a delimiter has no effect."""
        text = 'a,b\n\u0a0d\u0d0a\u2222,\u2c2c"\U0001040a\n'
        for encoding in ("utf-16-le", "utf-16-be"):
            assert cells(text.encode(encoding), encoding=encoding) == [
                ("\u0a0d\u0d0a\u2222", '\u2c2c"\U0001040a')
            ]

    def test_set_encoding(self):
        """A configured encoding is used for header and records; utf-16 without a mark is little-endian."""
        assert columns("é,b\n".encode("cp1252"), encoding="cp1252") == ("é", "b")
        assert columns("é,b\n".encode("latin-1"), encoding="ISO-8859-1") == ("é", "b")
        assert columns("é,b\n".encode("utf-16-le"), encoding="utf-16") == ("é", "b")

    def test_two_byte_encoding(self):
        """If `|` may be the second byte of a character, it is neither sniffed nor accepted as delimiter."""
        assert "ポ".encode("cp932") == b"\x83|"
        assert cells('ポポ,b\nポ"x,2\n'.encode("cp932"), encoding="cp932") == [('ポ"x', "2")]
        with pytest.raises(CsvError, match="may be half of another character"):
            CsvReader(encoding="cp932", delimiter="|")

    @pytest.mark.parametrize(
        "encoding", ["utf-7", "utf-32", "cp037", "iso2022_jp", "unicode_escape", "rot13"]
    )
    def test_unsupported_encoding(self, encoding: str):
        """An encoding whose bytes cannot be searched for line ends is refused at once."""
        with pytest.raises(CsvError, match="is not supported; convert the file to utf-8"):
            CsvReader(encoding=encoding)

    def test_unknown_encoding(self):
        """An unknown encoding is refused at once."""
        with pytest.raises(CsvError, match="'utf8000' is not a known encoding"):
            CsvReader(encoding="utf8000")

    def test_utf32_byte_order_mark(self):
        """A UTF-32 byte order mark is not mistaken for UTF-16's."""
        assert "'utf-32-le' is not supported" in refusal("\ufeffa,b\n".encode("utf-32-le"))


class TestHeader:
    def test_names_are_stripped(self):
        """Blanks around a name are removed, also inside quotes."""
        assert columns(b' a ," b"\n') == ("a", "b")

    def test_made_up_names(self):
        """An empty name becomes `column_N`, a repeated one `name_2`; both are reported."""
        header = read(b"a, ,a\n")[0].header
        assert header is not None
        assert header.columns == ("a", "column_2", "a_2")
        assert header.notes == (
            'Column 2 has no name in the file: it is called "column_2".',
            'Column 3 is called "a_2": "a" is the name of an earlier column.',
        )

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (b"a,a,a_2", ("a", "a_3", "a_2")),
            (b"a_2,a,a,a", ("a_2", "a", "a_3", "a_4")),
            (b",column_1,", ("column_1_2", "column_1", "column_3")),
            (b"_surplus,b", ("_surplus_2", "b")),
            (b",,x", ("column_1", "column_2", "x")),
        ],
    )
    def test_made_up_names_do_not_collide(self, header: bytes, expected: tuple[str, ...]):
        """A name from the file stays with its column; `_surplus` is reserved."""
        assert columns(header) == expected

    def test_undecodable_header(self):
        """Bytes in the header that do not decode fail the file, with position and hint."""
        assert refusal(b"a,caf\xe9\n1,2\n") == (
            "the header cannot be read: byte 0xe9 at position 5 is not utf-8 (line 1): "
            "set csv.encoding (or --encoding) to cp1252, which fits"
        )

    @pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\n\r\n\r", b"\xff\xfe\n\x00"])
    def test_empty_file(self, data: bytes):
        """A file of no bytes, only a byte order mark or only blank lines is empty."""
        assert refusal(data) == "the file is empty: no header line"


class TestResume:
    def test_resumes_after_a_record(self):
        """A resumed reader has columns and dialect and counts on; it expects neither mark nor header."""
        first = CsvReader()
        (record,) = first.feed('\ufeffa;b\r\n1;2\r\n"3'.encode() + b"\n" * 20)
        assert first.header is not None
        second = CsvReader.resume(first.header.columns, first.header.dialect, record.end)
        assert second.header == first.header
        assert second.feed(b'"3";4,\r\n') == [Record(2, ("3", "4,"), 3, 13, 21, 4)]

    @pytest.mark.parametrize("data", ["\ufeffa;b,c\n\n1;2,\n".encode(), "a|b\n1|2\n".encode("utf-16")])
    def test_before_the_header(self, data: bytes):
        """A reader resumed at byte 0 reads the header again; it does not become a row."""
        first, records = read(data)
        assert first.header is not None
        second = CsvReader.resume(first.header.columns, first.header.dialect, Checkpoint())
        assert second.feed(data) + second.close() == records
        assert second.header == first.header


class TestRowData:
    def test_as_many_cells_as_columns(self):
        """A row is its cells by column."""
        assert row_data(["a", "b"], ["1", "2"]) == {"a": "1", "b": "2"}

    def test_fewer_and_more_cells_than_columns(self):
        """Columns without a cell have no key; surplus cells are in a list."""
        assert row_data(["a", "b"], ["1"]) == {"a": "1"}
        assert row_data(["a"], ["1", "2", "3"]) == {"a": "1", "_surplus": ["2", "3"]}


class TestOutput:
    def test_success(self):
        """A row of output.csv has inputs, outputs, status, time, timestamp, and an empty error."""
        row = outcome({"g": 1, "f": "y"}, row={"b": "=1", "a": "x"})
        header = output_header(["a", "b"], ["f", "g", "h"])
        values = OutputRows(["a", "b"], ["f", "g", "h"], escape_formulas=True).cells(row)
        assert dict(zip(header, values, strict=True)) == {
            "input_a": "x", "input_b": "=1", "output_f": "y", "output_g": "1", "output_h": "",
            "_row": "1", "_status": "SUCCESS", "_execution_time_ms": "12",
            "_timestamp": "2025-01-01T00:00:00Z", "_error": "",
        }  # fmt: skip

    def test_a_nul_of_an_agent_is_a_replacement_character(self):
        """Databases refuse it, spreadsheets cut the text there. Cells of the input stay what they were."""
        row = outcome({"f": "a\0b", "g": ["\0"]}, row={"a": "x\0"})
        values = OutputRows(["a"], ["f", "g"], escape_formulas=False).cells(row)
        assert values[:3] == ["x\0", "a\ufffdb", '["\\u0000"]']

    def test_failure(self):
        """A failed row has the error's name and text; missing cells are empty, surplus cells are kept."""
        row = outcome(error=RowError("InputError", "ragged"), row={"a": "x", "_surplus": ["é", '"']})
        values = OutputRows(["a", "b"], ["f"], escape_formulas=True).cells(row)
        assert values[:5] == ["x", "", "", "1", "FAILED"]
        assert values[-1] == 'InputError: ragged; surplus cells: ["é","\\""]'

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, ""), ("a\r\nb", "a\r\nb"), (True, "true"), (False, "false"), (7, "7"), (-7, "-7"),
            (12345678901234567890, "12345678901234567890"), (0.1, "0.1"), (1e22, "10000000000000000000000"),
            (Decimal("1.10"), "1.10"), ([1, {"é": None}], '[1,{"é":null}]'), ({}, "{}"),
        ],
    )  # fmt: skip
    def test_values(self, value: object, text: str):
        """Scalars are written plainly, without exponents; lists and objects as compact JSON."""
        assert written(value) == text

    @pytest.mark.parametrize(
        "text",
        [
            '=HYPERLINK("x")',
            "+cmd|x",
            "-1+1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1",
            "\xa0=1",
            "\ufeff@SUM(1)",
            "-1-1",
            "+44-20-7946",
            "-5/m2",
            "-5 A1",
            "-$A$1",
            "-£5+A1",
            "-12:30*A1",
            "-5 (A1)",
            "-" + 300 * "5 " + "x",
            "=1",
            "- cmd|x",
            "- HYPERLINK(1)",
            "\uff1d1",
            "\uff0b1",
            "\uff0d1",
            "\uff20x",
        ],
    )
    def test_formulas(self, text: str):
        """Output text that a spreadsheet would execute gets a leading quote, unless that is switched off."""
        assert written(text) == "'" + text
        assert written(text, escape_formulas=False) == text

    @pytest.mark.parametrize(
        "text",
        [
            "-5",
            "-1.5e3",
            "+.5E-3",
            "+44 20 7946 0958",
            "+44 (0)20-7946",
            "-1,234.50",
            "-12 %",
            "- a bullet",
            "- one\n- two",
            "-£1,200.50",
            "-$5",
            "-€1.2M",
            "-5 €",
            "-12:30",
            "-12:30:00",
            "-5 Mbps",
            "-5°C",
            "-5 to 5",
            "-5/month",
            "-",
            "--",
            " - one",
            "a=1",
            "",
        ],
    )
    def test_no_formulas(self, text: str):
        """Numbers, amounts, times, phone numbers and other text stay unchanged."""
        assert written(text) == text

    def test_failures_file(self):
        """failures.csv has the original columns, the number of the record, and the error."""
        assert failure_header(["a", "b"]) == ["a", "b", "_row", "_error"]
        row = outcome(error=RowError("InputError", "ragged"), row={"a": "=x"})
        assert failure_cells(row, ["a", "b"]) == ["=x", "", "1", "InputError: ragged"]

    def test_failures_file_dropped_in_again(self):
        """Columns that earlier results have added are replaced, not repeated."""
        assert failure_header(["a", "_row", "_error"]) == ["a", "_row", "_error"]
        row = outcome(error=RowError("InputError", "new"), row={"a": "x", "_row": "9", "_error": "old"})
        assert failure_cells(row, ["a", "_row", "_error"]) == ["x", "1", "InputError: new"]
        assert output_header(["a", "_row", "_error", "input__error"], ["f"])[:3] == [
            "input_a",
            "output_f",
            "_row",
        ]


class TestEncodeRow:
    def test_quoting(self):
        """Cells are quoted if RFC 4180 demands it or a delimiter might be sniffed; line ends are kept."""
        assert encode_row(["a b", 'c"d', "e,f", "g\r\nh", "i;j"]) == b'a b,"c""d","e,f","g\r\nh","i;j"\r\n'

    def test_empty_row(self):
        """A single empty cell is written in quotes, because an empty line is no record."""
        assert encode_row([""]) == b'""\r\n'
        assert encode_row(["", ""]) == b",\r\n"

    def test_lone_surrogate(self):
        """A surrogate without its other half becomes the replacement character."""
        assert encode_row(["a\ud800b", "\U0001f600"]) == "a\ufffdb,\U0001f600\r\n".encode()
