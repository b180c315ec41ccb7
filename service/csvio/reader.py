"""Reader: chunks of bytes to records, each with the exact place where the next one starts."""

from __future__ import annotations

from typing import Self

from service.csvio import charset, kinds
from service.csvio.cells import CellParser, clean_name, header_parser, name_columns
from service.csvio.contradictions import check_header, check_sample, fitting_encoding, remedy
from service.csvio.delimiters import DelimiterSample, choose, failures_delimiter, is_sample, stated_delimiter
from service.csvio.layout import Layout
from service.csvio.plain import PlainLines, plain_end
from service.csvio.records import Header, Record, RecordMaker
from service.csvio.scan import Scanner, count_lines, line_after, text_end
from service.domain.errors import CsvError
from service.domain.model import Checkpoint, Dialect

MAX_RECORD_BYTES = 8 * 1024 * 1024
AUTO = "auto"
_NO_LAYOUT = Layout()


class CsvReader:
    """Takes a file in chunks of any size and returns its records. `header` is set before the first record.

    `delimiter`: one ASCII character, or `auto` for the one of `, ; tab |` that header and first records agree
    on; a first line `sep=;` overrules it. `encoding`: a name that Python knows, or `auto` for UTF-8; a byte
    order mark overrules it. `blanks` is the number of blank records that were skipped.

    Raises CsvError for an invalid setting. After an error the reader cannot be used any more. It holds one
    record, or the sample by which the delimiter is chosen, and one chunk in memory.
    """

    def __init__(
        self,
        *,
        delimiter: str = AUTO,
        encoding: str = AUTO,
        layout: Layout = _NO_LAYOUT,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self.header: Header | None = None
        self.blanks = 0
        self._max_record_bytes = max_record_bytes
        self._charset = charset.find("utf-8" if encoding == AUTO else encoding)
        self._delimiter = delimiter
        self._layout = layout
        self._bom_bytes = 0
        self._is_charset_known = False  # True once the byte order mark was looked for
        self._has_begun = False  # True once the delimiter is known
        self._raw = b""  # bytes that are not part of a record yet
        self._offset = 0  # their place in the file
        self._view = b""  # the scanner's view of them
        self._number = 1  # of the next record
        self._line = 1
        self._trailing = 0
        self._scanner = Scanner("")
        self._maker: RecordMaker | None = None
        self._plain: PlainLines | None = None
        self._check_settings()

    @classmethod
    def resume(
        cls,
        columns: tuple[str, ...],
        dialect: Dialect,
        checkpoint: Checkpoint,
        *,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> Self:
        """A reader that resumes at a record's `end`: `feed` it the bytes from `checkpoint.byte_offset`.

        With the checkpoint at byte 0 of a file that has a header it reads the header again.
        """
        layout = Layout(dialect.escape, dialect.comment, skip_blanks=dialect.skip_blanks)
        reader = cls(
            delimiter=dialect.delimiter,
            encoding=dialect.encoding,
            layout=layout,
            max_record_bytes=max_record_bytes,
        )
        if checkpoint.byte_offset == 0 and (dialect.first_byte or not dialect.first_line):
            return reader
        reader._is_charset_known = reader._has_begun = True
        reader._bom_bytes, reader._trailing = dialect.bom_bytes, dialect.trailing
        reader._offset = checkpoint.byte_offset
        reader._number = checkpoint.rows + 1
        reader._line = checkpoint.line
        reader.blanks = checkpoint.blanks
        reader._scanner = reader._new_scanner()
        reader._set_header(Header(columns, dialect))
        return reader

    def feed(self, chunk: bytes) -> list[Record]:
        """The records that `chunk` completes. Raises CsvError if the bytes cannot be a table."""
        self._raw += chunk
        if not self._is_charset_known and len(self._raw) < charset.LONGEST_BOM:
            return []
        return self._read(at_end=False)

    def close(self) -> list[Record]:
        """The last record, if it has no line end. Raises CsvError for a missing header or closing quote."""
        records = self._read(at_end=True)
        if self.header is None:
            skipped = f" after csv.skip_lines: {self._layout.skip_lines}" if self._layout.skip_lines else ""
            raise CsvError(f"the file is empty: no header line{skipped}")
        return records

    @property
    def position(self) -> Checkpoint:
        """The place where the next record starts; blank records and empty lines before it are behind."""
        place = self._offset + self._scanner.start * self._charset.unit
        return Checkpoint(self._number - 1, place, self._line, self.blanks)

    def _read(self, *, at_end: bool) -> list[Record]:
        if not self._is_charset_known:
            self._detect_charset()
        view = self._charset.extend(self._view, self._raw, at_end=at_end)
        self._view = view[: text_end(view)]
        if not self._has_begun and not self._begin(at_end=at_end):
            return []
        records: list[Record] = []
        most = 0
        while True:
            # After each record that the scanner has found plain lines may follow. The longer there are none,
            # the more records it finds before the next look.
            most = 1 if self._read_plain(records) else max(1, 2 * most)
            spans = self._scanner.scan(self._view, at_end=at_end, most=most)
            for start, stop, after in spans:
                if start == stop:
                    self._line += count_lines(self._view[start:after])
                elif self.header is None:
                    self._read_header(start, stop, after)
                else:
                    self._add_record(start, stop, after, records)
            if len(spans) < most:
                break
        self._drop_consumed(at_end=at_end)
        return records

    def _read_plain(self, records: list[Record]) -> bool:
        """Add the records up to the next quote. False if there is none."""
        scanner = self._scanner
        if self._plain is None or scanner.quote_at >= 0:
            return False
        end = plain_end(self._view, scanner.start, scanner.position)
        lines = self._view[scanner.start : end].splitlines(keepends=True)
        if not lines or len(max(lines, key=len)) > self._max_record_bytes:
            return False
        found, after = self._plain.read(lines, self.position)
        records += found
        self._number, self._line, self.blanks = after.rows + 1, after.line, after.blanks
        scanner.skip_to(end)
        return True

    def _detect_charset(self) -> None:
        found = charset.find_bom(self._raw)
        if found is not None:
            bom, self._charset = found
            self._bom_bytes = self._offset = len(bom)
            self._raw = self._raw[len(bom) :]
            self._check_settings()
        self._is_charset_known = True

    def _check_settings(self) -> None:
        """Raise CsvError for a delimiter, escape or comment that cannot be one in this charset."""
        if self._delimiter != AUTO:
            self._delimiter = self._charset.check_delimiter(self._delimiter)
        self._layout.check(self._delimiter)
        if self._layout.escape:
            self._charset.check_delimiter(self._layout.escape)

    def _begin(self, *, at_end: bool) -> bool:
        """Learn the dialect from the beginning of the file. False if more of it is needed."""
        if not at_end and not is_sample(self._view):
            return False
        kinds.check_kind(self._raw)
        prefix = self._raw[: kinds.PREFIX_BYTES]
        kinds.check_text(prefix.decode(self._charset.name, "replace"))
        if not self._bom_bytes:
            check_sample(self._raw, self._charset)
        is_ours = bool(failures_delimiter(self._view))
        start, lines = self._preamble(is_ours=is_ours, at_end=at_end)
        if start is None:
            return self._wait()
        view = self._view[start:]
        if self._delimiter == AUTO:
            delimiter = choose(view, self._charset.candidates, self._layout, at_end=at_end)
            if not delimiter:
                return self._wait()
            self._delimiter = delimiter
        self._scanner = self._new_scanner(start)
        self._line += lines
        self._has_begun = True
        sample = DelimiterSample(view, self._delimiter, self._layout, at_end=at_end)
        has_header = not self._layout.columns or is_ours
        width = sample.width if has_header else len(self._layout.columns)
        self._trailing = sample.trailing(width, has_header=has_header)
        if has_header and not is_ours:
            sample.check_header(self._layout.skip_lines)
        if not has_header and not self._has_names(view, at_end=at_end):
            self._set_named_columns(self._layout.columns, self._offset + start * self._charset.unit)
        return True

    def _wait(self) -> bool:
        """False; raises CsvError if the header can never be complete."""
        if len(self._raw) > self._max_record_bytes:
            raise self._too_large(0)
        return False

    def _preamble(self, *, is_ours: bool, at_end: bool) -> tuple[int | None, int]:
        """The place after `sep=` line and skipped lines, None if it is not known yet; the number of lines."""
        stated, place = stated_delimiter(self._view)
        lines = 1 if stated else 0
        if stated or is_ours:
            delimiter = stated or failures_delimiter(self._view)
            self._delimiter = self._charset.check_delimiter(delimiter)
        for _ in range(0 if is_ours else self._layout.skip_lines):
            if (after := line_after(self._view, place, at_end=at_end)) is None:
                return None, 0
            lines += after > place
            place = after
        return place, lines

    def _new_scanner(self, start: int = 0) -> Scanner:
        return Scanner(self._delimiter, start, escape=self._layout.escape, comment=self._layout.comment)

    def _has_names(self, view: bytes, *, at_end: bool) -> bool:
        """True if the first record of a file that should have no header is the names of its columns."""
        scanner = self._new_scanner()
        spans = [span for span in scanner.scan(view, at_end=at_end) if span[0] < span[1]]
        if not spans:
            return False
        first, last, _ = spans[0]
        text = view[first:last].decode("latin-1")
        cells = CellParser(self._delimiter, self._layout.escape).parse(text)
        return tuple(cells) == self._layout.columns

    def _read_header(self, start: int, stop: int, after: int) -> None:
        """Take the record as the header."""
        raw = self._bytes(start, stop)
        parser = header_parser(self._delimiter, self._layout.escape)
        try:
            text = raw.decode(self._charset.name)
        except UnicodeDecodeError as error:
            position = self._offset + start * self._charset.unit + error.start
            raise CsvError(
                f"the header cannot be read: byte 0x{raw[error.start]:02x} at position {position} is not "
                f"{self._charset.name} (line {self._line}): {remedy(fitting_encoding(self._raw))}"
            ) from None
        check_header(text, raw, self._raw, self._charset)
        cells = parser.parse(text)
        if parser.fault:
            raise CsvError(f"the header cannot be read: {parser.fault} (line {self._line})")
        self._line += count_lines(self._view[start:after])
        if not any(map(clean_name, cells)):
            return  # a blank record above the header
        columns, notes = name_columns(cells)
        self._set_header(Header(columns, self._dialect(after), notes))

    def _set_named_columns(self, names: tuple[str, ...], first_byte: int) -> None:
        columns, notes = name_columns(names)
        self._set_header(Header(columns, self._dialect_at(first_byte), notes))

    def _dialect(self, after: int) -> Dialect:
        # Half a unit at the end of the file is a whole unit in the view.
        return self._dialect_at(self._offset + min(after * self._charset.unit, len(self._raw)))

    def _dialect_at(self, first_byte: int) -> Dialect:
        return Dialect(
            encoding=self._charset.name,
            delimiter=self._delimiter,
            bom_bytes=self._bom_bytes,
            escape=self._layout.escape,
            comment=self._layout.comment,
            skip_blanks=self._layout.skip_blanks,
            trailing=self._trailing,
            first_byte=first_byte,
            first_line=self._line,
        )

    def _set_header(self, header: Header) -> None:
        self.header = header
        self._maker = RecordMaker(header, self._charset)
        if self._charset.unit == 1 and not header.dialect.escape and not header.dialect.comment:
            self._plain = PlainLines(header, self._charset, self._maker)

    def _add_record(self, start: int, stop: int, after: int, records: list[Record]) -> None:
        """Add the record, unless it is blank and blank records are skipped."""
        assert self._maker is not None
        line, unit = self._line, self._charset.unit
        position = self._offset + start * unit
        content = self._maker.content(self._bytes(start, stop), line=line, position=position)
        self._line = line + 1
        between = self._view[start:stop]
        if b"\n" in between or b"\r" in between:
            self._line += count_lines(between)
        if self._layout.skip_blanks and content.is_blank:
            self.blanks += 1
            return
        number = self._number
        self._number = number + 1
        end = self._offset + min(after * unit, len(self._raw))
        records.append(
            Record(
                number,
                content.cells,
                line,
                position,
                end,
                self._line,
                self.blanks,
                content.defect,
                content.raw,
            )
        )

    def _bytes(self, start: int, stop: int) -> bytes:
        unit = self._charset.unit
        raw = self._view[start:stop] if unit == 1 else self._raw[start * unit : stop * unit]
        if len(raw) > self._max_record_bytes:
            raise self._too_large(start)
        return raw

    def _drop_consumed(self, *, at_end: bool) -> None:
        """Keep only the unfinished record. Raises CsvError if it can never become a record."""
        scanner, unit = self._scanner, self._charset.unit
        # Minus 1: the last unit may be a \r that ends the record.
        if (len(self._view) - scanner.start - 1) * unit > self._max_record_bytes:
            raise self._too_large(scanner.start)
        if at_end and scanner.quote_at >= 0:
            opened = self._line + count_lines(self._view[scanner.start : scanner.quote_at])
            raise CsvError(f"the quote opened on line {opened} has no end: it swallows the rest of the file")
        dropped = scanner.forget()
        self._view = self._view[dropped:]
        self._raw = self._raw[dropped * unit :]
        self._offset += dropped * unit

    def _too_large(self, start: int) -> CsvError:
        limit = self._max_record_bytes // self._charset.unit
        beginning = self._view[start : start + limit + 1]
        probe = self._new_scanner() if self._has_begun else Scanner(self._charset.candidates)
        probe.scan(beginning)
        hint = ""
        if probe.quote_at >= 0:
            opened = self._line + count_lines(beginning[: probe.quote_at])
            hint = f"; the quote opened on line {opened} may be missing its end"
        return CsvError(
            f"the record that starts on line {self._line} is larger than {self._max_record_bytes} bytes "
            f"(ROWFLEET_SPLIT__MAX_RECORD_BYTES){hint}"
        )
