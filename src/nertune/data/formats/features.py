"""What Hugging Face's `datasets` says of a table's columns: the names that the numbers of a ClassLabel stand for.

The same JSON stands in `dataset_info.json` and, under the key `huggingface`, in the schema of Arrow and Parquet files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from nertune.data.decoding import opened
from nertune.data.records import iter_records
from nertune.data.strict_json import decode_at
from nertune.data.wording import describe
from nertune.errors import DataError

__all__ = ["beside", "class_names", "metadata", "tag_names"]

_LONGEST = 1 << 24  # bytes of a file of names


def class_names(features: object, column: str) -> tuple[str, ...]:
    """The names of a ClassLabel column, or of a column of lists of them; empty where it is none."""
    feature = features.get(column) if isinstance(features, dict) else None
    # Lists are {"feature": …, "_type": "Sequence" | "List"}, and [ … ] in the oldest files.
    for _ in range(3):
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and "feature" in feature:
            feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return ()


def metadata(names: Sequence[str]) -> str:
    """What the schema of a table with the columns id, text, tokens and ner_tags says; every version of `datasets` reads it."""
    value = {"dtype": "string", "_type": "Value"}
    features = {
        "id": value,
        "text": value,
        "tokens": {"feature": value, "_type": "Sequence"},
        "ner_tags": {"feature": {"names": list(names), "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    return json.dumps({"info": {"features": features}}, ensure_ascii=False)


def beside(path: str, column: str) -> tuple[str, ...]:
    """The names that a `dataset_info.json` or `dataset_infos.json` in the same folder gives; empty where none does."""
    for name in ("dataset_info.json", "dataset_infos.json"):
        file = Path(path).parent / name
        if not file.is_file():
            continue
        for record in iter_records(file):
            infos = [record.value, *record.value.values()]  # the older file has one for each configuration
            for info in infos:
                found = class_names(info.get("features"), column) if isinstance(info, dict) else ()
                if found:
                    return found
    return ()


def tag_names(path: str) -> tuple[str, ...]:
    """The tags of a file: a JSON list, {name: number}, {number: name}, or one a line. Raises DataError."""
    with opened(path) as file:
        raw = file.read(_LONGEST)
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("is not UTF-8", path=path) from None
    if content.lstrip()[:1] not in ("{", "["):
        return tuple(line.strip() for line in content.splitlines() if line.strip())
    try:
        value, _ = decode_at(content.strip(), 0)
    except ValueError as error:
        raise DataError(f"broken JSON: {error}", path=path) from error
    names = _numbered(value) if isinstance(value, dict) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        message = (
            f"holds no names of tags: a list, {{name: number}} or {{number: name}} is wanted, found {describe(value)}"
        )
        raise DataError(message, path=path)
    return tuple(names)


def _numbered(value: Mapping[str, object]) -> list[str] | None:
    """The names in the order of their numbers, which must be 0, 1, 2 and so on."""
    pairs = {number: name for name, number in value.items() if isinstance(number, int)}
    if not pairs:
        pairs = {int(number): name for number, name in value.items() if number.isdecimal() and isinstance(name, str)}
    if len(pairs) != len(value) or sorted(pairs) != list(range(len(pairs))):
        return None
    return [pairs[number] for number in range(len(pairs))]
