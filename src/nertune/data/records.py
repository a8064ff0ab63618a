"""From the bytes of a file to JSON records that know their line: the first step of every reader.

A file is either one JSON array of records or one record a line (JSONL); the first character that is not blank decides.
Lines are read one by one and the file is opened once, so pipes work. Whatever is wrong with the bytes, the characters
or the JSON is told here, as a DataError that names file and line; the readers see sound objects only.
"""

from __future__ import annotations

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
    "label_problem",
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
_LONGEST = 1 << 26  # bytes of a line that holds one record


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
        problem = label_problem(value)
        if problem is not None:
            raise self.error(f"{problem}; rename it in the file")
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
    while raw := file.readline(_LONGEST + 1):
        number += 1
        if number == 1:
            raw = without_bom(raw, path)
        if len(raw) > _LONGEST and (begun or raw.lstrip()[:1] != b"["):
            message = f"the line is longer than {_LONGEST >> 20} MiB, which no record is; is this the right file?"
            raise DataError(message, path=path, line=number)
        line = decoded(raw, path, number)
        start = skip_space(line, 0)
        if start == len(line):
            continue
        if not begun and line[start] == "[":
            yield from _array(line + decoded(file.read(), path, number + 1), path, number)
            return
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


def _array(content: str, path: str, first_line: int) -> Iterator[Record]:
    """The elements of a JSON array; `first_line` is the line of the file at which `content` begins."""
    line, counted = first_line, 0
    position = skip_space(content, content.index("[") + 1)
    if content[position : position + 1] == "]":
        raise DataError("the array is empty: no records in it", path=path, line=first_line)
    try:
        while True:
            line += content.count("\n", counted, position)
            counted = position
            value, end = decode_at(content, position)
            yield checked_record(value, content[position:end], path, line)
            position = skip_space(content, end)
            mark = content[position : position + 1]
            if mark == "]":
                break
            if mark != ",":
                wanted = "Expecting ',' or ']' after the record" if mark else "the array ends without its ']'"
                raise json.JSONDecodeError(wanted, content, position)
            position = skip_space(content, position + 1)
        rest = skip_space(content, position + 1)
        if rest < len(content):
            raise json.JSONDecodeError("something follows the array's ']'", content, rest)
    except NertuneError:
        raise
    except ValueError as error:
        _fail_json(error, content, path, first_line if isinstance(error, json.JSONDecodeError) else line, "")


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


def _fail_json(error: ValueError, content: str, path: str, first_line: int, hint: str) -> NoReturn:
    if not isinstance(error, json.JSONDecodeError):
        raise DataError(f"broken JSON: {error}{hint}", path=path, line=first_line) from error
    start = content.rfind("\n", 0, error.pos) + 1
    stop = content.find("\n", error.pos)
    before = content[max(start, error.pos - _EXCERPT) : error.pos]
    after = content[error.pos : min(len(content) if stop < 0 else stop, error.pos + _EXCERPT)]
    line = first_line + content.count("\n", 0, error.pos)
    column, fault = error.pos - start + 1, error.msg.removesuffix(" at")
    message = f"broken JSON at column {column}: {fault}, at the mark ▸ in: {before}▸{after.rstrip()}"
    raise DataError(message + hint, path=path, line=line) from error


def without_bom(raw: bytes, path: str) -> bytes:
    """The first bytes of a file without a UTF-8 byte order mark; DataError for UTF-16."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or raw[:2] in (b"{\0", b"[\0", b"\0{", b"\0["):
        raise DataError(f"is UTF-16; convert with: iconv -f UTF-16 -t UTF-8 {path} > NEW", path=path, line=1)
    return raw.removeprefix(b"\xef\xbb\xbf")


def decoded(raw: bytes, path: str, first_line: int) -> str:
    """Bytes as text; DataError, with the line, for NUL and for anything but UTF-8."""
    nul = raw.find(b"\0")
    if nul >= 0:
        message = "holds a NUL byte, which no text file does; is this the right file?"
        raise DataError(message, path=path, line=first_line + raw.count(b"\n", 0, nul))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"is not UTF-8 (0x{raw[error.start]:02X}, byte {column} of the line)"
        if _is_gb18030(raw):
            message += f"; it looks like GB18030/GBK; convert with: iconv -f GB18030 -t UTF-8 {path} > NEW"
        raise DataError(message, path=path, line=line) from error


def _is_gb18030(raw: bytes) -> bool:
    try:
        raw.decode("gb18030")
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
def label_problem(label: str) -> str | None:
    """Why LabelSet would refuse a label; None where it takes it."""
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
