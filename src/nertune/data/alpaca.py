"""The `alpaca` format: an array (or JSONL) of {"instruction", "input", "output"}, as LLaMA-Factory takes it.

Its rows hold a prompt and an answer, no offsets: reading places each mention by order of occurrence, writing takes rows
that the caller made, since only the prompt room knows the prompt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from nertune.atomic import replacing
from nertune.data.atomic import checked
from nertune.data.records import Record, decode_at, describe, forbidden_string, skip_space
from nertune.data.spans import Placed
from nertune.errors import DataError, InputError
from nertune.schema import Document, Entity, Mention

__all__ = ["Alpaca", "AlpacaRow", "write_alpaca"]

_MARKER = "<输入文本>"
_PREFIX = "文本:"
_NOTHING = "没有找到任何实体"
_KEYS = (("label", "text"), ("entity_label", "entity_text"))
_INFO = "dataset_info.json"


class AlpacaRow(NamedTuple):
    """One training row: what the model is told, what it is given, what it shall answer."""

    instruction: str
    input: str
    output: str


class Alpaca:
    """Reads rows back into documents. It has no `write`: use `write_alpaca` with rows made by the prompt room."""

    name = "alpaca"

    def sniff(self, head: Sequence[Record]) -> bool:
        """Whether every record holds the strings "instruction" and "output"."""
        return all(isinstance(record.value.get(key), str) for record in head for key in ("instruction", "output"))

    def read(self, records: Iterable[Record], *, limit: int | None, labels: Sequence[str] | None) -> Placed:
        """Documents whose mentions stand in the order of the answer where they can; `labels` has no meaning here.

        Elsewhere the n-th mention of a text stands at that text's n-th occurrence.

        Raises DataError on a row without a text or with an output that is not JSON objects of label and text.
        """
        rows = [(record, _text(record)) for record in islice(records, limit)]
        # "文本:" before the sentence is a prompt's, not the sentence's, if every row has it.
        prefixed = all(text.startswith(_PREFIX) for _, text in rows)
        documents: list[Document] = []
        lost: dict[int, tuple[Mention, ...]] = {}
        for number, (record, text) in enumerate(rows):
            sentence = text.removeprefix(_PREFIX) if prefixed else text
            entities, absent = _ground(sentence, _answer(record))
            documents.append(Document(sentence, tuple(entities), record.id()))
            if absent:
                lost[number] = tuple(absent)
        missed = sum(map(len, lost.values()))
        placed = sum(len(document.entities) for document in documents)
        notes = [f"spans: none in this format; mentions placed by order of occurrence: {placed:,}"]
        if missed:
            notes.append(f"mentions left out, because the text does not hold them (so often): {missed:,}")
        if prefixed:
            notes.append(f"the prefix {_PREFIX!r} of every input is not part of the texts")
        return Placed(tuple(documents), tuple(notes), lost)


def write_alpaca(rows: Iterable[AlpacaRow], path: str | os.PathLike[str]) -> None:
    """Write `rows` as a JSON array and name the file in `dataset_info.json` beside it, keeping its other entries.

    Both are replaced atomically, `dataset_info.json` last. Raises InputError for no rows or for the name
    `dataset_info.json`, DataError for a `dataset_info.json` that is not a JSON object (nothing is written then) or for
    text that is not Unicode, MissingFileError for an absent directory, DiskSpaceError.
    """
    target = Path(path)
    if target.name == _INFO:
        raise InputError(f"{target}: {_INFO} lists the data sets; give the rows another name")
    content = [dict(checked(row._asdict(), path, number)) for number, row in enumerate(rows, 1)]
    if not content:
        raise InputError(f"{target}: no rows to write")
    info = _dataset_info(target.with_name(_INFO))
    info[target.stem] = {"file_name": target.name}
    for file_path, value in ((target, content), (target.with_name(_INFO), info)):
        with replacing(file_path) as file:
            json.dump(value, file, ensure_ascii=False, indent=2)
            file.write("\n")


def _dataset_info(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be updated: {error}; repair or move it", path=path) from error
    if not isinstance(info, dict):
        raise DataError(f"cannot be updated: it must be a JSON object, found {describe(info)}", path=path)
    return info


def _text(record: Record) -> str:
    given = record.string("input") if "input" in record.value else ""
    prompt = given if given.strip() else record.string("instruction")
    lines = prompt.split("\n")
    marked = [number for number, line in enumerate(lines) if line.strip() == _MARKER]
    if marked:
        return "\n".join(lines[marked[-1] + 1 :])
    if not given.strip():
        raise record.error(f"no text: 'input' is empty and 'instruction' has no line {_MARKER} with a text after it")
    return given


def _answer(record: Record) -> list[Mention]:
    output = record.string("output")
    content = output.strip()
    if not content or content.rstrip("。.") == _NOTHING:
        return []
    items: list[object] = []
    position = 0
    try:
        while position < len(content):
            value, end = decode_at(content, position)
            items += value if isinstance(value, list) else [value]
            position = skip_space(content, end)
    except ValueError as error:
        raise record.error(f"'output' is not JSON ({error}): {describe(output)}") from error
    if forbidden_string(items) is not None:
        raise record.error(f"'output' holds NUL or half of a surrogate pair: {describe(output)}")
    return [_mention(record, item) for item in items]


def _mention(record: Record, item: object) -> Mention:
    keys = next((pair for pair in _KEYS if isinstance(item, dict) and pair[0] in item and pair[1] in item), None)
    if keys is None or not isinstance(item, dict):
        wanted = " or ".join(f"{{{label!r}, {text!r}}}" for label, text in _KEYS)
        raise record.error(f"'output' must hold objects {wanted}, found {describe(item)}")
    text = item[keys[1]]
    if not isinstance(text, str):
        raise record.error(f"'output': {keys[1]!r} must be a string, found {describe(text)}")
    return Mention(record.label(item[keys[0]]), text)


def _ground(text: str, mentions: Iterable[Mention]) -> tuple[list[Entity], list[Mention]]:
    """Entities, and the mentions that found no place: in reading order where the answer can have that, else by turn."""
    mentions = list(mentions)
    for outside in (True, False):
        entities = _in_reading_order(text, mentions, outside=outside)
        if entities is not None:
            return entities, []
    return _by_turn(text, mentions)


def _in_reading_order(text: str, mentions: Iterable[Mention], *, outside: bool) -> list[Entity] | None:
    """Each mention at its first occurrence after the one before; None if there is none: the order is another.

    With `outside` an occurrence after all earlier entities goes first: "香港" named after a film stands behind that film,
    not in the "香港艺术发展局" before it.
    """
    entities: list[Entity] = []
    reached, last = 0, (-1, 0, "")
    for label, surface in ((mention.label, mention.text) for mention in mentions):
        # The order of Document: by start, longer before shorter, then by label.
        places = [(start, -start - len(surface), label) for start in _occurrences(text, surface) if start >= last[0]]
        after = [place for place in places if place > last]
        if not after:
            return None
        last = next((place for place in after if outside and place[0] >= reached), after[0])
        entities.append(Entity(label, last[0], -last[1], surface))
        reached = max(reached, -last[1])
    return entities


def _by_turn(text: str, mentions: Iterable[Mention]) -> tuple[list[Entity], list[Mention]]:
    """The n-th mention of a text at its n-th occurrence.

    Where a surface is mentioned more often than it occurs, the surplus takes the first occurrence that does not bear
    its label yet: the answers that give each (label, text) once say so when one stretch has two labels.
    """
    entities: dict[tuple[int, int, str], Entity] = {}
    mentioned: dict[str, int] = {}
    missed: list[Mention] = []
    for label, surface in ((mention.label, mention.text) for mention in mentions):
        starts = _occurrences(text, surface)
        turn = mentioned.get(surface, 0)
        mentioned[surface] = turn + 1
        keys = [(start, start + len(surface), label) for start in (starts[turn : turn + 1] or starts)]
        free = [key for key in keys if key not in entities]
        if free:
            start, end, _ = free[0]
            entities[free[0]] = Entity(label, start, end, surface)
        else:
            missed.append(Mention(label, surface))
    return list(entities.values()), missed


def _occurrences(text: str, surface: str) -> list[int]:
    starts: list[int] = []
    start = text.find(surface) if surface else -1
    while start >= 0:
        starts.append(start)
        start = text.find(surface, start + len(surface))
    return starts
