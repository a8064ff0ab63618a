"""Reading and writing annotated files: the data room's front door."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Unpack

from nertune.data.formats.answers import Answers
from nertune.data.formats.conll import Conll
from nertune.data.formats.hf import HuggingFace
from nertune.data.formats.table import FORMATS, Format, WritableFormat, named, sniffed
from nertune.data.formats.tagging import Scheme
from nertune.data.formats.tokens import JoinerName
from nertune.data.source import Missed, Offsets, ReadOptions, ReadSettings, Source, open_source
from nertune.data.spans import Convention, Placing, Row, Unit
from nertune.data.wording import counted
from nertune.errors import DataError, InputError
from nertune.schema import Document, LabelSet

__all__ = ["Corpus", "Reading", "detect", "open_rows", "read", "write", "writer"]

_UNSAID = ReadOptions()
_ONLY_FOR = (
    ("predictions", "--predictions", ("labelstudio",)),
    ("columns", "--column", tuple(name for name in FORMATS if name not in ("brat", "inline"))),
    ("joiner", "--joiner", ("conll", "hf", "spacy")),
    ("split", "--split", ("hf",)),
    ("tag_names", "--tag-names", ("hf",)),
)
_UNITS: Mapping[Offsets, Unit] = {"code-points": "code points", "utf-16": "UTF-16 units"}


@dataclass(frozen=True)
class Corpus:
    """Documents read from a file, the format they were in, and notes for people on what the reader decided.

    `left_out`: how many mentions have no place in their text, or are in pieces, and how many documents could not be read,
    together; the notes say which. `lost`: by the number of a document, from 0, the labels of its mentions that were left out,
    so that it looks as if nothing, or less, were in it. `doubts`: reasons not to train on the file as it is.
    """

    documents: tuple[Document, ...]
    format: str
    notes: tuple[str, ...] = ()
    left_out: int = 0
    lost: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def labels(self) -> LabelSet:
        """The labels that occur, most frequent first. Raises InputError when no document holds an entity."""
        return LabelSet.from_documents(self.documents)


class Reading:
    """The documents of an open file, one after another, and what is to be said about them once they were read."""

    def __init__(self, source: Source, format: Format, options: ReadOptions) -> None:
        self.format = format.name
        self._notes: list[str] = [] if source.encoding == "utf-8" else [f"read as {source.encoding.upper()}"]
        if options.offsets is not None and not format.elects:
            raise source.error(f"{format.name} has one way to count; leave out what its offsets count")
        for name, option, formats in _ONLY_FOR:
            if format.name not in formats and getattr(options, name) != getattr(_UNSAID, name):
                raise source.error(f"{format.name} has no use for {option}, which is for {', '.join(formats)}")
        unit = None if options.offsets is None else _UNITS[options.offsets]
        self._placing = Placing(format.convention, elects=format.elects, unit=unit)
        self._rows = self._placing.rows(format.read(source, options, self._notes), limit=options.limit)
        self._options = options

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    @property
    def convention(self) -> Convention:
        """How the file counts: known once the first document was read."""
        return self._placing.convention

    def notes(self) -> tuple[str, ...]:
        """Notes for people on what the reader decided and had to leave out so far."""
        missed = [_missed_note(self.missed)] if self.missed else []
        return (*self._placing.notes(), *self._notes, *missed, *self.doubts())

    def doubts(self) -> tuple[str, ...]:
        """Reasons not to train on the file as it is, as far as it was read."""
        placing = self._placing.doubt
        return (*self._options.doubts, *([placing] if placing else []))

    @property
    def missed(self) -> Sequence[Missed]:
        """The records so far that could not be read and are not among the documents, where the format goes on after one."""
        return self._options.missed


@contextmanager
def open_rows(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    limit: int | None = None,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    offsets: Offsets | None = None,
    predictions: bool = False,
    joiner: JoinerName = "auto",
    split: str | None = None,
    tag_names: Sequence[str] = (),
    answers: Answers | None = None,
) -> Iterator[Reading]:
    """An annotated file open for reading its documents as they come, in bounded memory where the format allows.

    `format` is one of FORMATS, told from the content where None. `limit` documents are given, but at least the first
    1,000 records are read, because the span convention is told from them, and from no more than 20,000. `labels` chooses
    among the display names of mentions that carry several (`entity_names`). `columns` maps keys that the format knows to
    what they are called in this file; keys that it does not name are not seen by the reader. `offsets` says what the
    file's offsets count, where it is not to be told from the file. `predictions` asks for a model's predictions where the
    file holds people's annotations, too (labelstudio). `answers`: what is known of LLMs' answers
    (`nertune.prompt.KNOWN_ANSWERS`); without it inline files are not read, and of rows for LLMs those alone whose answers
    are JSON objects.

    For formats of tokens: `columns` has the numbers of the columns "token" and "tag" of a `conll` file (1 the first, -1 the
    last); `joiner` is what stands between tokens (auto, space, none); `split` chooses among those of a folder; `tag_names`
    are the tags that numbers stand for.

    Raises MissingFileError, and DataError with file and line for whatever else is wrong with the file or `format`, some
    of it only when the reading comes there; InputError for a `limit` below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, found {limit}")
    if offsets is not None and offsets not in _UNITS:
        raise InputError(f"offsets must be one of {', '.join(_UNITS)}, found {offsets!r}")
    limit = None if limit is None else min(limit, sys.maxsize)  # more than islice takes
    chosen = None if format is None else named(format, path=os.fspath(path))
    with open_source(path, columns=columns, answers=answers) as source:
        options = ReadOptions(
            limit, tuple(labels or ()), columns, offsets, predictions, joiner, split, tuple(tag_names)
        )
        yield Reading(source, chosen or sniffed(source), options)


def read(path: str | os.PathLike[str], *, answers: Answers | None = None, **settings: Unpack[ReadSettings]) -> Corpus:
    """The documents of an annotated file, with half-open spans in code points. Keywords and errors as `open_rows` has."""
    with open_rows(path, answers=answers, **settings) as reading:
        documents: list[Document] = []
        lost: dict[int, tuple[str, ...]] = {}
        for row in reading:
            if row.lost:
                lost[len(documents)] = tuple(mention.label for mention in row.lost)
            documents.append(row.document)
        return Corpus(
            tuple(documents),
            reading.format,
            reading.notes(),
            left_out=sum(map(len, lost.values())) + len(reading.missed),
            lost=lost,
            doubts=reading.doubts(),
        )


def detect(path: str | os.PathLike[str], *, answers: Answers | None = None) -> str:
    """The name of the format that a file's first records are in. Raises as `read` does."""
    with open_source(path, answers=answers) as source:
        return sniffed(source).name


def writer(format: str, *, path: str | os.PathLike[str], scheme: Scheme | None = None) -> WritableFormat:
    """The format called `format`, to write `path` in; `scheme`: that of the tags, where it writes tags (bio where None).

    Raises DataError for an unknown format, for one that documents alone do not suffice for (alpaca and sharegpt need a
    prompt: `write_alpaca`; inline a way of marking: `MarkedLines`), and for a `scheme` where there are no tags.
    """
    chosen = named(format, path=os.fspath(path))
    if scheme is not None:
        if not isinstance(chosen, Conll | HuggingFace):
            raise DataError(f"{format} has no tags, so there is no scheme to choose", path=os.fspath(path))
        return replace(chosen, scheme=scheme)
    if isinstance(chosen, WritableFormat):
        return chosen
    able = ", ".join(name for name, entry in FORMATS.items() if isinstance(entry, WritableFormat))
    needed = "lines need a way of marking" if format == "inline" else "rows need a prompt"
    message = f"{format} {needed}, so documents alone do not make them; try {able}"
    raise DataError(message, path=os.fspath(path))


def _missed_note(missed: Sequence[Missed]) -> str:
    shown = "; ".join(f"line {line}: {why}" for line, why in missed[:3]) + ("; …" if len(missed) > 3 else "")
    return f"{counted(len(missed), 'document was', 'documents were')} not read and left out: {shown}"


def write(documents: Iterable[Document], path: str | os.PathLike[str], *, format: str) -> None:
    """Write `documents` in `format`, atomically: an existing file is replaced whole or left as it is.

    What the format cannot hold is not written: `writer(format).express(document)` tells what that is.
    Raises what `writer` raises, DataError for text that is not Unicode, MissingFileError for an absent directory, and
    DiskSpaceError.
    """
    chosen = writer(format, path=path)
    expressed = (chosen.express(document).document for document in documents)
    chosen.write((document for document in expressed if document is not None), path)
