"""Texts without annotation: the input of extraction. Plain text, one a line, or JSON records with a key `text`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from io import BufferedReader
from typing import NamedTuple

from nertune.data.records import decoded, opened, records_of, without_bom
from nertune.errors import DataError

__all__ = ["SourceText", "read_texts"]

# A plain text may begin with a bracket, too: JSON goes on with an object, a key, or white space.
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[{\]])")


class SourceText(NamedTuple):
    """One text and its id: the record's own, or None."""

    id: str | None
    text: str


def read_texts(source: str, *, whole: bool = False) -> Iterator[SourceText]:
    """The texts of a file, or of stdin for "-", as they are read. Blank lines are passed over.

    `whole`: the file is one plain text, line breaks and all.
    Raises MissingFileError, and DataError with file and line for what cannot be read: other encodings than UTF-8, broken
    JSON, a record without `text`, an empty text in a record, a file without any text.
    """
    shown = "stdin" if source == "-" else source
    count = 0
    with nullcontext(_stdin()) if source == "-" else opened(source) as file:
        texts = _from_all if whole else _from_records if _JSON.match(file.peek(4096)) else _from_lines
        for text in texts(file, shown):
            count += 1
            yield text
    if not count:
        raise DataError("holds no text", path=shown)


def _stdin() -> BufferedReader:
    buffer = sys.stdin.buffer
    return buffer if isinstance(buffer, BufferedReader) else BufferedReader(buffer)  # type: ignore[arg-type]


def _from_records(file: BufferedReader, shown: str) -> Iterator[SourceText]:
    for record in records_of(file, shown):
        text = record.string("text")
        if not text.strip():
            raise record.error("'text' is empty; leave the record out")
        yield SourceText(record.id(), text)


def _from_lines(file: BufferedReader, shown: str) -> Iterator[SourceText]:
    for number, raw in enumerate(file, 1):
        line = decoded(without_bom(raw, shown) if number == 1 else raw, shown, number).rstrip("\r\n")
        if line.strip():
            yield SourceText(None, line)


def _from_all(file: BufferedReader, shown: str) -> Iterator[SourceText]:
    lines = (
        decoded(without_bom(raw, shown) if number == 1 else raw, shown, number) for number, raw in enumerate(file, 1)
    )
    text = "".join(lines)
    if text.strip():
        yield SourceText(None, text)
