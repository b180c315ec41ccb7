"""Layout: settings of a CSV file beside delimiter and encoding."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.errors import CsvError


@dataclass(frozen=True, slots=True)
class Layout:
    """Settings of a file that its bytes do not show.

    `escape`: a character before a quote that does not end a cell. `comment`: lines that begin with this
    character are skipped. `skip_lines`: lines before the header. `columns`: names, for a file without a
    header. `skip_blanks`: records of empty cells are no rows.
    """

    escape: str = ""
    comment: str = ""
    skip_lines: int = 0
    columns: tuple[str, ...] = ()
    skip_blanks: bool = True

    def check(self, delimiter: str) -> None:
        """Raise CsvError if a character cannot play its part beside this delimiter."""
        for name, text in (("escape", self.escape), ("comment", self.comment)):
            is_character = len(text) == 1 and text.isascii() and text not in '"\r\n\0' and text != delimiter
            if text and not is_character:
                raise CsvError(
                    f"csv.{name}: {text!r} is not one ASCII character other than a quote, a line end or the "
                    "delimiter"
                )
        if self.escape and self.escape == self.comment:
            raise CsvError(f"csv.comment: {self.comment!r} is csv.escape already")
