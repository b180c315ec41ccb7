"""Delimiters that header and records agree on, and layouts that a mapping sets."""

import pytest

from service.csvio import CsvReader, Layout, Record
from service.domain.errors import CsvError


def read(data: bytes, **options: object) -> tuple[CsvReader, list[Record]]:
    reader = CsvReader(**options)
    return reader, reader.feed(data) + reader.close()


def cells(data: bytes, **options: object) -> list[tuple[str, ...]]:
    return [record.cells for record in read(data, **options)[1]]


@pytest.mark.parametrize(
    ("data", "delimiter"),
    [
        (b"Total, EUR;Total, USD;Total, GBP\n1;2;3\n4;5;6\n", ";"),
        (b"name, first;age\nSmith, J;5\n", ";"),
        (b"id,first|last\n1,Ann|Lee\n2,Bob|Ray\n", ","),
        (b"a|b,c,d|e\n1|2|3\n", "|"),
        (b"price;name\n1,5;x\n2,5;y\n", ";"),
        (b"text\nHello, world\n", ","),
    ],
)
def test_header_and_records_choose_together(data: bytes, delimiter: str):
    """The delimiter is the one by which the first records have as many cells as the header."""
    assert read(data)[0].header.dialect.delimiter == delimiter


@pytest.mark.parametrize("line", [b"sep=;\n", b"SEP=;\r\n", b'"sep=;"\n', b"\xef\xbb\xbfsep=;\n"])
def test_first_line_sep(line: bytes):
    """A first line `sep=;`, which Excel writes, states the delimiter and is no header."""
    reader, records = read(line + b"a,x;b\n1;2\n")
    assert reader.header.columns == ("a,x", "b")
    assert [(record.cells, record.line) for record in records] == [(("1", "2"), 3)]


def test_delimiters_at_the_end_of_each_line():
    """Delimiters that end each data line are dropped where the surplus cells are empty."""
    reader, records = read(b"a,b\n1,2,\n3,4,\n0,0,\n5,6,7\n8,9,,\n")
    assert reader.header.dialect.trailing == 1
    assert [record.cells for record in records][:2] == [("1", "2"), ("3", "4")]
    assert [bool(record.defect) for record in records] == [False, False, False, True, True]


def test_an_empty_surplus_cell_of_one_line_is_a_defect():
    """An unquoted delimiter before an empty last cell is no delimiter at the end of each line."""
    _, records = read(b"id,address,postcode\n1,Here,AB1\n2,Flat 2, 5 High Street,\n3,There,AB2\n")
    assert [bool(record.defect) for record in records] == [False, True, False]


def test_lines_before_the_header():
    """`skip_lines` lines are skipped, whatever they hold."""
    reader, records = read(b'Report of "May\n\na,b\n1,2\n', layout=Layout(skip_lines=2))
    assert (reader.header.columns, records[0].line) == (("a", "b"), 4)


def test_comments():
    """Lines that begin with the comment character are skipped, also with quotes in them; cells are not."""
    data = b'# by "x,"y\na,b\n#,"\n1,#2\n"#3",4\n# end'
    assert cells(data, layout=Layout(comment="#")) == [("1", "#2"), ("#3", "4")]


@pytest.mark.parametrize("data", [b"1,2\n3,4\n", b"a,b\n1,2\n3,4\n"])
def test_columns_of_a_file_without_header(data: bytes):
    """`columns` names the cells of a file without header; a line of just these names is one."""
    reader, records = read(data, layout=Layout(columns=("a", "b")))
    assert reader.header.columns == ("a", "b")
    assert [record.cells for record in records] == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize("data", [b"1,2\n3,4\n", b"\xef\xbb\xbf1,2\n3,4\n", b"#x\n1,2\n3,4\n"])
def test_a_file_without_header_resumes(data: bytes):
    """A reader resumes at the first record, and after it."""
    reader, records = read(data, layout=Layout(columns=("a", "b"), comment="#"))
    header = reader.header
    resumed = CsvReader.resume(header.columns, header.dialect, records[0].end)
    assert resumed.feed(data[records[0].end.byte_offset :]) + resumed.close() == records[1:]


@pytest.mark.parametrize(
    "header",
    [b'"id", "name, full"', b' "id" ,"name, full" ', b'\xef\xbb\xbf\xef\xbb\xbf"id","name, full"',
     b'"\xef\xbb\xbfid","name, full"'],
)  # fmt: skip
def test_cleaned_headers(header: bytes):
    """Blanks around a quoted name and a byte order mark inside are no part of it."""
    assert read(header + b"\n1,2\n")[0].header.columns == ("id", "name, full")


@pytest.mark.parametrize("blank", [b";\n", b";;;;\n", b" ; \n", b"\n;\n\n"])
def test_blank_records_above_the_header(blank: bytes):
    """They are no header, and the delimiter is not chosen by them."""
    reader, records = read(blank + b"id;name\n1;x\n")
    assert (reader.header.columns, records[0].cells) == (("id", "name"), ("1", "x"))
    assert records[0].line == blank.count(b"\n") + 2


def test_more_skipped_lines_than_the_file_has():
    """The error names the setting."""
    with pytest.raises(CsvError, match="skip_lines: 9"):
        read(b"a,b\n1,2\n", layout=Layout(skip_lines=9))


@pytest.mark.parametrize("layout", [Layout(escape=","), Layout(comment='"'), Layout(escape="#", comment="#")])
def test_impossible_layouts(layout: Layout):
    """A character cannot play two parts."""
    with pytest.raises(CsvError, match=r"csv\."):
        CsvReader(delimiter=",", layout=layout)
