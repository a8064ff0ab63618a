"""Reading and writing annotated files: the data room's front door."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice

from nertune.data.formats import FORMATS, Format, WritableFormat, named, sniffed, undetected
from nertune.data.records import NotJsonError, Record, iter_records
from nertune.errors import DataError, InputError
from nertune.schema import Document, LabelSet

__all__ = ["Corpus", "detect", "opened_as", "read", "write"]

_HEAD = 20  # records looked at to tell the format


@dataclass(frozen=True)
class Corpus:
    """Documents read from a file, the format they were in, and notes for people on what the reader decided."""

    documents: tuple[Document, ...]
    format: str
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> LabelSet:
        """The labels that occur, most frequent first. Raises InputError when no document holds an entity."""
        return LabelSet.from_documents(self.documents)


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    limit: int | None = None,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Corpus:
    """The documents of an annotated file, with half-open spans in code points.

    `format` is one of FORMATS, told from the content where None. `limit` documents are returned, but at least the first
    1,000 records are read, because the span convention is told from them. `labels` chooses among the display names of
    mentions that carry several (`entity_names`). `columns` maps keys that the format knows to what they are called in
    this file; keys that it does not name are not seen by the reader.

    Raises MissingFileError, and DataError with file and line for whatever else is wrong with the file or `format`;
    InputError for a `limit` below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, found {limit}")
    limit = None if limit is None else min(limit, sys.maxsize)  # more than islice takes
    with opened_as(path, format, columns) as (reader, records):
        placed = reader.read(records, limit=limit, labels=labels)
    return Corpus(placed.documents, reader.name, placed.notes)


def detect(path: str | os.PathLike[str]) -> str:
    """The name of the format that a file's first records are in. Raises as `read` does."""
    with opened_as(path, None) as (reader, _):
        return reader.name


def write(documents: Iterable[Document], path: str | os.PathLike[str], *, format: str) -> None:
    """Write `documents` in `format`, atomically: an existing file is replaced whole or left as it is.

    Raises DataError for an unknown format, for one that documents alone do not suffice for (alpaca needs a prompt: see
    `write_alpaca`), and for text that is not Unicode; MissingFileError for an absent directory; DiskSpaceError.
    """
    writer = named(format, path=os.fspath(path))
    if not isinstance(writer, WritableFormat):
        able = ", ".join(name for name, entry in FORMATS.items() if isinstance(entry, WritableFormat))
        message = f"{format} rows need a prompt, so documents alone do not make them; try {able}"
        raise DataError(message, path=os.fspath(path))
    writer.write(documents, path)


@contextmanager
def opened_as(
    path: str | os.PathLike[str], format: str | None, columns: Mapping[str, str] | None = None
) -> Iterator[tuple[Format, Iterable[Record]]]:
    """The reader of a file's format, told from its content where None, and the file's records. Raises as `read` does."""
    shown = os.fspath(path)
    chosen = None if format is None else named(format, path=shown)
    with closing(iter_records(path)) as found:
        records: Iterator[Record] = found if columns is None else (_renamed(record, columns) for record in found)
        if chosen is not None:
            yield chosen, records
            return
        try:
            head = list(islice(records, _HEAD))
        except NotJsonError as error:
            raise undetected(f"it begins with {error.seen!r}", path=shown, line=error.line) from None
        yield sniffed(head, path=shown), chain(head, records)


def _renamed(record: Record, columns: Mapping[str, str]) -> Record:
    """The record under the names that the format knows."""
    value = {name: record.value[column] for name, column in columns.items() if column in record.value}
    return Record(record.path, record.line, value)
