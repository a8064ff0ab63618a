"""What Hugging Face's `datasets` says of a table's columns: the names that the numbers of a ClassLabel stand for.

The same JSON stands in `dataset_info.json` and, under the key `huggingface`, in the schema of Arrow and Parquet files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nertune.data.decoding import opened
from nertune.data.strict_json import decode_at
from nertune.data.wording import describe, reason
from nertune.errors import DataError
from nertune.files import to_text

__all__ = ["beside", "class_names", "json_object", "metadata", "tag_names"]

_LONGEST = 1 << 26  # bytes of a file of names


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
    """The names that a `dataset_info.json` or `dataset_infos.json` in the same folder gives; empty where none does.

    `path`: a file, or the folder itself. Raises DataError for such a file that is no JSON object.
    """
    for name in ("dataset_info.json", "dataset_infos.json"):
        file = Path(path, name) if Path(path).is_dir() else Path(path).with_name(name)
        if not file.is_file():
            continue
        value = json_object(file)
        for info in (value, *value.values()):  # the older file has one for each configuration
            found = class_names(info.get("features"), column) if isinstance(info, dict) else ()
            if found:
                return found
    return ()


def json_object(path: Path) -> dict[str, object]:
    """The one JSON object of a file. Raises DataError."""
    value = _json(os.fspath(path), _text(os.fspath(path)))
    if not isinstance(value, dict):
        raise DataError("holds no JSON object", path=path)
    return value


def tag_names(path: str) -> tuple[str, ...]:
    """The tags of a file: a JSON list, {name: number}, {number: name}, or one a line. Raises DataError."""
    content = _text(path)
    if content.lstrip()[:1] not in ("{", "["):
        return tuple(line.strip() for line in content.splitlines() if line.strip())
    value = _json(path, content)
    names = _numbered(value) if isinstance(value, dict) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        message = (
            f"holds no names of tags: a list, {{name: number}} or {{number: name}} is wanted, found {describe(value)}"
        )
        raise DataError(message, path=path)
    return tuple(names)


def _text(path: str) -> str:
    with opened(path) as file:
        return to_text(file.read(_LONGEST), path)


def _json(path: str, content: str) -> object:
    try:
        return decode_at(content.strip(), 0)[0]
    except ValueError as error:
        raise DataError(f"broken JSON: {reason(error)}", path=path) from error


def _numbered(value: Mapping[str, object]) -> list[str] | None:
    """The names in the order of their numbers, which must be 0, 1, 2 and so on."""
    pairs = {number: name for name, number in value.items() if isinstance(number, int)}
    if not pairs:
        pairs = {int(number): name for number, name in value.items() if number.isdecimal() and isinstance(name, str)}
    if len(pairs) != len(value) or sorted(pairs) != list(range(len(pairs))):
        return None
    return [pairs[number] for number in range(len(pairs))]
