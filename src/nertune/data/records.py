"""From a file to JSON records that know their line: the first step of every reader of JSON.

A file is either one JSON array of records or one record a line (JSONL); the first character that is not blank decides.
Lines are read one by one and the file is opened once, so pipes work. Whatever is wrong with the bytes, the characters
or the JSON is told here, as a DataError that names file and line; the readers see sound objects only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, NoReturn, TypeVar

from nertune.data.decoding import decoded, opened, without_bom
from nertune.data.strict_json import check_strings, decode_at, fail, skip_space
from nertune.data.wording import EXCERPT, describe, listed, shortened
from nertune.errors import DataError, InputError
from nertune.files import as_utf8
from nertune.schema import LabelSet

__all__ = [
    "NotJsonError",
    "Record",
    "checked_record",
    "elements_of",
    "iter_records",
    "label_problem",
    "line_record",
    "records_of",
    "values_of",
]

T = TypeVar("T")

_NESTED = re.compile(rb"\s*\[\s*(?:\[|\Z)")
_LONGEST = 1 << 26  # bytes of a line, characters of an element, that holds one record
_PIECE = 1 << 20  # bytes of an array read at a time
_MARGIN = 2 * EXCERPT  # characters: an error so near to the end of what was read may be one of the cut


class NotJsonError(DataError):
    """A file that begins with neither `{` nor `[`; `seen` is how it begins."""

    def __init__(self, seen: str, *, path: str, line: int) -> None:
        self.seen = seen
        super().__init__(f"begins with {seen!r}, not with the '{{' or '[' of JSON", path=path, line=line)


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of a file; `line` (1-based) is where it begins."""

    path: str
    line: int
    value: dict[str, object]

    def error(self, message: str) -> DataError:
        """A DataError at this record, for the caller to raise."""
        return DataError(message, path=self.path, line=self.line)

    def lacking(self, key: str) -> DataError:
        """The error that a key is not there, naming those that are, for the caller to raise."""
        return self.error(f"the record has no {key!r}; its keys are {listed(self.value)}")

    def string(self, key: str) -> str:
        """The string under `key`. Raises DataError when it is absent (naming the keys found) or no string."""
        if key not in self.value:
            raise self.lacking(key)
        value = self.value[key]
        if not isinstance(value, str):
            raise self.error(f"{key!r} must be a string, found {describe(value)}")
        return value

    def id(self, key: str = "id") -> str | None:
        """The record's own id as a string, None where it has none. Raises DataError on other types."""
        value = self.value.get(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise self.error(f"{key!r} must be a string or a whole number, found {describe(value)}")

    def label(self, value: object) -> str:
        """`value` as a label. Raises DataError when LabelSet would refuse it."""
        if not isinstance(value, str):
            raise self.error(f"a label must be a string, found {describe(value)}")
        problem = label_problem(value)
        if problem is not None:
            raise self.error(f"{problem.replace(repr(value), repr(shortened(value)))}; rename it in the file")
        return value

    def score(self, value: object, what: str, position: int) -> float | None:
        """`value` as the score of an entity or a result, None where it has none. Raises DataError for no probability."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.error(f"{what} {position}: 'score' must be a probability from 0 to 1, found {describe(value)}")
        return float(value)


def iter_records(path: str | os.PathLike[str]) -> Generator[Record, None, None]:
    """The records of a JSON array or JSONL file, in order, read as they are asked for.

    Raises MissingFileError for a path that is not there, and DataError with file and line for everything else: a
    directory, an empty file, an encoding other than UTF-8, NUL or lone surrogates, broken JSON, records that are not
    objects. NotJsonError (a DataError) when the file begins with neither `{` nor `[`.
    """
    with opened(path) as found:
        file, _ = as_utf8(found, str(path))
        yield from records_of(file, os.fspath(path))


def records_of(file: BinaryIO, path: str) -> Iterator[Record]:
    """The records of an open file; `path` is its name in messages. Raises as `iter_records` does."""
    number = 0
    begun = False
    while raw := file.readline(_PIECE):
        number += 1
        if number == 1:
            raw = without_bom(raw, path)
        if not begun and raw.lstrip(b" \t\r\n")[:1] == b"[":
            yield from _array(_Window(file, raw, path, number), path, checked_record)
            return
        line = _whole_line(file, raw, path, number)
        start = skip_space(line, 0)
        if start == len(line):
            continue
        if not begun and line[start] != "{":
            raise NotJsonError(shortened(line[start:].rstrip()), path=path, line=number)
        begun = True
        yield line_record(line.rstrip("\r\n"), start, path, number)
    if not begun:
        raise DataError("holds only blank lines" if number > 1 else "is empty: no records in it", path=path)


def values_of(file: BinaryIO, path: str) -> Iterator[tuple[int, object]]:
    """The elements of an open file that is an array of arrays, or one array a line, each with its line.

    Raises DataError as `records_of` does.
    """
    number = 0
    while raw := file.readline(_PIECE):
        number += 1
        if number == 1:
            raw = without_bom(raw, path)
            if _NESTED.match(raw):
                yield from _array(_Window(file, raw, path, number), path, _checked_value)
                return
        line = _whole_line(file, raw, path, number)
        start = skip_space(line, 0)
        if start < len(line):
            yield _line_value(line.rstrip("\r\n"), start, path, number, _checked_value)


def _whole_line(file: BinaryIO, raw: bytes, path: str, number: int) -> str:
    """The text of a line of which `raw` is the beginning, or all. Raises DataError for one that is too long."""
    if not raw.endswith(b"\n"):
        raw += file.readline(_LONGEST)
    if len(raw) > _LONGEST:
        message = f"the line is longer than {_LONGEST >> 20} MiB, which no record is; is this the right file?"
        raise DataError(message, path=path, line=number)
    return decoded(raw, path, number)


def elements_of(file: BinaryIO, path: str) -> Iterator[tuple[object, str]]:
    """The elements of an open file that is one JSON array, each with what stands for it.

    Raises DataError as `records_of` does, but for elements that are no records.
    """
    window = _Window(file, without_bom(file.read(_PIECE), path), path, 1)
    yield from _array(window, path, lambda value, raw, path, line: (value, raw))


def line_record(line: str, start: int, path: str, number: int) -> Record:
    """The one record of a line, which begins at `start`. Raises DataError."""
    return _line_value(line, start, path, number, checked_record)


def _line_value(line: str, start: int, path: str, number: int, checked: Callable[[object, str, str, int], T]) -> T:
    try:
        value, end = decode_at(line, start)
        rest = skip_space(line, end)
        if rest < len(line):
            raise json.JSONDecodeError("something follows the record on its line", line, rest)
    except ValueError as error:
        hint = "; put each record on one line, or all of them in one array [ … ]" if line.strip() == "{" else ""
        fail(error, line, path, number, hint)
    return checked(value, line, path, number)


class _Window:
    """A stretch of a file's characters that moves on: `content`, which begins at `line`, after `column` characters of it."""

    def __init__(self, file: BinaryIO, raw: bytes, path: str, line: int) -> None:
        self._file, self._raw, self._path = file, raw, path
        self._at, self._before = line, 0  # of the first byte not decoded yet: its line, and the bytes before it there
        self.content, self.line, self.column, self.ended = "", line, 0, False
        self._decode()

    def move(self, position: int) -> None:
        """Begin at `position` of the content, and read as much again as is left; `ended` when there is nothing more."""
        passed = self.content[:position]
        self.line += passed.count("\n")
        self.column = len(passed) - passed.rfind("\n") - 1 + (0 if "\n" in passed else self.column)
        self.content = self.content[position:]
        piece = self._file.read(max(_PIECE, len(self.content)))
        self.ended = not piece
        self._raw += piece
        self._decode()

    def _decode(self) -> None:
        whole = len(self._raw)
        while not self.ended and whole and self._raw[whole - 1] & 0xC0 == 0x80 and len(self._raw) - whole < 3:
            whole -= 1  # back over what continues a character
        if not self.ended and whole and self._raw[whole - 1] >= 0xC0:
            whole -= 1  # and over what begins it: the next piece may bring its end
        elif not self.ended:
            whole = len(self._raw)
        raw, self._raw = self._raw[:whole], self._raw[whole:]
        self.content += decoded(raw, self._path, self._at, before=self._before)
        self._at += raw.count(b"\n")
        self._before = len(raw) - raw.rfind(b"\n") - 1 + (0 if b"\n" in raw else self._before)


def _array(window: _Window, path: str, checked: Callable[[object, str, str, int], T]) -> Iterator[T]:
    """The elements of a JSON array, read a piece at a time. `window` begins where its `[` is the first character of all."""
    position = window.content.index("[") + 1
    line, counted = window.line, 0  # of the record at `position`, and up to where its lines were counted

    def mark() -> str:
        """The next character that is no white space, "" at the end."""
        nonlocal position, counted, line
        while True:
            position = skip_space(window.content, position)
            if position < len(window.content) or window.ended:
                line += window.content.count("\n", counted, position)
                counted = position
                return window.content[position : position + 1]
            move()

    def move() -> None:
        nonlocal position, counted, line
        line += window.content.count("\n", counted, position)
        kept = min(position, EXCERPT)  # for messages
        window.move(position - kept)
        position = counted = kept

    def refuse(message: str) -> NoReturn:
        error = json.JSONDecodeError(message, window.content, position)
        fail(error, window.content, path, window.line, "", window.column)

    if mark() == "]":
        raise DataError("the array is empty: no records in it", path=path, line=line)
    while True:
        while True:
            try:
                value, end = decode_at(window.content, position)
                if end < len(window.content) or window.ended:
                    break
            except ValueError as error:
                if window.ended or not _is_cut(error, window.content):
                    exact = isinstance(error, json.JSONDecodeError)
                    fail(error, window.content, path, window.line if exact else line, "", window.column)
            if len(window.content) - position > _LONGEST:
                message = f"the record is longer than {_LONGEST >> 20} MiB; is this the right file?"
                raise DataError(message, path=path, line=line)
            move()
        yield checked(value, window.content[position:end], path, line)
        position = end
        found = mark()
        if found == "]":
            break
        if found != ",":
            refuse("Expecting ',' or ']' after the record" if found else "the array ends without its ']'")
        position += 1
        mark()
    position += 1
    if mark():
        refuse("something follows the array's ']'")


def _is_cut(error: ValueError, content: str) -> bool:
    """Whether more of the file could mend an error: it is at the end of what was read, or of a string that has no end."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(content) - _MARGIN


def checked_record(value: object, raw: str, path: str, line: int) -> Record:
    """A JSON value, written as `raw`, as a record. Raises DataError unless it is an object of sound strings."""
    if not isinstance(value, dict):
        raise DataError(f"a record must be a JSON object, found {describe(value)}", path=path, line=line)
    check_strings(value, raw, path, line)
    return Record(path, line, value)


def _checked_value(value: object, raw: str, path: str, line: int) -> tuple[int, object]:
    """A JSON value of any kind and its line. Raises DataError unless its strings are sound."""
    check_strings(value, raw, path, line)
    return line, value


@lru_cache(maxsize=1024)
def label_problem(label: str) -> str | None:
    """Why LabelSet would refuse a label; None where it takes it."""
    try:
        LabelSet((label,))
    except InputError as error:
        return str(error)
    return None
