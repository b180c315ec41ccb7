r"""Bytes -> records with exact offsets; outcomes -> CSV bytes. Pure.

One set of rules, kept by `scan.py` (on bytes: where records end) and `cells.py` (on text: what a record
holds), and equal to those of Python's csv module, which the property tests hold:

- A quote is special only as the first character of a cell. There it opens a quoted section, which ends at the
  next quote that is not doubled; a doubled one stands for one quote.
- Whatever follows that end up to the delimiter is literal, further quotes included: `"a"b"` is `ab"`.
- Outside a quoted section `\n`, `\r\n` and a lone `\r` each end the record; inside they are text.

Unlike Python's csv: a line of no characters is no record, and a file that ends inside quotes is an error.
"""

from service.csvio.cells import SURPLUS, row_data
from service.csvio.reader import MAX_RECORD_BYTES, CsvReader, Header, Record
from service.csvio.writer import encode_row, failure_cells, failure_header, output_cells, output_header

__all__ = [
    "MAX_RECORD_BYTES",
    "SURPLUS",
    "CsvReader",
    "Header",
    "Record",
    "encode_row",
    "failure_cells",
    "failure_header",
    "output_cells",
    "output_header",
    "row_data",
]
