"""A calibration is written, read back and applied; files that cannot be used say so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nertune.confidence import CALIBRATION, Calibration, settle, write_calibration
from nertune.errors import RunError
from nertune.schema import Entity, Mention, Prediction

VALUE = {"temperature": 2.0, "threshold": 0.25, "thresholds": {"name": 0.75}, "constrained": True, "ece": 0.1}
READ = Calibration(2.0, 0.25, {"name": 0.75}, constrained=True)


def test_it_is_read_as_written(tmp_path: Path) -> None:
    assert Calibration.read(tmp_path) is None
    write_calibration(tmp_path, VALUE)
    assert Calibration.read(tmp_path) == READ
    assert Calibration.read(tmp_path, "one") is None
    assert json.loads((tmp_path / CALIBRATION).read_text())["format"] == 1


def test_each_task_has_its_own(tmp_path: Path) -> None:
    write_calibration(tmp_path, VALUE, "one")
    write_calibration(tmp_path, {**VALUE, "temperature": 3.0}, "two")
    write_calibration(tmp_path, {**VALUE, "temperature": 4.0}, "one")
    assert [Calibration.read(tmp_path, name).temperature for name in ("one", "two")] == [4.0, 3.0]
    assert Calibration.read(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": 2}',
        '{"format": 1, "calibration": 3}',
        *(
            json.dumps({"format": 1, "calibration": {**VALUE, **wrong}})
            for wrong in ({"temperature": 0}, {"temperature": "1"}, {"threshold": 2}, {"thresholds": {"name": -1}})
        ),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / CALIBRATION).write_text(content)
    with pytest.raises(RunError, match=CALIBRATION):
        Calibration.read(tmp_path)
    write_calibration(tmp_path, VALUE)
    assert Calibration.read(tmp_path) == READ


def test_other_tasks_that_cannot_be_read_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION).write_text('{"format": 2, "tasks": {"two": {}}}')
    with pytest.raises(RunError, match="format 2"):
        write_calibration(tmp_path, VALUE, "one")
    assert "two" in (tmp_path / CALIBRATION).read_text()


@pytest.mark.parametrize("p", [0.0, 1e-12, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6, 1.0])
def test_a_score_is_the_sigmoid_of_the_divided_logit(p: float) -> None:
    assert Calibration(1.0, 0, {}).score(p) == pytest.approx(p, abs=2e-7)
    for temperature in (0.05, 0.5, 2.0, 20.0):
        odds = (max(p, 1e-7) / max(1 - p, 1e-7)) ** (1 / temperature)
        assert Calibration(temperature, 0, {}).score(p) == pytest.approx(odds / (1 + odds), rel=1e-5)
    assert math.isfinite(Calibration(1e-9, 0, {}).score(p))


def test_settling_keeps_what_reaches_its_labels_threshold() -> None:
    entities = [
        Entity("name", 0, 1, "a", 0.8, 0.9, 0.9),
        Entity("name", 1, 2, "b", 0.7),
        Entity("org", 0, 1, "a", 0.3),
        Entity("org", 1, 2, "b", 0.2),
        Entity("org", 2, 3, "c"),
    ]
    prediction = Prediction("abc", tuple(entities), (Mention("org", "z"),), id="7")
    plain = Calibration(1.0, 0.25, {"name": 0.75})
    assert settle(prediction, None, None) == prediction
    assert [e.text + e.label for e in settle(prediction, plain, "calibrated").entities] == ["aname", "aorg"]
    kept = settle(prediction, None, 0.3)
    assert [e.text + e.label for e in kept.entities] == ["aname", "aorg", "bname"]
    assert (kept.ungrounded, kept.id) == (prediction.ungrounded, "7")
    assert [e.score for e in settle(prediction, None, 0.0).entities] == [0.8, 0.3, 0.7, 0.2]


def test_a_score_that_was_written_is_a_threshold_that_keeps_its_entity() -> None:
    prediction = Prediction("叶老桂", (Entity("name", 0, 3, "叶老桂", 0.17865561),))
    (written,) = prediction.to_json()["entities"]
    assert settle(prediction, None, written["score"]).entities == prediction.entities
    assert settle(prediction, None, written["score"] + 1e-6).entities == ()
