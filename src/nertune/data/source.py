"""An annotated file or folder, open for one reading: what the formats look at to know it, and read from.

A file is opened once and read from its beginning to its end, so pipes work; what is looked at to tell the format is kept
for the reader that follows.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

from nertune.data.decoding import decoded, opened, without_bom
from nertune.data.formats.answers import Answers
from nertune.data.formats.tokens import JoinerName
from nertune.data.records import Record, records_of
from nertune.data.texts.where import is_json
from nertune.data.wording import listed
from nertune.errors import DataError
from nertune.files import as_utf8

__all__ = ["Line", "Missed", "Offsets", "ReadOptions", "ReadSettings", "Source", "open_source", "with_names"]

Offsets = Literal["code-points", "utf-16"]

_HEAD_BYTES = 1 << 16
_HEAD_RECORDS = 20
_HEAD_LINES = 200
_LONGEST = 1 << 24  # bytes of a line of text


class Line(NamedTuple):
    """A line of a text file without its line break; `number` from 1."""

    number: int
    text: str


class Missed(NamedTuple):
    """A record that was left out, by the line where it begins, and why."""

    line: int
    why: str


class ReadSettings(TypedDict, total=False):
    """The keywords of `open_rows` and `read` but `answers`, for those who pass them on; `open_rows` says what they mean."""

    format: str | None
    limit: int | None
    labels: Sequence[str] | None
    columns: Mapping[str, str] | None
    offsets: Offsets | None
    predictions: bool
    joiner: JoinerName
    split: str | None
    tag_names: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a caller may tell a reader.

    `limit`: how many documents are wanted. `labels`: which of several names of a mention is wanted. `columns`: what the
    keys that a format knows are called in this file; keys that it does not name are not seen. `offsets`: what the file's
    offsets count, None where the file is asked. `predictions`: wanted where a file holds people's annotations, too.
    `joiner`: what stands between tokens. `split`: which part of a folder is wanted. `tag_names`: the tags that numbers
    stand for, from 0.
    `missed`: where the reader puts what it had to leave out whole, as it meets it. `doubts`: where it puts reasons not to
    train on the file as it is.
    """

    limit: int | None = None
    labels: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None
    offsets: Offsets | None = None
    predictions: bool = False
    joiner: JoinerName = "auto"
    split: str | None = None
    tag_names: tuple[str, ...] = ()
    missed: list[Missed] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@dataclass
class Source:
    """What is read. `head`: the first 64 KiB of a file, empty for a folder; `first_records` and `first_lines`: what it
    begins with, as JSON records if it is JSON and as lines otherwise, empty if it is the other. `answers`: what the caller
    knows of LLMs' answers, None where nothing. `encoding`: of the file's own bytes; what is read here is UTF-8 always.

    All of these raise DataError for what is wrong with the bytes looked at.
    """

    path: str
    is_folder: bool = False
    head: bytes = b""
    columns: Mapping[str, str] | None = None
    answers: Answers | None = None
    encoding: str = "utf-8"
    _file: io.BufferedReader | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The last part of its path, without the folder."""
        return Path(self.path).name

    @property
    def file(self) -> io.BufferedReader:
        """The bytes from the beginning, for binary formats. Raises DataError for a folder."""
        if self._file is None:
            raise DataError("is a directory; name the file in it to read", path=self.path)
        return self._file

    @property
    def is_json(self) -> bool:
        """Whether it begins as JSON records do: with an object, or an array of objects."""
        return is_json(self.head)

    @property
    def is_text(self) -> bool:
        """Whether it begins with lines of text that are no JSON."""
        return bool(self.head) and not self.is_json and b"\0" not in self.head

    @cached_property
    def first_records(self) -> tuple[Record, ...]:
        """The first 20 records of a JSON file."""
        return tuple(islice(self._records, _HEAD_RECORDS)) if self.is_json else ()

    @cached_property
    def first_lines(self) -> tuple[Line, ...]:
        """The first 200 lines of a file that is not JSON."""
        return tuple(islice(self._lines, _HEAD_LINES)) if self.is_text else ()

    def records(self, *, renamed: bool = True) -> Iterator[Record]:
        """All records, their keys renamed by `columns` unless the format does that. Raises DataError as `records_of` does."""
        found = chain(self.first_records, self._records)
        if self.columns is None or not renamed:
            return found
        return (with_names(record, self.columns) for record in found)

    def lines(self) -> Iterator[Line]:
        """All lines. Raises DataError for what is not UTF-8, for NUL, and for a line of more than 16 MiB."""
        return chain(self.first_lines, self._lines)

    def error(self, message: str, *, line: int | None = None) -> DataError:
        """A DataError about this file, for the caller to raise."""
        return DataError(message, path=self.path, line=line)

    @cached_property
    def _records(self) -> Iterator[Record]:
        return records_of(self.file, self.path)

    @cached_property
    def _lines(self) -> Iterator[Line]:
        return self._read_lines()

    def _read_lines(self) -> Iterator[Line]:
        number = 0
        while raw := self.file.readline(_LONGEST + 1):
            number += 1
            if len(raw) > _LONGEST:
                raise self.error(f"the line is longer than {_LONGEST >> 20} MiB; is this the right file?", line=number)
            line = without_bom(raw, self.path) if number == 1 else raw
            yield Line(number, decoded(line, self.path, number).rstrip("\r\n"))


@contextmanager
def open_source(
    path: str | os.PathLike[str], *, columns: Mapping[str, str] | None = None, answers: Answers | None = None
) -> Iterator[Source]:
    """A file or folder open for one reading. Raises MissingFileError, and DataError for reads that fail."""
    shown = os.fspath(path)
    if "\0" not in shown and os.path.isdir(shown):
        yield Source(shown, is_folder=True, answers=answers)
        return
    with opened(shown) as found:
        file, encoding = as_utf8(found, shown)
        head = file.read(_HEAD_BYTES)
        if file.seekable():
            file.seek(0)
            whole = file
        else:
            whole = io.BufferedReader(_Behind(head, file))
        yield Source(shown, head=head, columns=columns, answers=answers, encoding=encoding, _file=whole)


class _Behind(io.RawIOBase):
    """Bytes already taken from a pipe, and the pipe after them."""

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if self._head:
            taken, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            taken = self._rest.read1(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)


def with_names(record: Record, columns: Mapping[str, str]) -> Record:
    """The record under the names that the format knows. Raises DataError where it has none of the keys named."""
    value = {name: record.value[column] for name, column in columns.items() if column in record.value}
    if not value:
        raise record.error(
            f"the record has none of the keys {listed(columns.values())}; its keys are {listed(record.value)}"
        )
    return Record(record.path, record.line, value)
