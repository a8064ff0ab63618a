"""The `cluener` format: JSONL of {"text", "label": {type: {surface: [[start, end]]}}}, ends inclusive.

The format of CLUENER2020 (arXiv:2001.04351). Rows without "label", as in its test set, are unannotated documents.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from nertune.data.atomic import write_jsonl
from nertune.data.loss import Expressed, unscored
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import INCLUSIVE, RawDocument, RawMention
from nertune.data.wording import describe
from nertune.schema import Document

__all__ = ["Cluener"]


class Cluener:
    """Reads and writes CLUENER's own rows. Scores are not part of the format and are not written."""

    name = "cluener"

    convention, elects = INCLUSIVE, True

    def sniff(self, source: Source) -> bool:
        """Whether rows hold a text and a "label" object, or nothing but texts and ids."""
        values = [record.value for record in source.first_records]
        labelled = [value["label"] for value in values if "label" in value]
        if not values or not all(isinstance(value.get("text"), str) for value in values):
            return False
        return all(isinstance(label, dict) for label in labelled) if labelled else _only_texts(values)

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents as they stand in the file. Raises DataError on a row of another shape."""
        unannotated = 0
        for number, record in enumerate(source.records(), 1):
            unannotated += "label" not in record.value and (options.limit is None or number <= options.limit)
            yield RawDocument.of(record, record.string("text"), _mentions(record))
        if unannotated:
            rows = "1 row has" if unannotated == 1 else f"{unannotated:,} rows have"
            notes.append(f"{rows} no 'label': unannotated")

    def express(self, document: Document) -> Expressed:
        """All but the scores."""
        return unscored(document)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """One row a document, atomically. Raises DataError or DiskSpaceError; see `nertune.data.write`."""
        write_jsonl((_row(document) for document in documents), path)


def _only_texts(values: Sequence[dict[str, object]]) -> bool:
    return all(set(value) <= {"id", "text"} for value in values)


def _mentions(record: Record) -> Iterator[RawMention]:
    labels = record.value.get("label", {})
    if not isinstance(labels, dict):
        raise record.error(f"'label' must be an object {{type: {{surface: [[start, end]]}}}}, found {describe(labels)}")
    for label, surfaces in labels.items():
        if not isinstance(surfaces, dict):
            raise record.error(f"label {label!r} must hold {{surface: [[start, end]]}}, found {describe(surfaces)}")
        for surface, spans in surfaces.items():
            if not isinstance(spans, list):
                raise record.error(f"{label} {surface!r} must hold a list of [start, end], found {describe(spans)}")
            for span in spans:
                yield _mention(record, record.label(label), surface, span)


def _mention(record: Record, label: str, surface: str, span: object) -> RawMention:
    if isinstance(span, list) and len(span) == 2 and all(type(offset) is int for offset in span):
        return RawMention(label, span[0], span[1], surface)
    found = span if isinstance(span, list) else describe(span)
    raise record.error(f"{label} {surface!r} needs [start, end], two whole numbers, found {found}")


def _row(document: Document) -> dict[str, object]:
    labels: dict[str, dict[str, list[list[int]]]] = {}
    for entity in document.entities:
        spans = labels.setdefault(entity.label, {}).setdefault(entity.text, [])
        spans.append([entity.start, entity.end - 1])
    row: dict[str, object] = {} if document.id is None else {"id": document.id}
    return row | {"text": document.text, "label": labels}
