"""From the bytes of a file to JSON records that know their line: the first step of every reader.

A file is either one JSON array of records or one record a line (JSONL); the first character that is not blank decides.
Lines are read one by one and the file is opened once, so pipes work. Whatever is wrong with the bytes, the characters
or the JSON is told here, as a DataError that names file and line; the readers see sound objects only.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NoReturn

from nertune.errors import DataError, InputError, MissingFileError, NertuneError
from nertune.schema import LabelSet

__all__ = [
    "NotJsonError",
    "Record",
    "checked_record",
    "decode_at",
    "decoded",
    "describe",
    "forbidden_string",
    "iter_records",
    "line_record",
    "opened",
    "records_of",
    "shortened",
    "skip_space",
    "without_bom",
]

_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPE_TO_CHECK = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")
_EXCERPT = 30  # characters shown on either side of an error
_LONGEST = 1 << 26  # bytes of a line, characters of an element, that holds one record
_PIECE = 1 << 20  # bytes of an array read at a time
_MARGIN = 2 * _EXCERPT  # characters: an error so near to the end of what was read may be one of the cut


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

    def string(self, key: str) -> str:
        """The string under `key`. Raises DataError when it is absent (naming the keys found) or no string."""
        if key not in self.value:
            raise self.error(f"the record has no {key!r}; its keys are {_listed(self.value)}")
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
        problem = _label_problem(value)
        if problem is not None:
            raise self.error(f"{problem.replace(repr(value), repr(shortened(value)))}; rename it in the file")
        return value


def iter_records(path: str | os.PathLike[str]) -> Generator[Record, None, None]:
    """The records of a JSON array or JSONL file, in order, read as they are asked for.

    Raises MissingFileError for a path that is not there, and DataError with file and line for everything else: a
    directory, an empty file, an encoding other than UTF-8, NUL or lone surrogates, broken JSON, records that are not
    objects. NotJsonError (a DataError) when the file begins with neither `{` nor `[`.
    """
    with opened(path) as file:
        yield from records_of(file, os.fspath(path))


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """A file open for reading bytes. Raises MissingFileError, or DataError for a directory and for failing reads."""
    shown = os.fspath(path)
    if "\0" in shown or not os.path.exists(shown):
        raise MissingFileError(
            f"{shown}: no such file (looked for {os.path.abspath(shown)}); check the spelling, "
            "or give the path from the directory you are in"
        )
    if os.path.isdir(shown):
        raise DataError("is a directory; name the file in it to read", path=shown)
    try:
        with Path(shown).open("rb") as file:
            yield file
    except NertuneError:
        raise
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=shown) from error


def decode_at(content: str, position: int) -> tuple[object, int]:
    """The JSON value at `position` (code points) and where it ends.

    Raises ValueError (json.JSONDecodeError where the place is known) on anything that is not strict JSON: broken
    syntax, NaN and infinities, a key given twice in one object, nesting too deep to read.
    """
    try:
        return _DECODER.raw_decode(content, position)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply to be a record") from None


def skip_space(content: str, position: int) -> int:
    """The first place at or after `position` that is not JSON white space."""
    found = _SPACE.match(content, position)
    return found.end() if found else position


def describe(value: object) -> str:
    """A JSON value in words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {shortened(value)!r}"
    if isinstance(value, int | float):
        return f"the number {shortened(repr(value))}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"an object with the keys {_listed(value)}" if isinstance(value, dict) and value else "an empty object"


def forbidden_string(value: object) -> str | None:
    """The first string within a JSON value that holds NUL or a lone surrogate, or None."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and _FORBIDDEN.search(item):
            return item
        if isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            pending += item
    return None


def records_of(file: BinaryIO, path: str) -> Iterator[Record]:
    """The records of an open file; `path` is its name in messages. Raises as `iter_records` does."""
    number = 0
    begun = False
    while raw := file.readline(_PIECE):
        number += 1
        if number == 1:
            raw = without_bom(raw, path)
        if not begun and raw.lstrip(b" \t\r\n")[:1] == b"[":
            yield from _array(_Window(file, raw, path, number), path)
            return
        if not raw.endswith(b"\n"):
            raw += file.readline(_LONGEST)
        if len(raw) > _LONGEST:
            message = f"the line is longer than {_LONGEST >> 20} MiB, which no record is; is this the right file?"
            raise DataError(message, path=path, line=number)
        line = decoded(raw, path, number)
        start = skip_space(line, 0)
        if start == len(line):
            continue
        if not begun and line[start] != "{":
            raise NotJsonError(shortened(line[start:].rstrip()), path=path, line=number)
        begun = True
        yield line_record(line.rstrip("\r\n"), start, path, number)
    if not begun:
        raise DataError("holds only blank lines" if number > 1 else "is empty: no records in it", path=path)


def line_record(line: str, start: int, path: str, number: int) -> Record:
    """The one record of a line, which begins at `start`. Raises DataError."""
    try:
        value, end = decode_at(line, start)
        rest = skip_space(line, end)
        if rest < len(line):
            raise json.JSONDecodeError("something follows the record on its line", line, rest)
    except ValueError as error:
        hint = "; put each record on one line, or all of them in one array [ … ]" if line.strip() == "{" else ""
        _fail_json(error, line, path, number, hint)
    return checked_record(value, line, path, number)


class _Window:
    """A stretch of a file's characters that moves on: `content`, which begins at `line`, after `column` characters of it."""

    def __init__(self, file: BinaryIO, raw: bytes, path: str, line: int) -> None:
        self._file, self._raw, self._path = file, raw, path
        self._at, self._before = (
            line,
            0,
        )  # the line of the first byte that is not decoded, and the bytes before it there
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


def _array(window: _Window, path: str) -> Iterator[Record]:
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
        kept = min(position, _EXCERPT)  # for messages
        window.move(position - kept)
        position = counted = kept

    def fail(message: str) -> NoReturn:
        error = json.JSONDecodeError(message, window.content, position)
        _fail_json(error, window.content, path, window.line, "", window.column)

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
                    _fail_json(error, window.content, path, window.line if exact else line, "", window.column)
            if len(window.content) - position > _LONGEST:
                message = f"the record is longer than {_LONGEST >> 20} MiB; is this the right file?"
                raise DataError(message, path=path, line=line)
            move()
        yield checked_record(value, window.content[position:end], path, line)
        position = end
        found = mark()
        if found == "]":
            break
        if found != ",":
            fail("Expecting ',' or ']' after the record" if found else "the array ends without its ']'")
        position += 1
        mark()
    position += 1
    if mark():
        fail("something follows the array's ']'")


def _is_cut(error: ValueError, content: str) -> bool:
    """Whether more of the file could mend an error: it is at the end of what was read, or of a string that has no end."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(content) - _MARGIN


def checked_record(value: object, raw: str, path: str, line: int) -> Record:
    """A JSON value, written as `raw`, as a record. Raises DataError unless it is an object of sound strings."""
    if not isinstance(value, dict):
        raise DataError(f"a record must be a JSON object, found {describe(value)}", path=path, line=line)
    # Decoding UTF-8 refuses surrogates and the JSON grammar refuses a raw NUL: only escapes can bring them in.
    if _ESCAPE_TO_CHECK.search(raw):
        found = forbidden_string(value)
        if found is not None:
            kind = "a NUL character" if "\0" in found else "half of a surrogate pair, which is no character"
            raise DataError(f"holds {kind}: {shortened(found)!a}; remove it", path=path, line=line)
    return Record(path, line, value)


def _fail_json(
    error: ValueError, content: str, path: str, first_line: int, hint: str, first_column: int = 0
) -> NoReturn:
    if not isinstance(error, json.JSONDecodeError):
        raise DataError(f"broken JSON: {error}{hint}", path=path, line=first_line) from error
    start = content.rfind("\n", 0, error.pos) + 1
    stop = content.find("\n", error.pos)
    before = content[max(start, error.pos - _EXCERPT) : error.pos]
    after = content[error.pos : min(len(content) if stop < 0 else stop, error.pos + _EXCERPT)]
    line = first_line + content.count("\n", 0, error.pos)
    column, fault = error.pos - start + 1 + (0 if start else first_column), error.msg.removesuffix(" at")
    message = (
        f"broken JSON at column {column}: {fault}, at the mark ▸ in: {_visible(before)}▸{_visible(after.rstrip())}"
    )
    raise DataError(message + hint, path=path, line=line) from error


def _visible(text: str) -> str:
    """With the escapes of control characters, which would steer a terminal."""
    return "".join(ascii(character)[1:-1] if ord(character) < 32 else character for character in text)


def without_bom(raw: bytes, path: str) -> bytes:
    """The first bytes of a file without a UTF-8 byte order mark; DataError for UTF-16."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or raw[:2] in (b"{\0", b"[\0", b"\0{", b"\0["):
        raise DataError(f"is UTF-16; convert with: iconv -f UTF-16 -t UTF-8 {path} > NEW", path=path, line=1)
    return raw.removeprefix(b"\xef\xbb\xbf")


def decoded(raw: bytes, path: str, first_line: int, *, before: int = 0) -> str:
    """Bytes as text; DataError, with the line, for NUL and for anything but UTF-8. `before`: bytes before it on its line."""
    nul = raw.find(b"\0")
    if nul >= 0:
        message = "holds a NUL byte, which no text file does; is this the right file?"
        raise DataError(message, path=path, line=first_line + raw.count(b"\n", 0, nul))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        start = raw.rfind(b"\n", 0, error.start) + 1
        column = error.start - start + 1 + (0 if start else before)
        message = f"is not UTF-8 (0x{raw[error.start]:02X}, byte {column} of the line)"
        if _is_gb18030(raw):
            message += f"; it looks like GB18030/GBK; convert with: iconv -f GB18030 -t UTF-8 {path} > NEW"
        raise DataError(message, path=path, line=line) from error


def _is_gb18030(raw: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("gb18030")().decode(raw)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; a key given twice is refused, because json would drop the first one's annotations without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


@lru_cache(maxsize=1024)
def _label_problem(label: str) -> str | None:
    try:
        LabelSet((label,))
    except InputError as error:
        return str(error)
    return None


def shortened(text: str) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= 2 * _EXCERPT else text[: 2 * _EXCERPT - 1] + "…"


def _listed(keys: Iterable[str]) -> str:
    names = [repr(shortened(key)) for key in keys]
    return ", ".join(names[:12] + ["…"] * (len(names) > 12)) or "(none)"
