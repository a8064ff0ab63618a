"""The `spacy` format: what spaCy trains on.

DocBin (`.spacy`) is read and written, through spaCy; see `docbin.py`. Read as well, without spaCy: [text, {"entities":
[[start, end, label]]}] pairs of spaCy 2, as a JSON array, one a line, or under "annotations"; rows of {"text", "entities":
[[start, end, label]]}; what `Doc.to_json` gives; and the "paragraphs" of `spacy train`'s old JSON. Ends are exclusive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from nertune.data.formats import docbin
from nertune.data.formats.tagging import Tag, Tagging, chunks, is_label
from nertune.data.formats.tokens import Joiner
from nertune.data.loss import Expressed, Loss, unscored, without
from nertune.data.records import Record, values_of
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument, RawMention
from nertune.data.tally import Tally
from nertune.data.wording import describe, shortened
from nertune.schema import Document

__all__ = ["Spacy"]

_PAIR = re.compile(rb'(?:\xef\xbb\xbf)?\s*\[\s*(?:\[\s*)?"(?:[^"\\]|\\.)*"\s*,\s*\{', re.DOTALL)
_BILUO = Tagging("BILOU")


class Spacy:
    """Reads spaCy's training data of all ages; writes DocBin."""

    name = "spacy"
    convention, elects = HALF_OPEN, False

    def sniff(self, source: Source) -> bool:
        """Whether it is a DocBin, or JSON that only spaCy writes so."""
        if source.is_folder:
            return False
        if docbin.is_docbin(source.head) or _PAIR.match(source.head):
            return True
        values = [record.value for record in source.first_records]
        return bool(values) and all(map(_is_ours, values)) and any(map(_is_telling, values))

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """The documents. Raises DataError, and MissingExtraError for a DocBin without the extra `spacy`."""
        tally = Tally(notes)
        if docbin.is_docbin(source.head):
            yield from docbin.read(source, Joiner.of([], options.joiner), tally)
            return
        for record in _records(source):
            if "paragraphs" in record.value:
                yield from _paragraphs(record, options, tally)
            elif isinstance(record.value.get("annotations"), list):
                yield from _annotations(record)
            else:
                yield _document(record, record.value, record.string("text"), tally)

    def express(self, document: Document) -> Expressed:
        """All but the scores. Entities may lie within others: they are in `doc.spans["sc"]`."""
        losses = tuple(
            Loss("labels that nertune cannot use", entity, left_out=True)
            for entity in document.entities
            if not is_label(entity.label)
        )
        kept = without(document, (loss.entity for loss in losses if loss.entity)) if losses else document
        return Expressed(kept, losses).then(unscored)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """A DocBin, atomically. Raises MissingExtraError without the extra `spacy`, and as `nertune.data.write` does."""
        docbin.write(documents, path)


def _is_ours(value: dict[str, object]) -> bool:
    if isinstance(value.get("paragraphs"), list):
        return True
    if isinstance(value.get("annotations"), list):
        return all(_is_pair(item) for item in value["annotations"] if item is not None)  # type: ignore[attr-defined]
    spans = value.get("ents", value.get("entities"))
    return (
        isinstance(value.get("text"), str)
        and isinstance(spans, list)
        and ("ents" in value or all(map(_is_span, spans)))
    )


def _is_telling(value: dict[str, object]) -> bool:
    """Whether it is more than a text with no entities, which is in many a format."""
    return any(key in value for key in ("paragraphs", "ents")) or bool(
        value.get("annotations") or value.get("entities")
    )


def _is_pair(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], dict)


def _is_span(item: object) -> bool:
    return (
        isinstance(item, list)
        and len(item) in (3, 4)
        and all(type(n) is int for n in item[:2])
        and isinstance(item[2], str)
    )


def _records(source: Source) -> Iterator[Record]:
    """Objects; a pair becomes an object with its text."""
    if not _PAIR.match(source.head):
        yield from source.records()
        return
    for line, value in values_of(source.file, source.path):
        if isinstance(value, list) and _is_pair(value):
            yield Record(source.path, line, {"text": value[0]} | value[1])
        else:
            raise source.error(
                f'must be [text, {{"entities": [[start, end, label]]}}], found {describe(value)}', line=line
            )


def _annotations(record: Record) -> Iterator[RawDocument]:
    """{"classes": [...], "annotations": [[text, {"entities": ...}], null]}, as annotators for spaCy export."""
    items: Any = record.value["annotations"]
    for number, item in enumerate(items, 1):
        if item is None:
            continue
        if not _is_pair(item):
            raise record.error(f'annotation {number} must be [text, {{"entities": …}}], found {describe(item)}')
        mentions = tuple(_triples(record, item[1].get("entities", [])))
        yield RawDocument(item[0], mentions, None, record.line, None, record)


def _document(record: Record, value: dict[str, Any], text: str, tally: Tally) -> RawDocument:
    ents = value.get("ents")
    mentions = _objects(record, ents) if ents is not None else list(_triples(record, value.get("entities", [])))
    groups = value.get("spans")
    if isinstance(groups, dict):
        for name, group in groups.items():
            if name == docbin.GROUP:
                mentions += _objects(record, group)
            elif group:
                tally.add(f"spans of the group {shortened(name)!r}, not read", line=record.line, count=len(group))
    return RawDocument(text, tuple(dict.fromkeys(mentions)), record.id(), record.line, None, record)


def _triples(record: Record, spans: object) -> Iterator[RawMention]:
    if not isinstance(spans, list):
        raise record.error(f"'entities' must be a list of [start, end, label], found {describe(spans)}")
    for span in spans:
        if not _is_span(span):
            found = shortened(repr(span)) if isinstance(span, list) else describe(span)
            raise record.error(f"an entity must be [start, end, label], found {found}")
        yield RawMention(record.label(span[2]), span[0], span[1], None)


def _objects(record: Record, spans: object) -> list[RawMention]:
    """[{"start", "end", "label"}]."""
    found: list[RawMention] = []
    for span in spans if isinstance(spans, list) else [spans]:
        if not isinstance(span, dict) or not all(type(span.get(key)) is int for key in ("start", "end")):
            raise record.error(f'an entity must be {{"start", "end", "label"}}, found {describe(span)}')
        found.append(RawMention(record.label(span.get("label")), span["start"], span["end"], None))
    return found


def _paragraphs(record: Record, options: ReadOptions, tally: Tally) -> Iterator[RawDocument]:
    paragraphs = record.value["paragraphs"]
    if not isinstance(paragraphs, list):
        raise record.error(f"'paragraphs' must be a list, found {describe(paragraphs)}")
    for paragraph in paragraphs:
        if not isinstance(paragraph, dict):
            raise record.error(f"a paragraph must be an object, found {describe(paragraph)}")
        raw = paragraph.get("raw")
        if isinstance(raw, str) and paragraph.get("entities"):
            mentions = tuple(_triples(record, paragraph["entities"]))
            yield RawDocument(raw, mentions, None, record.line, None, record)
        else:
            yield _of_tokens(record, paragraph, raw, options, tally)


def _of_tokens(
    record: Record, paragraph: dict[str, Any], raw: object, options: ReadOptions, tally: Tally
) -> RawDocument:
    try:
        tokens = [token for sentence in paragraph["sentences"] for token in sentence["tokens"]]
        words = [token["orth"] for token in tokens]
        spaces = [token.get("space") for token in tokens]
        tags = [_tag(record, token.get("ner")) for token in tokens]
    except (KeyError, TypeError, AttributeError) as error:
        raise record.error("a paragraph needs 'sentences' with 'tokens', each with its 'orth'") from error
    if not all(isinstance(word, str) for word in words):
        raise record.error("the 'orth' of a token must be a string")
    text, spans = docbin.joined(words, spaces, raw, Joiner.of([words], options.joiner), tally)
    mentions = tuple(
        RawMention(chunk.label, spans[chunk.start][0], spans[chunk.end - 1][1], None) for chunk in chunks(tags)
    )
    return RawDocument(text, mentions, None, record.line, None, record)


def _tag(record: Record, tag: object) -> Tag:
    if tag in (None, "", "-", "O"):
        return Tag("O", "")
    parsed = _BILUO.parse(tag) if isinstance(tag, str) else None
    if parsed is None:
        raise record.error(f"'ner' must be a BILUO tag, found {describe(tag)}")
    return parsed._replace(label=record.label(parsed.label))
