"""`nertune evaluate --out`: the files it leaves, and how it comes by what the model was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nertune import data
from nertune.cli import main
from nertune.prompt import PromptSpec, PromptTemplate, answer_format
from nertune.reporting import trained_on
from nertune.run import RunManifest
from nertune.schema import Document, Entity, LabelSet, Prediction

SPEC = PromptSpec(PromptTemplate("{text}"), LabelSet(("name", "org")), answer_format("inline"))


class FakeRecognizer:
    """Calls the first character of a text a name."""

    renderer = SimpleNamespace(spec=SPEC)
    min_score = 0.25

    def extract_many(self, texts: Sequence[str], *, done: Any = None) -> list[Prediction]:
        return [Prediction(text, (Entity("name", 0, 1, text[0], 0.9),)) for text in texts]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    RunManifest("base", SPEC, "ab" * 32, (1,), 77).write(folder)
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n', encoding="utf-8")
    monkeypatch.setattr("nertune.cli.recognizing.open_recognizer", lambda options: FakeRecognizer())
    return folder


def _file(path: Path, *texts: str) -> Path:
    data.write([Document.of(text, [("name", 0, 1), ("org", 2, 3)]) for text in texts], path, format="entities")
    return path


def test_it_writes_scores_predictions_and_the_report(run: Path, tmp_path: Path, capsys: Any) -> None:
    held_out, out = _file(tmp_path / "held-out.jsonl", "叶和桂", "林和桂"), tmp_path / "out"
    train = _file(tmp_path / "train.jsonl", "叶在京")
    arguments = ["evaluate", str(run), "--data", str(held_out), "--out", str(out), "--train", str(train), "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    names = {"evaluation.json", "predictions.jsonl", "report.html", "report.md", "report.json"}
    assert names <= {path.name for path in out.iterdir()}
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["title"] == "run on held-out.jsonl"
    assert (report["facts"]["base model"], report["facts"]["least score"]) == ("base", "0.25")
    assert report["evaluation"]["metrics"] == printed["metrics"]
    assert report["training"] == {"loss": [[1, 2.5]]}
    assert report["errors"]["classes"]["missed"]["count"] == 2
    seen = {row["name"]: row["gold"] for row in report["errors"]["breakdowns"]["seen in training"]}
    assert seen == {"seen with this label": 1, "not seen": 3}


def test_labels_of_gold_and_training_data_are_mapped_and_unasked_ones_told(
    run: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = PromptSpec(PromptTemplate("{text}"), LabelSet(("name",), {"name": "人名"}), answer_format("inline"))
    RunManifest("base", spec, "ab" * 32, (1,), 77).write(run)
    monkeypatch.setattr(FakeRecognizer, "renderer", SimpleNamespace(spec=spec))
    held_out, train = _file(tmp_path / "held-out.jsonl", "叶和桂"), _file(tmp_path / "train.jsonl", "叶在京")
    arguments = ["evaluate", str(run), "--data", str(held_out), "--train", str(train), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["metrics"]["span"]["micro"]["recall"] == 0.5
    assert (
        "mentions with labels that the model was not asked for, all of which it misses: org (1). It knows name (人名); --map"
        in (captured.err)
    )
    assert main([*arguments, "--json", "--map", "org="]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["metrics"]["span"]["micro"]["recall"] == 1
    assert "mentions left out, as the label map says: org (1)" in captured.err
    assert "not asked for" not in captured.err
    value = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    seen = {row["name"]: row["gold"] for row in value["errors"]["breakdowns"]["seen in training"]}
    assert (seen, value["display"]) == ({"seen with this label": 1}, {"name": "人名"})


def test_where_the_report_is_goes_to_stderr(run: Path, tmp_path: Path, capsys: Any) -> None:
    held_out, out = _file(tmp_path / "held-out.jsonl", "叶和桂"), tmp_path / "out"
    assert main(["evaluate", str(run), "--data", str(held_out), "--out", str(out)]) == 0
    assert str(out / "report.html") in capsys.readouterr().err.replace("\n", "")


def test_training_data_without_a_report_are_refused(run: Path, tmp_path: Path, capsys: Any) -> None:
    held_out = _file(tmp_path / "held-out.jsonl", "叶和桂")
    assert main(["evaluate", str(run), "--data", str(held_out), "--train", str(held_out)]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_runs_recipe_names_what_it_was_trained_on(run: Path, tmp_path: Path) -> None:
    assert trained_on(str(run), None) is None
    train = _file(tmp_path / "train.jsonl", "叶一桂", "叶二桂", "叶三桂", "叶四桂")
    recipe = {"model": "m", "output": "o", "data": {"train": str(train), "validation": 1}}
    (run / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    found = trained_on(str(run), None)
    assert found is not None
    assert len(found) == 3
    train.unlink()
    assert trained_on(str(run), None) is None
    (run / "recipe.yaml").write_text(": : :", encoding="utf-8")
    assert trained_on(str(run), None) is None
