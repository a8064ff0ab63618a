"""Rows from lines: plain text, and JSON records, a line each or as the elements of one array."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple

from nertune.data.decoding import decoded, without_bom
from nertune.data.records import Record, checked_record, elements_of, line_record
from nertune.data.strict_json import skip_space
from nertune.data.texts.where import BEGINNING, Keys, Place
from nertune.errors import DataError
from nertune.schema import SourceText

__all__ = ["LONGEST", "Line", "Lines", "from_array", "from_lines", "from_records", "unusable"]

LONGEST = 4 << 20  # bytes of a row; a long novel is shorter
_MEGABYTE = 1 << 20


class Line(NamedTuple):
    """One line with its number from 1, and the byte after it. `raw` is None where it is longer than LONGEST."""

    number: int
    raw: bytes | None
    end: int | None


class Lines:
    """The lines of a file after a place, in bounded memory. `shown`: the file's name in messages.

    Where the file is `seekable` and the place says at which byte, what is before it is not read.
    """

    def __init__(self, file: BufferedReader, seekable: bool, shown: str, after: Place = BEGINNING) -> None:
        self.file, self.seekable, self.shown, self.after = file, seekable, shown, after

    def __iter__(self) -> Iterator[Line]:
        number, end = 0, 0
        if self.after.offset is not None and self.seekable:
            number, end = self.after.row, self.after.offset
            self.file.seek(end)
        while raw := self.file.readline(LONGEST):
            number += 1
            end += len(raw)
            whole = True
            while len(raw) == LONGEST and not raw.endswith(b"\n"):
                more = self.file.readline(LONGEST)
                if not more:
                    break
                whole, raw, end = False, more, end + len(more)
            if number > self.after.row:
                yield Line(number, raw if whole else None, end if self.seekable else None)

    def decoded(self, line: Line) -> str:
        """A line's characters, without the line break. Raises DataError for what is no text or too long."""
        if line.raw is None:
            raise DataError(
                f"is longer than {LONGEST // _MEGABYTE} MB; cut the text", path=self.shown, line=line.number
            )
        raw = without_bom(line.raw, self.shown) if line.number == 1 else line.raw
        return decoded(raw, self.shown, line.number).rstrip("\r\n")

    def reason(self, error: DataError) -> str:
        """What an error says, without the place, which the row knows."""
        where = f"{self.shown}:{error.line}: " if error.line is not None else f"{self.shown}: "
        return str(error).removeprefix(where)


def unusable(row: int, offset: int | None, problem: str, *, id: str | None = None, text: str = "") -> SourceText:
    """A row that cannot be used."""
    return SourceText(id, text, row, problem, offset)


def from_lines(lines: Lines) -> Iterator[SourceText]:
    """A text a line; blank lines are none."""
    for line in lines:
        try:
            text = lines.decoded(line)
        except DataError as error:
            yield unusable(line.number, line.end, lines.reason(error))
            continue
        if text.strip():
            yield SourceText(None, text, line.number, offset=line.end)


def from_records(lines: Lines, *, keys: Keys) -> Iterator[SourceText]:
    """A JSON object a line."""
    for line in lines:
        try:
            content = lines.decoded(line)
            start = skip_space(content, 0)
            if start == len(content):
                continue
            record = line_record(content, start, lines.shown, line.number)
        except DataError as error:
            yield unusable(line.number, line.end, lines.reason(error))
            continue
        yield _row(record, keys, lines, line.end)


def from_array(lines: Lines, *, keys: Keys) -> Iterator[SourceText]:
    """The elements of one JSON array, numbered from 1; read a piece at a time. What breaks its syntax ends the reading."""
    for number, (value, raw) in enumerate(elements_of(lines.file, lines.shown), 1):
        if number <= lines.after.row:
            continue
        try:
            record = checked_record(value, raw, lines.shown, number)
        except DataError as error:
            yield unusable(number, None, lines.reason(error))
            continue
        yield _row(record, keys, lines, None)


def _row(record: Record, keys: Keys, lines: Lines, end: int | None) -> SourceText:
    own: str | None = None
    text = ""
    try:
        own = record.id(keys.id)
        text = record.string(keys.text)
    except DataError as error:
        value = record.value.get(keys.text)
        text = value if isinstance(value, str) else ""
        return unusable(record.line, end, lines.reason(error), id=own, text=text)
    problem = None if text.strip() else f"{keys.text!r} is empty"
    return SourceText(own, text, record.line, problem, end)
