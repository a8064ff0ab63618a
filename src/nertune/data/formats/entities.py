"""The `entities` format: {"text", "entities": [{"start", "end", "label", "text"}]}, JSON array or JSONL.

Our own form (written as JSONL, half-open) and a family of others: doccano's exports, CMeEE's array, the sets that name
their keys entity_text and entity_label, Prodigy's tasks, whose list is `spans`. What extraction writes is read back too; its
further keys are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from nertune.data.atomic import write_jsonl
from nertune.data.loss import Expressed, one_score
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument, RawMention
from nertune.data.tally import Tally
from nertune.data.wording import describe
from nertune.schema import Document

__all__ = ["Entities", "count_passed"]

_OFFSETS = (("start", "end"), ("start_idx", "end_idx"), ("start_offset", "end_offset"))
_LABELS = ("label", "type", "entity_label", "entity_type")
_SURFACES = ("text", "entity", "entity_text")
_REFUSED = ("reject", "ignore")  # answers of Prodigy's users
_PASSED = (("relations", "relations"), ("Comments", "annotators' comments"), ("comments", "annotators' comments"))


class Entities:
    """Reads the whole family, whichever way its spans count; writes the canonical member."""

    name = "entities"

    convention, elects = HALF_OPEN, True

    def sniff(self, source: Source) -> bool:
        """Whether every record holds a text and a list of entity objects."""
        values = [record.value for record in source.first_records]
        return bool(values) and all(
            isinstance(value.get("text"), str) and (_is_list_of_objects(value.get("entities")) or _is_of_prodigy(value))
            for value in values
        )

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents as they stand in the file.

        A mention that carries several names (`entity_names`) takes the first of them that is among the labels wanted, and
        its own label where none is. Raises DataError on a record of another shape.
        """
        wanted = frozenset(options.labels)
        tally = Tally(notes, limit=options.limit)
        for record in source.records():
            if record.value.get("answer") in _REFUSED and _is_of_prodigy(record.value):
                tally.add("tasks that were rejected or ignored in Prodigy, passed over")
                continue
            tally.next_document()
            mentions = self.mentions(record, wanted)
            if wanted:
                unnamed = sum(mention.label not in wanted for mention in mentions)
                tally.add("mentions with none of the wanted labels, kept under their own", count=unnamed)
            count_passed(record, tally)
            yield RawDocument.of(record, record.string("text"), mentions)

    @staticmethod
    def mentions(record: Record, wanted: frozenset[str] = frozenset()) -> tuple[RawMention, ...]:
        """The mentions under "entities" or "spans", with the `wanted` of several names. Raises DataError for another shape."""
        return tuple(_mention(record, position, item, wanted) for position, item in enumerate(_entities(record), 1))

    def express(self, document: Document) -> Expressed:
        """All but the scores of place and label."""
        return one_score(document)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """One {"id", "text", "entities"} a line, atomically; `score` only where there is one."""
        write_jsonl((_row(document) for document in documents), path)


def count_passed(record: Record, tally: Tally) -> None:
    """Count what doccano exports besides entities: relations, and annotators' comments."""
    for key, kind in _PASSED:
        found = record.value.get(key)
        tally.add(f"{kind} passed over", count=len(found) if isinstance(found, list) else 0)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_of_prodigy(value: Mapping[str, object]) -> bool:
    """Whether this is a task of Prodigy: it has the hash of one, and its spans, if it has any, are objects."""
    return "_task_hash" in value and "entities" not in value and _is_list_of_objects(value.get("spans", []))


def _entities(record: Record) -> list[object]:
    if _is_of_prodigy(record.value):
        key, entities = "spans", record.value.get("spans", [])
    elif "entities" in record.value:
        key, entities = "entities", record.value["entities"]
    else:
        raise record.lacking("entities")
    if not isinstance(entities, list):
        raise record.error(f"{key!r} must be a list, found {describe(entities)}")
    return entities


def _mention(record: Record, position: int, entity: object, wanted: frozenset[str]) -> RawMention:
    if not isinstance(entity, dict):
        raise record.error(f"entity {position} must be an object, found {describe(entity)}")
    offsets = next((pair for pair in _OFFSETS if pair[0] in entity and pair[1] in entity), None)
    if offsets is None:
        accepted = ", ".join("/".join(pair) for pair in _OFFSETS)
        raise record.error(f"entity {position} has no offsets ({accepted}): {describe(entity)}")
    for key in offsets:
        if type(entity[key]) is not int:
            raise record.error(f"entity {position}: {key!r} must be a whole number, found {describe(entity[key])}")
    surface = next((entity[key] for key in _SURFACES if entity.get(key) is not None), None)
    if surface is not None and not isinstance(surface, str):
        raise record.error(f"entity {position}: its surface must be a string, found {describe(surface)}")
    label = _label(record, position, entity, wanted)
    score = record.score(entity.get("score"), "entity", position)
    return RawMention(label, entity[offsets[0]], entity[offsets[1]], surface, score)


def _label(record: Record, position: int, entity: dict[str, object], wanted: frozenset[str]) -> str:
    names = entity.get("entity_names")
    if wanted and isinstance(names, list):
        for name in names:
            if isinstance(name, str) and name in wanted:
                return record.label(name)
    key = next((key for key in _LABELS if key in entity), None)
    if key is None:
        raise record.error(f"entity {position} has no label ({', '.join(_LABELS)}): {describe(entity)}")
    return record.label(entity[key])


def _row(document: Document) -> dict[str, object]:
    entities = [
        {"start": e.start, "end": e.end, "label": e.label, "text": e.text}
        | ({} if e.score is None else {"score": e.score})
        for e in document.entities
    ]
    row: dict[str, object] = {} if document.id is None else {"id": document.id}
    return row | {"text": document.text, "entities": entities}
