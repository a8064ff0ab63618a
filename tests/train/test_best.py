"""Which checkpoint is the best, that its name is told, and how a run is replaced that is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune.cli import main
from nertune.run import RunManifest
from nertune.schema import Prediction
from nertune.train.checkpoints import remove_run
from nertune.train.fit import train
from nertune.train.measure import Reader


def _reader(*f1: float) -> Reader:
    """Measures these one after another, the last for ever, on whatever the model is."""
    left = list(f1)
    return Reader(
        lambda model, renderer, documents: [Prediction(document.text) for document in documents],
        lambda documents, predictions: {"f1": left.pop(0) if len(left) > 1 else left[0]},
    )


def _losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}


def test_of_equal_f1_the_lower_loss_wins(recipe):
    trained = train(recipe(training={"keep_checkpoints": None}), reader=_reader(0.5))
    losses = _losses(trained.folder)
    least = min(losses, key=losses.__getitem__)
    assert least != min(losses)  # the first evaluation is not the best one, as it was taken to be
    assert trained.best_checkpoint == trained.folder / "checkpoints" / f"checkpoint-{least}"
    kept = (trained.best_checkpoint / "adapter_model.safetensors").read_bytes()
    assert (trained.folder / "adapter_model.safetensors").read_bytes() == kept
    assert f"checkpoint-{least}" in (trained.folder / "report.html").read_text(encoding="utf-8")


def test_a_higher_f1_wins_whatever_its_loss(recipe):
    trained = train(recipe(training={"keep_checkpoints": None}), reader=_reader(0.75, 0.5))
    assert trained.best_checkpoint == trained.folder / "checkpoints" / "checkpoint-4"
    assert min(_losses(trained.folder).values()) < _losses(trained.folder)[4]


def test_a_tie_is_decided_after_a_resume_too(recipe):
    """The loss of the best state so far stands in the checkpoint's log."""
    whole = train(recipe("whole", training={"keep_checkpoints": None}), reader=_reader(0.5))
    train(recipe("cut", training={"keep_checkpoints": None, "max_steps": 8}), reader=_reader(0.5))
    settings = recipe("cut", training={"keep_checkpoints": None})
    resumed = train(settings, reader=_reader(0.5), resume=True)
    assert resumed.best_checkpoint.name == whole.best_checkpoint.name


def test_no_checkpoint_is_the_best_where_the_last_state_is_kept(recipe):
    assert train(recipe(training={"keep_best": False, "max_steps": 4}), reader=_reader(0.5)).best_checkpoint is None


@pytest.fixture
def written(recipe, tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(training={"max_steps": 2, "eval_steps": 2, "f1_documents": 0}).to_yaml(), encoding="utf-8")
    return path


def test_its_name_is_printed(written, tmp_path, capsys):
    assert main(["train", str(written)]) == 0
    best = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    assert f"the best checkpoint, which is the run: {best}" in capsys.readouterr().err
    assert main(["train", str(written), "training.keep_best=false", f"output={tmp_path / 'last'}"]) == 0
    assert "the best checkpoint" not in capsys.readouterr().err


def test_a_run_is_replaced_where_that_is_asked_for(written, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(written)]) == 0
    for name in ("calibration.json", "notes.txt"):
        (run / name).write_text("{}", encoding="utf-8")
    before = (run / "adapter_model.safetensors").read_bytes()
    assert main(["train", str(written)]) == 2
    assert "or replace it: overwrite=true" in " ".join(capsys.readouterr().err.split())
    # Nothing is deleted for a training that cannot begin.
    assert main(["train", str(written), "overwrite=true", "data.train=nowhere.jsonl"]) == 2
    assert (run / "adapter_model.safetensors").read_bytes() == before
    capsys.readouterr()
    assert main(["train", str(written), "overwrite=true", "training.learning_rate=0.001"]) == 0
    assert f"overwrite: the run that was in {run} is deleted" in capsys.readouterr().err
    assert (run / "adapter_model.safetensors").read_bytes() != before
    assert not (run / "calibration.json").exists()  # it was the old one's
    assert (run / "notes.txt").read_text(encoding="utf-8") == "{}"  # no training writes it
    RunManifest.read(run)


def test_a_training_that_is_gone_on_with_deletes_nothing(recipe, tmp_path):
    short = {"max_steps": 4, "f1_documents": 0}
    train(recipe(training=short))
    trained = train(recipe(training={**short, "max_steps": 8}, overwrite=True), resume=True)
    assert trained.steps == 8
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-4").is_dir()


@pytest.mark.parametrize("key", ["lora.from", "model"])
def test_what_a_training_starts_from_is_not_deleted(written, tmp_path, capsys, key):
    assert main(["train", str(written), "overwrite=true", f"{key}={tmp_path / 'run'}"]) == 2
    assert "is what this training starts from, and would be deleted" in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_a_run_keeps_everything(tmp_path):
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    assert not remove_run(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "mine"
