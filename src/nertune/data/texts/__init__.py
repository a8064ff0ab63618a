"""Texts without annotation: the input of extraction, from files of any size, read row by row.

Plain text, one a line; JSON records, a line each or in an array; CSV and TSV with a header; Parquet. What is wrong with one
row is told in that row and nowhere else, so that no row ends a long job; a DataError is about the whole file.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from gzip import BadGzipFile, GzipFile
from io import BufferedReader
from itertools import chain
from pathlib import PurePath
from typing import NamedTuple

from nertune.data.decoding import decoded, opened, without_bom
from nertune.data.texts.lines import Lines, from_array, from_lines, from_records
from nertune.data.texts.parquet import count_rows, from_parquet
from nertune.data.texts.tables import from_table
from nertune.data.texts.where import BEGINNING, Keys, Place, is_array, is_json
from nertune.errors import DataError, InputError
from nertune.files import as_utf8, encoding_of
from nertune.schema import SourceText

__all__ = ["BEGINNING", "FORMS", "Extent", "Keys", "Place", "SourceText", "extent", "form_of", "read_texts"]

FORMS = ("text", "jsonl", "csv", "tsv", "parquet")
_BY_NAME = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"} | {f".{form}": form for form in FORMS[2:]}
_HEAD = 100  # unusable rows at the beginning, after which the file is taken for another kind of file
_GZIP = b"\x1f\x8b"

Note = Callable[[str], None]


class Extent(NamedTuple):
    """How long a file is: in bytes, to be compared with `SourceText.offset`, or in rows; None where that is not known."""

    size: int | None = None
    rows: int | None = None


def read_texts(
    source: str,
    *,
    whole: bool = False,
    form: str | None = None,
    keys: Keys | None = None,
    after: Place = BEGINNING,
    note: Note | None = None,
) -> Iterator[SourceText]:
    """The rows of a file, or of stdin for "-", as they are read; gzip'd ones too. Blank lines are passed over.

    `whole`: the file is one plain text, line breaks and all. `form`: one of FORMS, told from the name, and from the
    content where None. `keys`: under which keys, or in which columns, text and id are. `after`: rows up to there are
    passed over, without being read where the file allows it. `note`: told of an encoding other than UTF-8, and of columns
    that are odd.
    Raises MissingFileError, and DataError for a file that cannot be read, holds no text, or begins with 100 rows of which
    none can be used, or with fewer and ends.
    """
    shown = "stdin" if source == "-" else source
    told: Note = note or (lambda message: None)
    rows = _rows(source, shown, whole, form, keys or Keys(), after, lambda message: told(f"{shown}: {message}"))
    if after != BEGINNING:
        yield from rows
        return
    head: list[SourceText] = []
    for row in rows:
        head.append(row)
        if row.problem is None or len(head) == _HEAD:
            break
    if not head:
        raise DataError("holds no text", path=shown)
    if head[-1].problem is not None:
        raise DataError(str(head[0].problem), path=shown, line=head[0].row)
    yield from chain(head, rows)


def form_of(source: str) -> str | None:
    """The form that a name tells, `texts.csv.gz` as `texts.csv`; None where only the content does."""
    path = PurePath(source)
    return _BY_NAME.get(PurePath(path.stem).suffix if path.suffix == ".gz" else path.suffix)


def extent(source: str, *, form: str | None = None) -> Extent:
    """How long a file is, without reading it. Raises what `read_texts` does."""
    if source == "-":
        return Extent()
    if (form or form_of(source)) == "parquet":
        return Extent(rows=count_rows(source))
    with opened(source) as file:
        head = file.peek()
        if head[:2] == _GZIP or not file.seekable() or encoding_of(head)[0] != "utf-8":
            return Extent()
        return Extent(size=file.seek(0, 2))


def _rows(
    source: str, shown: str, whole: bool, form: str | None, keys: Keys, after: Place, note: Note
) -> Iterator[SourceText]:
    form = form or form_of(source)
    if form == "parquet" and not whole:
        if source == "-":
            raise InputError("Parquet cannot be read from stdin: its table of contents is at its end. Give the file")
        yield from from_parquet(source, keys, after, note)
        return
    with _stream(source, shown, note) as (file, seekable):
        try:
            if whole:
                yield from _from_all(file, shown) if after == BEGINNING else ()
                return
            read = _reader(file, form, keys, note)
            yield from read(Lines(file, seekable, shown, after))
        except (EOFError, BadGzipFile, zlib.error) as error:
            raise DataError(f"its compressed data is damaged: {error}", path=shown) from error


def _reader(file: BufferedReader, form: str | None, keys: Keys, note: Note) -> Callable[[Lines], Iterator[SourceText]]:
    if form in ("csv", "tsv"):
        return partial(from_table, keys=keys, dialect="excel" if form == "csv" else "excel-tab", note=note)
    head = file.peek(4096)
    if form == "text" or (form is None and not is_json(head)):
        return from_lines
    return partial(from_array if is_array(head) else from_records, keys=keys)


@contextmanager
def _stream(source: str, shown: str, note: Note) -> Iterator[tuple[BufferedReader, bool]]:
    """A file or stdin, unpacked and in UTF-8, and whether reading can begin in its midst."""
    if source == "-":
        buffer = sys.stdin.buffer
        file: BufferedReader = buffer if isinstance(buffer, BufferedReader) else BufferedReader(buffer)  # type: ignore
        yield _unpacked(file, False, shown, note)
        return
    with opened(source) as file:
        yield _unpacked(file, file.seekable(), shown, note)


def _unpacked(file: BufferedReader, seekable: bool, shown: str, note: Note) -> tuple[BufferedReader, bool]:
    if file.peek(2)[:2] == _GZIP:
        file, seekable = BufferedReader(GzipFile(fileobj=file)), False
    text, encoding = as_utf8(file, shown)
    if encoding != "utf-8":
        note(f"read as {encoding.upper()}")
    return text, seekable and text is file


def _from_all(file: BufferedReader, shown: str) -> Iterator[SourceText]:
    lines = (
        decoded(without_bom(raw, shown) if number == 1 else raw, shown, number) for number, raw in enumerate(file, 1)
    )
    text = "".join(lines)
    if text.strip():
        yield SourceText(None, text)
