"""The `labelstudio` format: an array of Label Studio's tasks, as it exports (JSON, JSON-MIN) and imports them.

A task holds its text under `data`, and regions under `annotations[].result[]`, one annotation for each annotator, or under
`predictions[].result[]`. Label Studio has counted offsets in UTF-16 units, and counts code points since it stores what its
editor selects as Python would slice it: the surfaces tell. https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from nertune.data.atomic import write_array
from nertune.data.formats.regions import chosen_result, is_min_region, mentions, min_regions
from nertune.data.loss import Expressed, one_score
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument
from nertune.data.tally import Tally
from nertune.data.wording import shortened
from nertune.schema import Document, Entity

__all__ = ["LabelStudio"]

_FROM, _TO = "label", "text"  # the names of the tags in the labeling configuration that the docs show
_EXPORTED = {"annotator", "annotation_id"}  # keys of every row of JSON-MIN


class LabelStudio:
    """Reads tasks, with one annotation each; writes tasks that Label Studio imports, scored entities as predictions."""

    name = "labelstudio"

    convention, elects = HALF_OPEN, True

    def sniff(self, source: Source) -> bool:
        """Whether every record is a task with its `data`, or a row of JSON-MIN."""
        values = [record.value for record in source.first_records]
        return bool(values) and (
            all(map(_is_task, values))
            or all(_is_min(value, (source.columns or {}).get("text", "text")) for value in values)
        )

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents as they stand in the file, each with the regions of one annotation or prediction.

        `columns` names the keys of `text` and `id` within a task's data. Raises DataError on a record of another shape.
        """
        tally = Tally(notes, limit=options.limit)
        columns = options.columns or {}
        for record in source.records(renamed=False):
            tally.next_document()
            if "data" in record.value:
                result = chosen_result(record, tally, predictions=options.predictions)
                data = _data(record)
            else:
                result, data = min_regions(record), record.value
            text = _text(record, data, result, columns)
            regions = mentions(record, text, result, tally)
            yield RawDocument(text, tuple(regions), _id(record, data, columns), record.line, None, record)

    def express(self, document: Document) -> Expressed:
        """All but the scores of place and label."""
        return one_score(document)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """One array of tasks, atomically. Raises DataError or DiskSpaceError; see `nertune.data.write`."""
        write_array((_task(document) for document in documents), path)


def _is_task(value: Mapping[str, object]) -> bool:
    data = value.get("data")
    return isinstance(data, dict) and any(isinstance(item, str) for item in data.values())


def _is_min(value: Mapping[str, object], text: str) -> bool:
    lists = [item for item in value.values() if isinstance(item, list) and item]
    regions = any(all(is_min_region(item) for item in found) for found in lists)
    return isinstance(value.get(text), str) and (regions or value.keys() >= _EXPORTED)


def _data(record: Record) -> dict[str, object]:
    data = record.value["data"]
    if not isinstance(data, dict):
        raise record.error("'data' must be an object that holds the task's text")
    return data


def _text(record: Record, data: dict[str, object], result: list[object], columns: Mapping[str, str]) -> str:
    """The text: under the key that was named, that the regions name as their object, `text`, or the only string there is."""
    inner = Record(record.path, record.line, data)
    if "text" in columns:
        return inner.string(columns["text"])
    named = [item["to_name"] for item in result if isinstance(item, dict) and isinstance(item.get("to_name"), str)]
    for key in (*named[:1], "text"):
        if isinstance(data.get(key), str):
            return inner.string(key)
    strings = [key for key, value in data.items() if isinstance(value, str)]
    if len(strings) != 1:
        listed = ", ".join(repr(shortened(key)) for key in strings[:12]) or "(none)"
        raise record.error(f"which key of 'data' holds the text? Its strings are {listed}; name one: --column text=KEY")
    return inner.string(strings[0])


def _id(record: Record, data: dict[str, object], columns: Mapping[str, str]) -> str | None:
    """The id in the task's data, which is the user's own; the task's, which Label Studio gives, where there is none."""
    if "id" in columns:
        return Record(record.path, record.line, data).id(columns["id"])
    own = data.get("id")
    return str(own) if isinstance(own, str) or type(own) is int else record.id()


def _task(document: Document) -> dict[str, object]:
    data: dict[str, object] = {"text": document.text}
    if document.id is not None:
        data["id"] = document.id
    result = [_region(number, entity) for number, entity in enumerate(document.entities, 1)]
    scores = [entity.score for entity in document.entities if entity.score is not None]
    if scores:
        return {"data": data, "predictions": [{"model_version": "nertune", "score": min(scores), "result": result}]}
    return {"data": data, "annotations": [{"result": result}]}


def _region(number: int, entity: Entity) -> dict[str, object]:
    value = {"start": entity.start, "end": entity.end, "text": entity.text, "labels": [entity.label]}
    region: dict[str, object] = {
        "id": f"e{number}",
        "from_name": _FROM,
        "to_name": _TO,
        "type": "labels",
        "value": value,
    }
    return region if entity.score is None else region | {"score": entity.score}
