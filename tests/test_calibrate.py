"""`nertune calibrate`: what it prints, what it leaves in the run, and what --min-score makes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import nertune
from nertune import data
from nertune.cli import main
from nertune.confidence import CALIBRATION, Calibration, MinScore, settle, write_calibration
from nertune.errors import InputError
from nertune.prompt import PromptSpec, PromptTemplate, answer_format
from nertune.run import RunManifest
from nertune.schema import Document, Entity, LabelSet, Prediction, written_score

SPEC = PromptSpec(PromptTemplate("{text}"), LabelSet(("name", "org")), answer_format("inline"))


class FakeRecognizer:
    """Marks every 叶 as a name with 0.9 and every 和 with 0.6."""

    constrained = False

    def __init__(self, calibration: Calibration | None = None, min_score: MinScore | None = None) -> None:
        self.calibration, self.min_score = calibration, min_score
        self.renderer = self
        self.spec = SPEC

    def extract_many(self, texts: Sequence[str], *, done: Any = None) -> list[Prediction]:
        return [settle(Prediction(text, tuple(self._find(text))), self.calibration, self.min_score) for text in texts]

    @staticmethod
    def _find(text: str) -> list[Entity]:
        scores = {"叶": 0.9, "和": 0.6}
        return [Entity("name", n, n + 1, c, scores[c], scores[c], 1.0) for n, c in enumerate(text) if c in scores]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose recognizer is the fake; `--min-score` and the calibration reach it as `nertune.load` hands them on."""
    folder = tmp_path / "run"
    folder.mkdir()
    RunManifest("base", SPEC, "ab" * 32, (1,), 77).write(folder)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {"base_model.model.q_proj.lora_A.weight": np.zeros((8, 4), np.float32)}, folder / "adapter_model.safetensors"
    )

    def load(options: Any, *, calibrated: bool = True) -> FakeRecognizer:
        calibration = Calibration.read(Path(options.model)) if calibrated else None
        return FakeRecognizer(calibration, getattr(options, "min_score", None))

    monkeypatch.setattr("nertune.cli.recognizing.open_recognizer", load)
    return folder


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.jsonl"
    data.write([Document.of("叶和桂", [("name", 0, 1), ("org", 2, 3)])] * 30, path, format="entities")
    return path


def test_it_fits_keeps_and_prints(run: Path, annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(run), "--data", str(annotated), "--json"]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert json.loads((run / CALIBRATION).read_text(encoding="utf-8")) == {"format": 1, "calibration": printed}
    assert printed["data"] == {
        "file": "held-out.jsonl",
        "sha256": hashlib.sha256(annotated.read_bytes()).hexdigest(),
    }
    assert printed["documents"] == 30
    assert printed["entities"] == {"scored": 60, "right": 30, "unscored": 0}
    fitted = Calibration.read(run)
    assert fitted.thresholds == {"name": pytest.approx(fitted.score(0.9))}
    assert printed["labels"]["name"]["before"]["precision"] == 0.5
    assert printed["labels"]["name"]["after"]["precision"] == 1
    assert (run / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_tables(run: Path, annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(run), "--data", str(annotated), "--measure", "text", "--limit", "25"]) == 0
    printed = capsys.readouterr().out
    for part in ("50 scored entities in 25 documents", "ECE", "0.9", "calibrated", "measure: text", "name", "org"):
        assert part in printed


def test_calibrating_again_starts_from_the_models_own_scores(run: Path, annotated: Path) -> None:
    for _ in range(2):
        assert main(["calibrate", str(run), "--data", str(annotated), "--json"]) == 0
        found = Calibration.read(run)
        assert found.thresholds["name"] == found.score(0.9)


def test_least_scores_in_extraction(run: Path, annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def found(*arguments: str) -> list[tuple[str, float]]:
        assert main(["extract", str(run), "--text", "叶和", *arguments]) == 0
        return [(e["text"], e["score"]) for e in json.loads(capsys.readouterr().out)["entities"]]

    assert found() == [("叶", 0.9), ("和", 0.6)]
    assert found("--min-score", "0.6") == [("叶", 0.9), ("和", 0.6)]
    assert found("--min-score", "0.61") == [("叶", 0.9)]
    main(["calibrate", str(run), "--data", str(annotated), "--json"])
    capsys.readouterr()
    fitted = Calibration.read(run)
    assert found() == [("叶", written_score(fitted.score(0.9))), ("和", written_score(fitted.score(0.6)))]
    assert found("--min-score", "calibrated") == [("叶", written_score(fitted.score(0.9)))]


def test_least_scores_in_evaluation(run: Path, annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, precision in (([], 0.5), (["--min-score", "0.7"], 1.0)):
        assert main(["evaluate", str(run), "--data", str(annotated), "--json", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["metrics"]["span"]["micro"]["precision"] == precision


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["extract", "run", "--text", "叶", "--min-score", "2"],
            "'2' is neither a number from 0 to 1 nor 'calibrated'",
        ),
        (["extract", "run", "--text", "叶", "--min-score", "nan"], "neither a number"),
        (["evaluate", "run", "--data", "x", "--min-score", "best"], "nor 'calibrated'"),
        (["calibrate", "no-run", "--data", "x"], "not a finished run"),
        (["calibrate", "run"], "--data"),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as left:  # argparse leaves by itself
        code = left.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert expected in captured.err


def test_a_damaged_calibration_is_told_before_the_work(
    run: Path, annotated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("predicted")

    monkeypatch.setattr(FakeRecognizer, "extract_many", never)
    (run / CALIBRATION).write_text("{")
    assert main(["calibrate", str(run), "--data", str(annotated)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_task_of_several_has_its_own(run: Path, annotated: Path) -> None:
    RunManifest("base", None, "ab" * 32, (1,), 77, tasks={"news": SPEC, "law": SPEC}).write(run)
    for task in ("news", "law"):
        assert main(["calibrate", str(run), "--data", str(annotated), "--task", task, "--json"]) == 0
        assert (run / f"reliability-{task}.png").is_file()
    assert Calibration.read(run, "news") == Calibration.read(run, "law")
    assert Calibration.read(run, "law").thresholds.keys() == {"name"}


def test_calibrated_thresholds_need_a_calibration_before_the_model_is_loaded(run: Path) -> None:
    with pytest.raises(InputError, match="run nertune calibrate"):
        nertune.load(run, min_score="calibrated")
    with pytest.raises(InputError, match="min_score is 3"):
        nertune.load(run, min_score=3)


@pytest.mark.parametrize("fitted", [True, False])
def test_a_calibration_that_is_not_used_is_told_once(
    fitted: bool, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    value = {"temperature": 2.0, "threshold": 0.5, "thresholds": {}, "constrained": fitted}
    write_calibration(run, value)
    for constrained in (True, False):
        arguments = ["extract", str(run), "--text", "叶", *(() if constrained else ("--unconstrained",))]
        assert main(arguments) == 2  # there is no model "base"
        assert capsys.readouterr().err.count("its calibration was fitted") == (fitted != constrained)
        assert main([*arguments, "--min-score", "calibrated"]) == 2
        captured = capsys.readouterr().err
        assert captured.count("no thresholds were fitted for this run, or for answers made in another way") == (
            fitted != constrained
        )
        assert "its calibration was fitted" not in captured
