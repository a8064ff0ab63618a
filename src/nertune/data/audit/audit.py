"""The audit itself: files are read twice, once to count and once to show what the counts say of each document.

Of the first reading it keeps counts and digests; the texts themselves for the search for near-duplicates alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import NamedTuple, Protocol, Unpack

from nertune.data.audit.findings import At, Findings
from nertune.data.audit.labels import Labels
from nertune.data.audit.lengths import Lengths, Setting, TokenLengths, depth
from nertune.data.audit.repeats import Repeats
from nertune.data.audit.report import Audited, Report
from nertune.data.audit.spans import Quotes, check_spans
from nertune.data.audit.surfaces import Surfaces
from nertune.data.audit.texts import LineEnds, check_text
from nertune.data.corpus import open_rows
from nertune.data.formats.answers import Answers
from nertune.data.mapping import Changes, LabelMap
from nertune.data.source import Missed, ReadSettings
from nertune.data.spans import HALF_OPEN, Convention, RawDocument, RawMention, Row
from nertune.errors import DataError, InputError
from nertune.schema import Document

__all__ = ["NEAR", "Input", "audit", "in_memory", "inputs"]

NEAR = 0.8  # Jaccard index of character trigrams from which on two texts are nearly equal


class Opened(Protocol):
    """Rows being read, as `open_rows` gives them."""

    @property
    def format(self) -> str:
        """The name of their format."""

    @property
    def convention(self) -> Convention:
        """How their file counts; known once the first row was read."""

    @property
    def missed(self) -> Sequence[Missed]:
        """The records so far that could not be read."""

    def __iter__(self) -> Iterator[Row]:
        """The rows, once."""

    def notes(self) -> tuple[str, ...]:
        """What is to be said of the rows so far."""


class Input(NamedTuple):
    """A file to audit: its name in findings, and how it is opened; it is opened twice."""

    name: str
    open: Callable[[], AbstractContextManager[Opened]]


def inputs(
    paths: Sequence[str | os.PathLike[str]],
    *,
    label_map: LabelMap | None = None,
    answers: Answers | None = None,
    **reading: Unpack[ReadSettings],
) -> list[Input]:
    """Annotated files or folders to audit together, under the labels that `label_map` gives them.

    `answers`, `reading`: what `open_rows` takes, but no `limit`.
    Raises InputError for a file that is named twice, and for one that can be read only once, such as a pipe.
    """
    found: list[Input] = []
    known: dict[str, str] = {}
    for path in paths:
        shown = os.fspath(path)
        real = os.path.realpath(shown) if "\0" not in shown else shown
        if real in known:
            raise InputError(f"{shown}: named twice (as {known[real]}); every text of it would be found twice")
        known[real] = shown
        _check_regular(shown)
        unmapped = partial(open_rows, path, answers=answers, **reading)
        found.append(Input(shown, partial(_open_mapped, unmapped, label_map) if label_map else unmapped))
    return found


@contextmanager
def _open_mapped(unmapped: Callable[[], AbstractContextManager[Opened]], label_map: LabelMap) -> Iterator[Opened]:
    with unmapped() as opened:
        yield _Mapped(opened, label_map)


class _Mapped:
    """Rows being read, under other labels."""

    def __init__(self, opened: Opened, label_map: LabelMap) -> None:
        self.format = opened.format
        self._opened, self._map, self._changes = opened, label_map, Changes()

    @property
    def convention(self) -> Convention:
        return self._opened.convention

    @property
    def missed(self) -> Sequence[Missed]:
        return self._opened.missed

    def __iter__(self) -> Iterator[Row]:
        return self._map.rows(self._opened, self._changes)

    def notes(self) -> tuple[str, ...]:
        return (*self._opened.notes(), *self._map.notes(self._changes))


def _check_regular(path: str) -> None:
    """Raises InputError for what can be read only once. A path that is not there is refused where it is opened."""
    if "\0" in path or not os.path.exists(path):
        return
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{path}: an audit reads it twice, and this can be read once; save it to a file first")


def in_memory(documents: Sequence[Document], name: str = "documents") -> Input:
    """Documents to audit that are in no file; the line of each is its number, from 1."""
    return Input(name, lambda: nullcontext(_Documents(documents)))


class _Documents:
    """Documents as `open_rows` would give them."""

    format, convention, missed = "documents", HALF_OPEN, ()

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents

    def __iter__(self) -> Iterator[Row]:
        for number, document in enumerate(self._documents, 1):
            mentions = tuple(RawMention(e.label, e.start, e.end, e.text, e.score) for e in document.entities)
            yield Row(document, RawDocument(document.text, mentions, document.id, number))

    def notes(self) -> tuple[str, ...]:
        return ()


def audit(
    files: Sequence[Input],
    *,
    top: int = 5,
    near: float | None = NEAR,
    setting: Setting | None = None,
    done: Callable[[int], None] | None = None,
) -> Report:
    """Look for everything that `KINDS` names.

    `top`: of each kind so many places are listed, and all are counted. `near`: see `near_pairs`; None leaves the search
    out, and with it the texts out of memory. `setting`: lengths in tokens and what a recipe demands are checked with what
    it gives. `done` hears after every document how many were read so far, in both readings.

    Raises what `open_rows` raises, and DataError for a file that changes between the readings.
    """
    work = _Audit(files, Findings(top), near)
    said = done or (lambda count: None)
    read = 0
    for number, file in enumerate(files):
        with file.open() as opened:
            for at in _numbered(file, opened):
                work.count(at, number, opened.convention)
                said(read := read + 1)
            work.read(file.name, opened)
    cutoff = work.decide(setting)
    for number, file in enumerate(files):
        seen = 0
        with file.open() as opened:
            for at in _numbered(file, opened):
                work.show(at, cutoff)
                seen += 1
                said(read := read + 1)
        if seen != work.audited[number].documents:
            raise DataError("changed while it was audited; try again when it is at rest", path=file.name)
    return work.report(cutoff)


def _numbered(file: Input, rows: Opened) -> Iterator[At]:
    for number, row in enumerate(rows, 1):
        yield At.of(file.name, number, row)


class _Audit:
    """What is counted in the first reading and shown in the second."""

    def __init__(self, files: Sequence[Input], findings: Findings, near: float | None) -> None:
        self.findings = findings
        self.audited: list[Audited] = []
        self._labels = Labels([file.name for file in files])
        self._surfaces = Surfaces()
        self._repeats = Repeats(near)
        self._quotes = Quotes()
        self._line_ends = LineEnds()
        self._characters = Lengths()
        self._documents = self._mentions = 0
        self._deepest, self._depth = Document(""), 0

    def count(self, at: At, file: int, convention: Convention) -> None:
        """A document of the first reading: what it tells by itself, and what it adds to the counts."""
        document = at.row.document
        self._documents += 1
        self._mentions += len(document.entities)
        check_spans(at, convention, self.findings)
        check_text(at, self.findings)
        self._repeats.check(at, file, self.findings)
        if not document.entities:
            self.findings.add("no-entities", at)
        self._labels.count(document.entities, file)
        self._surfaces.count(document.entities)
        self._quotes.count(document.text, document.entities)
        self._line_ends.count(document.text)
        self._characters.add(len(document.text))
        if (levels := depth(document.entities)) > self._depth:
            self._deepest, self._depth = document, levels

    def read(self, name: str, opened: Opened) -> None:
        """A file was read for the first time."""
        self.findings.add_unread(name, opened.missed)
        before = sum(file.documents for file in self.audited), sum(file.mentions for file in self.audited)
        documents, mentions = self._documents - before[0], self._mentions - before[1]
        self.audited.append(Audited(name, opened.format, documents, mentions, opened.notes()))

    def decide(self, setting: Setting | None) -> TokenLengths | None:
        """All was counted."""
        self._labels.decide()
        self._surfaces.decide()
        self._repeats.finish(len(self.audited), self.findings)
        share = self.findings.count_of("no-entities") / max(self._documents, 1)
        self.findings.explain("no-entities", f"{share:.1%} of all")
        totals = self._labels.totals()
        return TokenLengths(setting(totals, self._deepest)) if setting is not None and totals else None

    def show(self, at: At, tokens: TokenLengths | None) -> None:
        """A document of the second reading, in the light of all others."""
        document = at.row.document
        self._labels.report(at, tokens.labels if tokens else None, self.findings)
        self._surfaces.report(at, self.findings)
        self._quotes.report(at, self.findings)
        self._line_ends.report(at, self.findings)
        if tokens is not None and document.text and not document.text.isspace():
            tokens.check(at, self.findings)

    def report(self, tokens: TokenLengths | None) -> Report:
        """All was shown."""
        self._surfaces.finish(self.findings)
        if tokens is not None:
            tokens.finish(self.findings)
        return Report(
            files=tuple(self.audited),
            documents=self._documents,
            mentions=self._mentions,
            labels=self._labels.totals(),
            findings=self.findings.all(),
            lengths={
                "characters": self._characters.to_json(),
                "tokens": tokens.lengths.to_json() if tokens else None,
                "max_tokens": tokens.max_tokens if tokens else None,
            },
        )
