"""Every format knows its own files and claims no other's: a sample of each, offered to all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune.data import detect


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# (format, the file's name, its content); a name with a slash makes a folder, which is what is detected.
SAMPLES = [
    ("cluener", "train.jsonl", lines({"text": "在北京", "label": {"地点": {"北京": [[1, 2]]}}})),
    ("cluener", "test.jsonl", lines({"id": 1, "text": "在北京"})),
    ("entities", "cmeee.json", json.dumps([{"text": "a", "entities": [{"start_idx": 0, "end_idx": 0, "type": "x"}]}])),
    ("entities", "empty.jsonl", lines({"text": "a", "entities": []})),
    (
        "entities",
        "doccano-relations.jsonl",
        lines(
            {
                "id": 1,
                "text": "a",
                "entities": [{"id": 2, "label": "x", "start_offset": 0, "end_offset": 1}],
                "relations": [],
            }
        ),
    ),
    (
        "doccano",
        "export.jsonl",
        lines({"id": 1, "text": "a", "label": []}, {"id": 2, "text": "a", "label": [[0, 1, "x"]]}),
    ),
    ("doccano", "labels.jsonl", lines({"text": "a", "labels": [[0, 1, "x"]]})),
    ("doccano", "data.jsonl", lines({"id": 1, "data": "a", "label": [[0, 1, "x"]]})),
    ("doccano", "old.jsonl", lines({"text": "a", "annotations": [{"label": 1, "start_offset": 0, "end_offset": 1}]})),
    ("labelstudio", "tasks.json", json.dumps([{"id": 1, "data": {"text": "a"}, "annotations": [{"result": []}]}])),
    ("labelstudio", "unannotated.json", json.dumps([{"data": {"text": "a"}}])),
    ("labelstudio", "min.json", json.dumps([{"text": "a", "ner": [{"start": 0, "end": 1, "labels": ["x"]}]}])),
    ("alpaca", "alpaca.json", json.dumps([{"instruction": "i", "input": "a", "output": "[]"}])),
    ("brat", "folder/doc.txt folder/doc.ann", "T1\tX 0 1\tT\n"),
    ("brat", "doc.ann", "T1\tX 0 1\tT\n"),
]


@pytest.mark.parametrize(("format", "name", "content"), SAMPLES)
def test_each_sample_is_known(tmp_path: Path, format: str, name: str, content: str) -> None:
    for part in name.split():
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text(content, encoding="utf-8")
    first = name.split()[0]
    assert detect(tmp_path / (first.split("/")[0])) == format
