r"""CSV: bytes to records with exact offsets, outcomes to bytes. Pure.

Two modules apply one set of rules: `scan.py` finds the ends of records in bytes, `cells.py` splits the text
of a record into cells. The rules are those of Python's csv module, which property tests check:

- A quote is special only as the first character of a cell. There it opens a quoted section, which ends at the
  next quote that is not doubled. A doubled quote stands for one quote.
- Text between this end and the delimiter is literal, including further quotes: `"a"b"` is `ab"`. The record
  has a defect: that is how a missing quote, or one that is not doubled, looks. Blanks there are left out.
- Outside a quoted section `\n`, `\r\n` and a lone `\r` each end the record. Inside they are text.

There are more differences from Python's csv: an empty line, a comment and a record of empty cells are no
records; 0x1A at the end of a file, as DOS writes it, is no part of it; a file that ends inside quotes is an
error; blanks around a quoted cell in one line are no part of it, so that `1, "x, y"` has two cells; after a
`\"` in the middle of a quoted cell the record has a defect, and ends where a writer that escapes so ended it.
"""

from service.csvio.cells import RECORD, SURPLUS, row_data
from service.csvio.layout import Layout
from service.csvio.reader import MAX_RECORD_BYTES, CsvReader
from service.csvio.records import Header, Record
from service.csvio.writer import (
    LONG_CELLS_HEADER,
    OutputRows,
    byte_order_mark,
    encode_row,
    failure_cells,
    failure_header,
    failure_line,
    input_columns,
    move_long_cells,
    output_header,
)

__all__ = [
    "LONG_CELLS_HEADER",
    "MAX_RECORD_BYTES",
    "RECORD",
    "SURPLUS",
    "CsvReader",
    "Header",
    "Layout",
    "OutputRows",
    "Record",
    "byte_order_mark",
    "encode_row",
    "failure_cells",
    "failure_header",
    "failure_line",
    "input_columns",
    "move_long_cells",
    "output_header",
    "row_data",
]
