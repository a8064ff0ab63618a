"""The `alpaca` format: an array (or JSONL) of {"instruction", "input", "output"}, as LLaMA-Factory takes it.

Its rows hold a prompt and an answer, no offsets: reading places each mention by order of occurrence, writing takes rows
that the caller made, since only the prompt room knows the prompt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from nertune.atomic import replacing
from nertune.data.atomic import checked
from nertune.data.records import Record, decode_at, describe, forbidden_string, skip_space
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument, RawMention
from nertune.errors import DataError, InputError

__all__ = ["Alpaca", "AlpacaRow", "write_alpaca"]

_MARKER = "<输入文本>"
_PREFIX = "文本:"
_NOTHING = "没有找到任何实体"
_KEYS = (("label", "text"), ("entity_label", "entity_text"))
_INFO = "dataset_info.json"
_HEAD = 1_000  # rows looked at to tell what belongs to the prompt


class AlpacaRow(NamedTuple):
    """One training row: what the model is told, what it is given, what it shall answer."""

    instruction: str
    input: str
    output: str


class Alpaca:
    """Reads rows back into documents. It has no `write`: use `write_alpaca` with rows made by the prompt room."""

    name = "alpaca"

    convention, elects = HALF_OPEN, False

    def sniff(self, source: Source) -> bool:
        """Whether every record holds the strings "instruction" and "output"."""
        values = [record.value for record in source.first_records]
        return bool(values) and all(
            isinstance(value.get(key), str) for value in values for key in ("instruction", "output")
        )

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents with mentions in the order of the answer, without offsets.

        Raises DataError on a row without a text or with an output that is not JSON objects of label and text.
        """
        rows = ((record, _text(record)) for record in source.records())
        head = list(islice(rows, _HEAD if options.limit is None else min(_HEAD, options.limit)))
        # "文本:" before the sentence is a prompt's, not the sentence's, if every row has it.
        prefixed = bool(head) and all(text.startswith(_PREFIX) for _, text in head)
        if prefixed:
            notes.append(f"the prefix {_PREFIX!r} of every input is not part of the texts")
        for record, text in chain(head, rows):
            sentence = text.removeprefix(_PREFIX) if prefixed else text
            yield RawDocument.of(record, sentence, _answer(record))


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


def _answer(record: Record) -> list[RawMention]:
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


def _mention(record: Record, item: object) -> RawMention:
    keys = next((pair for pair in _KEYS if isinstance(item, dict) and pair[0] in item and pair[1] in item), None)
    if keys is None or not isinstance(item, dict):
        wanted = " or ".join(f"{{{label!r}, {text!r}}}" for label, text in _KEYS)
        raise record.error(f"'output' must hold objects {wanted}, found {describe(item)}")
    text = item[keys[1]]
    if not isinstance(text, str):
        raise record.error(f"'output': {keys[1]!r} must be a string, found {describe(text)}")
    return RawMention(record.label(item[keys[0]]), None, None, text)
