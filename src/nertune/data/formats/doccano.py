"""The `doccano` format: JSONL of {"id", "text", "label": [[start, end, "LABEL"]]}, as doccano imports and exports it.

`labels` and, for the text, `data` are older names of these keys. The first exports of all name `annotations` with
`start_offset` and `end_offset`, and labels by number. Exports with relations have `entities` like those of the `entities`
format, which knows and detects them; told to, this one reads them as well. No surface is named, so what the offsets count
is told from the spans (see `nertune.data.units`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from nertune.data.atomic import write_jsonl
from nertune.data.formats.entities import Entities, count_passed
from nertune.data.loss import Expressed, unscored
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument, RawMention
from nertune.data.tally import Tally
from nertune.data.wording import describe
from nertune.schema import Document

__all__ = ["Doccano"]

_TEXTS = ("text", "data")
_LABELS = ("label", "labels")


class Doccano:
    """Reads doccano's exports; writes rows that it imports, in code points. Scores are no part of them."""

    name = "doccano"

    convention, elects = HALF_OPEN, True

    def sniff(self, source: Source) -> bool:
        """Whether every record holds a text and a list of [start, end, label], or the older annotations."""
        values = [record.value for record in source.first_records]
        return bool(values) and all(_is_row(value) for value in values)

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents as they stand in the file. Raises DataError on a record of another shape."""
        numbered = False
        tally = Tally(notes, limit=options.limit)
        for record in source.records():
            tally.next_document()
            count_passed(record, tally)
            value = record.value
            text = record.string(next((key for key in _TEXTS if key in value), "text"))
            if "entities" in value:
                yield RawDocument.of(record, text, Entities.mentions(record))
            elif "annotations" in value:
                yield RawDocument.of(record, text, _annotations(record))
                if not numbered and any(type(item.get("label")) is int for item in _objects(value["annotations"])):
                    numbered = True
                    notes.append("labels are the numbers that doccano gave them; its label configuration names them")
            else:
                yield RawDocument.of(record, text, _labels(record))

    def express(self, document: Document) -> Expressed:
        """All but the scores."""
        return unscored(document)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """One {"id", "text", "label"} a line, atomically. Raises DataError or DiskSpaceError; see `nertune.data.write`."""
        write_jsonl((_row(document) for document in documents), path)


def _is_row(value: dict[str, object]) -> bool:
    if "entities" in value or not any(isinstance(value.get(key), str) for key in _TEXTS):
        return False
    spans = next((value[key] for key in _LABELS if key in value), None)
    if spans is None:
        annotations = value.get("annotations")
        return isinstance(annotations, list) and all(
            {"label", "start_offset", "end_offset"} <= item.keys() if isinstance(item, dict) else False
            for item in annotations
        )
    return isinstance(spans, list) and all(_is_span(item) for item in spans)


def _is_span(item: object) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 3
        and all(type(offset) is int for offset in item[:2])
        and isinstance(item[2], str)
    )


def _labels(record: Record) -> Iterator[RawMention]:
    key = next((key for key in _LABELS if key in record.value), None)
    if key is None:
        raise record.lacking("label")
    spans = record.value[key]
    if not isinstance(spans, list):
        raise record.error(f"{key!r} must be a list of [start, end, label], found {describe(spans)}")
    for position, item in enumerate(spans, 1):
        if not _is_span(item):
            found = ", ".join(map(describe, item)) if isinstance(item, list) and len(item) == 3 else describe(item)
            raise record.error(f"{key!r}, item {position}: needs [start, end, label], found {found}")
        yield RawMention(record.label(item[2]), item[0], item[1], None)


def _annotations(record: Record) -> Iterator[RawMention]:
    found = record.value["annotations"]
    if not isinstance(found, list):
        raise record.error(f"'annotations' must be a list, found {describe(found)}")
    for position, item in enumerate(found, 1):
        if not isinstance(item, dict):
            raise record.error(f"annotation {position} must be an object, found {describe(item)}")
        start, end = item.get("start_offset"), item.get("end_offset")
        if type(start) is not int or type(end) is not int:
            raise record.error(f"annotation {position} needs 'start_offset' and 'end_offset', found {describe(item)}")
        label = item.get("label")
        yield RawMention(record.label(str(label) if type(label) is int else label), start, end, None)


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _row(document: Document) -> dict[str, object]:
    row: dict[str, object] = {} if document.id is None else {"id": document.id}
    return row | {"text": document.text, "label": [[e.start, e.end, e.label] for e in document.entities]}
