"""Lines above a table: titles that a spreadsheet pads with empty cells, empty first lines, drawn tables."""

import pytest

from service.csvio import CsvReader, Layout
from service.domain.errors import CsvError


def read(text, **settings):
    reader = CsvReader(**settings)
    records = reader.feed(text.encode()) + reader.close()
    return reader.header.columns, [record.cells if not record.defect else record.defect for record in records]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Sales report,,\n,,\nname,age,city\nA,1,x\n", 2),
        ("Sales report;;\r\nname;age;city\r\nA;1;x\r\n", 1),
        ("Sales report\t\t\n\t\t\nname\tage\tcity\nA\t1\tx\n", 2),
        ('"Sales, report",,\nname,age,city\nA,1,x\n', 1),
        ("Report,\n\na,b\n1,2\n", 2),
        ("Exported: 2024-01-05,\nname,age\nA,1\n", 1),
        (",Sales report,\nname,age,city\nA,1,x\n", 1),  # the cell of a merged range
        ("Report,by me,,\n,,,\nname,age,city,zip\nA,1,x,2\n", 2),
        ("Report,,\nQ1,,\n,,\nRegion,2022,2023\nNorth,5,6\n", 3),
        ("Report,,\nname,age,\nA,1,x\n", 2),  # a header with an empty cell is refused by its first record
        (",,\nReport,,\nname,age,city\n", 2),
        ("\nReport,,\nname,age,city\n", 2),
        ('"A title\nof two lines",,\nname,age,city\nA,1,x\n', 2),
    ],
)
def test_a_title_that_is_padded_to_the_width_of_its_table_is_refused(text, lines):
    with pytest.raises(CsvError, match=rf"if it is a title, set csv.skip_lines: {lines};"):
        read(text)


@pytest.mark.parametrize("delimiter", ["auto", ","])
def test_the_remedy_in_the_error_reads_the_table(delimiter):
    text = "Sales report,,\n,,\nname,age,city\nA,1,x\n"
    columns, cells = read(text, delimiter=delimiter, layout=Layout(skip_lines=2))
    assert columns == ("name", "age", "city")
    assert cells == [("A", "1", "x")]


def test_lines_that_are_skipped_already_count_in_the_remedy():
    with pytest.raises(CsvError, match=r"csv.skip_lines: 2;"):
        read("Sales report,,\nQ1,,\nname,age,city\n", layout=Layout(skip_lines=1))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("id,,\n1,2,3\n4,5,6\n", ("id", "column_2", "column_3")),  # numbers are data
        ("a,,b\nx,y,z\n", ("a", "column_2", "b")),
        (",name\n0,Ada\n", ("column_1", "name")),  # an index without a name
        ("name,\nAda,\nBob,\n", ("name", "column_2")),  # a delimiter at the end of each line
        ("Report,,\nname,,\n", ("Report", "column_2", "column_3")),  # nothing shows that it is a title
        (",,\nname,age,city\nA,1,x\n", ("name", "age", "city")),
        (",,\nRegion,2022,2023\nNorth,5,6\n", ("Region", "2022", "2023")),
        ("1,2,3\n4,5,6\n", ("1", "2", "3")),
        ("a\nReport\n", ("a",)),
    ],
)
def test_a_header_is_no_title(text, columns):
    assert read(text)[0] == columns


@pytest.mark.parametrize(
    "text", [",,\n1,2,3\n", ",,\n1,2,3\n4,5,6\n", ",,\n1,Ada,London\n", ";;\r\n5,5;2;3\r\n"]
)
def test_data_below_an_empty_first_line_does_not_become_the_header(text):
    with pytest.raises(CsvError, match=r"it is no header: set csv.skip_lines: 1 and csv.columns"):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
        "| a | b |\r\n| :-- | --: |\r\n| 1 | 2 |\r\n",
        "a | b\n--- | ---\n1 | 2\n",
        " a | b \n---+---\n 1 | 2\n",
        "+---+---+\n| a | b |\n+---+---+\n",
        "| a |\n|---|\n| 1 |\n",
    ],
)
def test_a_table_that_is_drawn_with_lines_is_refused(text):
    with pytest.raises(CsvError, match="a table drawn with lines, as in Markdown, no CSV"):
        read(text)


@pytest.mark.parametrize("text", ["a|b\n-|-\n", "a|b\n-|-5\n", "a|b\n1|2\n", "+,-\n|,x\n", "a|b\n--x|2\n"])
def test_a_table_with_dashes_is_a_table(text):
    assert len(read(text)[1]) == 1


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Umsatz\nStand 2026\n\nid;amount;x\n1;2;3\n2;4;5\n", 3),
        ("Umsatz\nid;amount\n1;2\n2;3\n", 1),
        ("Report\nToday\nid|amount\n1|2\n2|3\n", 2),
        ("Report\nGenerated today\n\nid\tamount\n1\t2\n2\t3\n", 3),
        ("Kunden\n\nName;Ort\nMeier;Ulm\nWeber;Mainz\n", 2),
        ("Sales report 2026\n\nid,amount\n1,5\n2,6\n", 2),
    ],
)
def test_a_title_of_one_cell_is_refused_above_a_table_of_any_width(text, lines):
    with pytest.raises(CsvError, match=rf"if it is a title, set csv.skip_lines: {lines};"):
        read(text)
    columns, cells = read(text, layout=Layout(skip_lines=lines))
    assert len(columns) > 1
    assert all(len(row) == len(columns) for row in cells)


@pytest.mark.parametrize(
    "lines",
    [
        ["text", "hello; world", "plain", "again; so"],
        ["note", "a; b", "c; d", "e; f"],  # prose has a blank after the semicolon
        ["url", "http://a/b;c", "http://a"],
        ["code", "a;b", "c;d"],  # too few to tell
    ],
)
def test_a_column_of_texts_with_semicolons_stays_one(lines):
    columns, cells = read("\n".join(lines) + "\n")
    assert columns == (lines[0],)
    assert cells == [(line,) for line in lines[1:]]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Sales report,May 2026,confidential\nName,Amount,City\nx,1,z\ny,2,w\nq,3,v\n", 1),
        ("Report: sales,Ann,x\nName,Amount,City\nx,1,z\ny,2,w\nq,3,v\n", 1),
        ("Company,ACME\nDate,2026-11-29\nName,Amount\nx,1\ny,2\n", 2),
        ("Report,May 2026,\nBy,Ann,\nName,Amount,City\nx,1,z\ny,2,w\n", 2),
        (
            "Region,Q1 2024,Q2 2024\nTotal,plan,actual\nNorth,5,6\nSouth,7,8\nWest,1,2\n",
            1,
        ),  # a header of two lines
        ("Company;ACME\n\nDate;today\nName;Amount\nx;1\ny;2,5\n", 3),
    ],
)
def test_titles_as_wide_as_their_table_are_refused(text, lines):
    with pytest.raises(CsvError, match=rf"if it is the header, set csv.skip_lines: {lines};"):
        read(text)
    columns, cells = read(text, layout=Layout(skip_lines=lines))
    assert len(columns) == len(cells[0])
    assert all(any(cell[0].isdigit() for cell in row) for row in cells)


@pytest.mark.parametrize(
    "text",
    [
        "Name,IATA,Elevation\nFoo,AAA,n/a\nBar,BBB,12\nBaz,CCC,13\n",
        "Name,Amount\ntwelve,twenty\nx,1\ny,2\n",  # a first row in words
        "Name,2024,2025\nFoo,pending,n/a\nBar,5,6\nBaz,7,8\n",
        "Name,Q1 2024\nFoo,1\nBar,2\nBaz,3\n",
        "Name,Note: x\nFoo,Bar\nBaz,Qux\nA,B\n",  # nothing but texts
        "id,,\n1,2,3\n4,5,6\n",
        "a:b,c:d\nx,y\n1,2\n3,4\n",  # two records show nothing
        "Q1 2024,Q2 2024\nopen,open\n5,6\n7,8\n",  # twice the same is no name
    ],
)
def test_a_first_row_in_words_is_a_row(text):
    assert len(read(text)[1]) == text.count("\n") - 1


def test_the_other_remedy_in_the_error_reads_the_first_line_as_header():
    text = "Name,May 2026\nFoo,open\nBar,1\nBaz,2\nQux,3\n"
    with pytest.raises(
        CsvError, match=r"if the first line is, set csv.columns to its names and csv.skip_lines: 1"
    ):
        read(text)
    columns, cells = read(text, layout=Layout(skip_lines=1, columns=("Name", "May 2026")))
    assert columns == ("Name", "May 2026")
    assert cells == [("Foo", "open"), ("Bar", "1"), ("Baz", "2"), ("Qux", "3")]
