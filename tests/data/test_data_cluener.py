"""CLUENER's own rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nertune.data import detect, read, write
from nertune.errors import DataError
from nertune.schema import Document

Jsonl = Callable[..., Path]

ROW = {"text": "叶老桂认为叶老桂", "label": {"name": {"叶老桂": [[0, 2], [5, 7]]}, "company": {"老桂": [[1, 2]]}}}


def test_read(jsonl: Jsonl) -> None:
    corpus = read(jsonl(ROW, {"id": 7, "text": "无"}))
    assert corpus.format == "cluener"
    assert [(e.label, e.start, e.end) for e in corpus.documents[0].entities] == [
        ("name", 0, 3),
        ("company", 1, 3),
        ("name", 5, 8),
    ]
    assert corpus.documents[1] == Document("无", (), "7")
    assert corpus.notes == ("spans: inclusive, by 3 of 3 mentions", "1 row has no 'label': unannotated")
    assert corpus.labels.names == ("name", "company")


def test_half_open_rows_are_recognized(jsonl: Jsonl) -> None:
    corpus = read(jsonl({"text": "在北京", "label": {"地点": {"北京": [[1, 3]]}}}))
    assert corpus.documents == (Document.of("在北京", [("地点", 1, 3)]),)
    assert corpus.notes == ("spans: half-open, by 1 of 1 mention",)


def test_write_and_read_back(tmp_path: Path) -> None:
    documents = (
        Document.of("叶老桂认为叶老桂😀", [("name", 0, 3), ("company", 1, 3), ("name", 5, 8), ("e", 8, 9)], id="a"),
        Document("空"),
    )
    write(documents, tmp_path / "out.jsonl", format="cluener")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["label"]["name"] == {"叶老桂": [[0, 2], [5, 7]]}
    assert json.loads(lines[1]) == {"text": "空", "label": {}}
    assert read(tmp_path / "out.jsonl").documents == documents


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"label": {}}, "the record has no 'text'; its keys are 'label'"),
        ({"text": 3}, "'text' must be a string, found the number 3"),
        (
            {"text": "a", "label": ["x"]},
            "'label' must be an object {type: {surface: [[start, end]]}}, found a list of 1",
        ),
        ({"text": "a", "label": {"x": [1]}}, "label 'x' must hold {surface: [[start, end]]}, found a list of 1"),
        ({"text": "a", "label": {"x": {"a": 1}}}, "x 'a' must hold a list of [start, end], found the number 1"),
        ({"text": "a", "label": {"x": {"a": [[0]]}}}, "x 'a' needs [start, end], two whole numbers, found [0]"),
        ({"text": "a", "label": {"x": {"a": [[0, True]]}}}, "two whole numbers, found [0, True]"),
        ({"text": "a", "label": {"x": {"a": ["01"]}}}, "two whole numbers, found the string '01'"),
        ({"text": "a", "label": {" x": {"a": [[0, 0]]}}}, "label ' x' cannot be used"),
        ({"text": "a", "id": [1]}, "'id' must be a string or a whole number, found a list of 1"),
    ],
)
def test_wrong_shapes(jsonl: Jsonl, row: object, said: str) -> None:
    path = jsonl(ROW, row)
    with pytest.raises(DataError) as caught:
        read(path, format="cluener")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "rows", [[ROW], [{"text": "a"}, {"id": 1, "text": "b"}], [{"text": "a"}, ROW], [{"text": "a", "label": {}}]]
)
def test_detected(jsonl: Jsonl, rows: list[object]) -> None:
    assert detect(jsonl(*rows)) == "cluener"


@pytest.mark.parametrize("row", [{"text": "a", "label": "pos"}, {"text": "a", "spans": []}, {"label": {}}])
def test_not_taken_for_cluener(jsonl: Jsonl, row: object) -> None:
    with pytest.raises(DataError, match="the format cannot be told"):
        detect(jsonl(row))
