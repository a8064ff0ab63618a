"""Predictions from files: what extraction adds is kept, and what a reader cannot place still counts as predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nertune.data import read_predictions
from nertune.errors import DataError
from nertune.schema import Mention, ParseOutcome, Prediction


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "predicted.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def entity(label: str, start: int, end: int, text: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, "text": text, "score": 0.5}


def test_what_extraction_wrote_comes_back(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "text": "叶老桂在此",
        "entities": [entity("name", 0, 3, "叶老桂")],
        "ungrounded": [{"label": "company", "text": "招商银行"}],
        "stop": "length",
        "outcome": "repaired",
    }
    found = read_predictions(written(tmp_path, row, {"text": "无", "entities": [], "ungrounded": [], "stop": "end"}))
    first, second = found.predictions
    assert found.format == "entities"
    assert (first.id, first.entities[0].score, first.cut, first.outcome) == ("a", 0.5, True, ParseOutcome.REPAIRED)
    assert first.ungrounded == (Mention("company", "招商银行"),)
    assert second == Prediction("无")


def test_a_prediction_without_a_place_is_ungrounded_not_forgotten(tmp_path: Path) -> None:
    rows = [
        {"text": "叶老桂在此", "entities": [entity("name", 0, 3, "叶老桂"), entity("name", 1, 3, "李四")]},
        {"text": "甲乙", "entities": [{"start": 0, "end": 9, "label": "name"}]},
    ]
    first, second = read_predictions(written(tmp_path, *rows)).predictions
    assert first.ungrounded == (Mention("name", "李四"),)
    assert second.ungrounded == (Mention("name", "[0, 9]"),)


def test_answers_in_alpaca_rows_that_the_text_does_not_hold_are_ungrounded(tmp_path: Path) -> None:
    answer = json.dumps([{"label": "name", "text": "叶老桂"}, {"label": "name", "text": "李四"}], ensure_ascii=False)
    found = read_predictions(written(tmp_path, {"instruction": "找", "input": "叶老桂在此", "output": answer}))
    (prediction,) = found.predictions
    assert [e.text for e in prediction.entities] == ["叶老桂"]
    assert prediction.ungrounded == (Mention("name", "李四"),)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"ungrounded": {}}, "'ungrounded' must be a list"),
        ({"ungrounded": [{"label": "name"}]}, "'ungrounded' must hold objects"),
        ({"ungrounded": [], "outcome": "fine"}, "'outcome' must be one of clean, repaired, invalid"),
    ],
)
def test_a_wrong_extra_is_named_with_its_line(tmp_path: Path, extra: dict[str, Any], message: str) -> None:
    path = written(tmp_path, {"text": "甲", "entities": []}, {"text": "乙", "entities": [], **extra})
    with pytest.raises(DataError, match=rf"predicted.jsonl:2: {message}"):
        read_predictions(path)
