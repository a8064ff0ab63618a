"""What can be mended without a judgement, mended; every change is written down.

Safe is what changes neither what a reader of the text sees nor what the annotators meant: a span is put where its surface
stands, once; what is said twice is kept once; white space leaves the edges of entities; characters that are no text leave
the text, and the offsets follow.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, TextIO

from nertune.atomic import is_stream, replacing, same_file
from nertune.data.audit.audit import Input, Opened
from nertune.data.audit.findings import At
from nertune.data.audit.repeats import digest
from nertune.data.audit.spans import lost_kind, moved_kind, trimmed
from nertune.data.corpus import writer
from nertune.data.formats.table import FORMATS, WritableFormat
from nertune.data.spans import RawMention
from nertune.errors import InputError
from nertune.schema import Document, Entity

__all__ = ["Repair", "repair"]

_NOT_TEXT = {
    "byte-order-mark": re.compile("\ufeff"),
    "control-character": re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
}
_LEFT_OUT = "left-out"


class Repair(NamedTuple):
    """What was done. `changes`: how many of each kind; `left_out`: mentions and documents not written."""

    path: str
    log: str
    format: str
    documents: int
    changes: dict[str, int]
    left_out: int


def repair(file: Input, target: str | os.PathLike[str]) -> Repair:
    """Write a file's documents, mended, to `target`: in the file's own format, or as `entities` where that cannot be written.

    Every change is a line of `TARGET.changes.jsonl`: file, line, kind, before, after. Mentions without a place in their text
    are in no Document, so they are not written; the log has them.
    Raises what `open_rows` and `write` raise, InputError where a file would be overwritten by its own repair, or where no
    document remains.
    """
    path = os.fspath(target)
    if is_stream(path):
        raise InputError(f"{path}: every change is listed in a file beside the repaired one, so --fix needs a file")
    log = path.rstrip("/") + ".changes.jsonl"
    for written in (path, log):
        if same_file(file.name, written):
            raise InputError(f"{written}: is the file to be repaired; give the repaired one another name")
    with file.open() as opened, replacing(log) as changes:
        own = FORMATS.get(opened.format)
        chosen = own if isinstance(own, WritableFormat) else writer("entities", path=path)
        mending = _Mending(file.name, opened, chosen, changes)
        chosen.write(mending.documents(), path)
    counts = dict(mending.counts)
    return Repair(path, log, chosen.name, mending.written, counts, counts.get(_LEFT_OUT, 0))


class _Mending:
    """Documents on their way from a file to its repaired copy."""

    def __init__(self, name: str, opened: Opened, form: WritableFormat, log: TextIO) -> None:
        self.counts: Counter[str] = Counter()
        self.written = 0
        self._name, self._opened, self._form, self._log = name, opened, form, log
        self._seen: dict[bytes, str] = {}

    def documents(self) -> Iterator[Document]:
        """What is to be written; the changes go into the log as they are made."""
        for number, row in enumerate(self._opened, 1):
            at = At.of(self._name, number, row)
            self._placed(at)
            document = self._trimmed(at, self._cleaned(at, row.document))
            if not self._kept(at, document):
                continue
            expressed = self._form.express(document)
            for loss in expressed.losses:
                if expressed.document is None or loss.left_out:
                    before = _document(document) if loss.entity is None else _entity(loss.entity)
                    self._change(at, _LEFT_OUT, before, {"why": f"{self._form.name} cannot hold {loss.kind}"})
            if expressed.document is not None:
                self.written += 1
                yield expressed.document
        for line, why in self._opened.missed:
            self._log_change(self._name, line, _LEFT_OUT, None, {"why": why})
        if not self.written:
            raise InputError(f"{self._name}: no document has any text, so there is nothing to write")

    def _placed(self, at: At) -> None:
        """What reading the row has mended already, and what it had to leave out."""
        text = at.row.raw.text
        for mention, start, end, places in at.row.moved:
            placed = _entity(Entity(mention.label, start, end, text[start:end]))
            self._change(at, moved_kind(places), _mention(mention), placed, mention)
        for mention in at.row.twice:
            self._change(at, "span-duplicate", _mention(mention), None, mention)
        for mention in at.row.lost:
            why = lost_kind(at.row.raw, mention, self._opened.convention)[0]
            self._change(at, _LEFT_OUT, _mention(mention), {"why": why}, mention)

    def _cleaned(self, at: At, document: Document) -> Document:
        for kind, pattern in _NOT_TEXT.items():
            if pattern.search(document.text):
                cleaned = _without(document, pattern)
                self._change(at, kind, _document(document), _document(cleaned))
                document = cleaned
        return document

    def _trimmed(self, at: At, document: Document) -> Document:
        """Entities without white space at their edges; what is then there twice is there once."""
        if not any(trimmed(entity.text) != (0, len(entity.text)) for entity in document.entities):
            return document
        kept: dict[Entity, Entity] = {}
        for entity in document.entities:
            start, end = trimmed(entity.text)
            inner = _moved(entity, entity.start + start, entity.start + end, entity.text[start:end])
            if inner is None or inner != entity:
                self._change(at, "edge-space", _entity(entity), None if inner is None else _entity(inner))
            if inner is not None and inner in kept:
                self._change(at, "span-duplicate", _entity(inner), None)
            elif inner is not None:
                kept[inner] = inner
        return replace(document, entities=tuple(kept.values()))

    def _kept(self, at: At, document: Document) -> bool:
        """Whether a document goes on: not without text and entities, and not as the copy of an earlier one."""
        if not document.text or document.text.isspace():
            if not document.entities:
                self._change(at, "text-empty", _document(document), None)
            return bool(document.entities)
        where = at.place().where
        first = self._seen.setdefault(digest(document.text) + digest("", document.entities), where)
        if first is not where:
            self._change(at, "duplicate-same", _document(document), {"same_as": first})
        return first is where

    def _change(
        self, at: At, kind: str, before: object | None, after: object | None, mention: RawMention | None = None
    ) -> None:
        place = at.place(mention=mention)
        self._log_change(place.file, place.line, kind, before, after)

    def _log_change(self, file: str, line: int | None, kind: str, before: object | None, after: object | None) -> None:
        self.counts[kind] += 1
        change = {"file": file, "line": line, "kind": kind, "before": before, "after": after}
        self._log.write(json.dumps(change, ensure_ascii=False) + "\n")


def _without(document: Document, pattern: re.Pattern[str]) -> Document:
    """The document without the characters that match; those that separate leave a space."""
    places: list[int] = []
    text: list[str] = []
    for character in document.text:
        places.append(len(text))
        if not pattern.match(character):
            text.append(character)
        elif character.isspace():
            text.append(" ")
    places.append(len(text))
    plain = "".join(text)
    moved = (
        _moved(entity, places[entity.start], places[entity.end], plain[places[entity.start] : places[entity.end]])
        for entity in document.entities
    )
    return Document(plain, tuple(_once(entity for entity in moved if entity is not None)), document.id)


def _once(entities: Iterable[Entity]) -> Iterable[Entity]:
    return {entity: entity for entity in entities}.values()


def _moved(entity: Entity, start: int, end: int, text: str) -> Entity | None:
    """The entity at another place; None where nothing of it is left."""
    return replace(entity, start=start, end=end, text=text) if start < end else None


def _mention(mention: RawMention) -> dict[str, object]:
    """A mention as the file has it, offsets in the file's own convention."""
    return {"label": mention.label, "start": mention.start, "end": mention.end, "text": mention.text}


def _entity(entity: Entity) -> dict[str, object]:
    return {"label": entity.label, "start": entity.start, "end": entity.end, "text": entity.text}


def _document(document: Document) -> dict[str, object]:
    return {"id": document.id, "text": document.text, "entities": [_entity(entity) for entity in document.entities]}
