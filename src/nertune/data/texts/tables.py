"""Rows from CSV and TSV with a header. A row is counted as spreadsheets count it: the header is row 1."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator

from nertune.data.texts.lines import LONGEST, Line, Lines, unusable
from nertune.data.texts.where import BEGINNING, Keys, check_columns
from nertune.errors import DataError
from nertune.schema import SourceText

__all__ = ["from_table"]

_SPAN = 1 << 20  # bytes of a record that goes over several lines

_CR = (
    r"holds a carriage return (CR) outside of quotation marks; where CR alone ends all lines: tr '\r' '\n' < FILE > NEW"
)


class _UnclosedError(Exception):
    """A quoted field that does not end."""


def from_table(lines: Lines, *, keys: Keys, dialect: str, note: Callable[[str], None]) -> Iterator[SourceText]:
    """A text a record. A quotation mark that opens a field and is never closed spoils its own line alone.

    `note`: told of columns that stand twice or without a name. Raises DataError for a header without the text's column, or
    with two of it or of the id's.
    """
    csv.field_size_limit(2 * LONGEST)
    records, header = _begun(lines, dialect)
    check_columns(header, keys, lines.shown, note, line=1)
    place, own = header.index(keys.text), header.index(keys.id) if keys.id in header else None
    for number, cells, end, problem in records:
        text = cells[place] if place < len(cells) else ""
        identity = (cells[own] or None) if own is not None and own < len(cells) else None
        if problem is None and len(cells) != len(header):
            problem = f"has {len(cells)} cells, the header {len(header)}"
        if problem is None and not text.strip():
            problem = f"{keys.text!r} is empty"
        if problem is not None:
            yield unusable(number, end, problem, id=identity, text=text)
        else:
            yield SourceText(identity, text, number, offset=end)


_Cells = tuple[int, list[str], int | None, str | None]


def _begun(lines: Lines, dialect: str) -> tuple[Iterator[_Cells], list[str]]:
    """The records after the place that `lines` begin at, and the header's names."""
    after = lines.after
    jumps = after != BEGINNING and after.offset is not None and lines.seekable
    beginning = Lines(lines.file, lines.seekable, lines.shown)
    records = _records(beginning, dialect, 0)
    found = next(records, None)
    if found is None:
        raise DataError("holds no text", path=lines.shown)
    _, header, _, problem = found
    if problem is not None:
        raise DataError(f"its header cannot be read: {problem}", path=lines.shown, line=1)
    if jumps:
        records = _records(lines, dialect, after.row)
    return (record for record in records if record[0] > after.row), header


def _records(lines: Lines, dialect: str, before: int) -> Iterator[_Cells]:
    """Records with their numbers, which go on after `before`, the byte after each, and what is wrong with it."""
    feed = _Feed(lines)
    number = before
    while True:
        problem = None
        cells: list[str] = []
        feed.taken.clear()
        try:
            cells = next(csv.reader(feed.pieces(), dialect), [])
        except DataError as error:
            problem = lines.reason(error)
        except (_UnclosedError, csv.Error) as error:
            problem = _CR if "new-line character" in str(error) else str(error)
        if not feed.taken:
            return
        if problem is not None:
            feed.put_back()
        if cells or problem:
            number += 1
            yield number, cells, feed.taken[-1].end, problem


class _Feed:
    """Lines one by one, those of the record at hand kept, so that all but its first can be put back."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._coming = iter(lines)
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []

    def put_back(self) -> None:
        self._again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def pieces(self) -> Iterator[str]:
        """What the reader of one record is given; it asks for another line only where a quoted field goes on."""
        size = 0
        while True:
            line = self._again.popleft() if self._again else next(self._coming, None)
            if line is None:
                if self.taken:
                    raise _UnclosedError("a quotation mark opens a field and is never closed")
                return
            self.taken.append(line)
            size += len(line.raw or b"")
            if len(self.taken) > 1 and size > _SPAN:
                raise _UnclosedError(f"a quotation mark opens a field and is not closed within {_SPAN >> 20} MB")
            ending = "\n" if (line.raw or b"").endswith(b"\n") else ""
            yield self._lines.decoded(line) + ending
