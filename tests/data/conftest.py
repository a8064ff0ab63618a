"""Files for the data room's tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Jsonl = Callable[..., Path]


@pytest.fixture
def jsonl(tmp_path: Path) -> Jsonl:
    """A function that writes its arguments, one JSON object a line, and gives the path."""

    def written(*rows: object, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return written


@pytest.fixture
def array(tmp_path: Path) -> Callable[[Sequence[object]], Path]:
    """A function that writes a JSON array, indented, and gives the path."""

    def written(rows: Sequence[object]) -> Path:
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
        return path

    return written
