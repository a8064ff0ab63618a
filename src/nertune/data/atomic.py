"""Records written so that a reader can read them back, and the file whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping

from nertune.atomic import replacing
from nertune.data.strict_json import forbidden_string
from nertune.errors import DataError

__all__ = ["checked", "write_array", "write_jsonl"]


def write_jsonl(rows: Iterable[Mapping[str, object]], path: str | os.PathLike[str]) -> None:
    """One JSON object a line. Raises what `replacing` raises, and DataError for a row that could not be read back."""
    with replacing(path) as file:
        for number, row in enumerate(rows, 1):
            file.write(json.dumps(checked(row, path, number), ensure_ascii=False) + "\n")


def write_array(rows: Iterable[Mapping[str, object]], path: str | os.PathLike[str]) -> None:
    """One JSON array, an object a line. Raises as `write_jsonl` does."""
    with replacing(path) as file:
        mark = "[\n"
        for number, row in enumerate(rows, 1):
            file.write(mark + json.dumps(checked(row, path, number), ensure_ascii=False))
            mark = ",\n"
        file.write("[]\n" if mark == "[\n" else "\n]\n")


def checked(row: Mapping[str, object], path: str | os.PathLike[str], number: int) -> Mapping[str, object]:
    """`row`, the `number`-th (1-based) of `path`. Raises DataError if NUL or a lone surrogate is in it."""
    found = forbidden_string(dict(row))
    if found is not None:
        message = f"cannot be written: record {number} holds NUL or half of a surrogate pair: {found[:60]!a}"
        raise DataError(message, path=os.fspath(path))
    return row
