"""Going on from sealed checkpoints: where the run was moved to, past a damaged one, and with the best one damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nertune.errors import InputError, TrainingInterrupted
from nertune.train.checkpoints import damage
from nertune.train.fit import train
from nertune.train.trainer import NerTrainer

SETTINGS = {"eval_steps": 3}


@pytest.fixture(scope="module", autouse=True)
def _first_is_best():
    """Evaluations that become worse from step to step, so that the best checkpoint is the first."""
    loop = NerTrainer.evaluation_loop

    def worse(self, *args, **kwargs):
        output = loop(self, *args, **kwargs)
        return output._replace(metrics={**output.metrics, "eval_loss": float(self.state.global_step)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NerTrainer, "evaluation_loop", worse)
        yield


def _interrupted(recipe, step: int) -> Path:
    def report(progress) -> None:
        if progress.step == step:
            raise TrainingInterrupted("", exit_code=130)

    with pytest.raises(TrainingInterrupted):
        train(recipe, report=report)
    return Path(recipe.output)


def _state(run: Path, step: int) -> dict:
    return json.loads((run / f"checkpoints/checkpoint-{step}/trainer_state.json").read_text(encoding="utf-8"))


def _cut(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes((checkpoint / name).read_bytes()[:-1])


def _assert_same_weights(run: Path, other: Path) -> None:
    wanted, got = (load_file(folder / "adapter_model.safetensors") for folder in (other, run))
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


@pytest.fixture(scope="module")
def whole(recipe_in, tmp_path_factory) -> Path:
    return train(recipe_in(tmp_path_factory.mktemp("whole"), training=SETTINGS)).folder


def test_every_checkpoint_is_whole_and_names_the_best_by_its_place(whole):
    assert _state(whole, 15)["best_global_step"] == 3
    assert _state(whole, 3)["best_model_checkpoint"] == str(whole / "checkpoints/checkpoint-3")
    for checkpoint in (whole / "checkpoints").iterdir():
        assert damage(checkpoint) is None
        assert "pending_loss.json" in json.loads((checkpoint / "checksums.json").read_text(encoding="utf-8"))


def test_a_run_that_was_moved_finds_its_best_checkpoint(recipe, whole, tmp_path):
    _interrupted(recipe("old", training=SETTINGS), 10).rename(tmp_path / "new")
    run = train(recipe("new", training=SETTINGS), resume=True).folder
    _assert_same_weights(run, whole)
    assert _state(run, 15)["best_model_checkpoint"] == str(run / "checkpoints/checkpoint-3")


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(recipe, whole):
    run = _interrupted(recipe(training=SETTINGS), 10)
    newest = run / "checkpoints/checkpoint-9"
    _cut(newest, "optimizer.pt")
    with pytest.raises(InputError, match=r"checkpoint-9 is damaged: optimizer\.pt has"):
        train(recipe(training=SETTINGS), resume=str(newest))
    said: list[str] = []
    train(recipe(training=SETTINGS), resume=True, note=said.append)
    assert any("checkpoint-9 is damaged: optimizer.pt has" in line for line in said)
    _assert_same_weights(run, whole)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_damaged_best_checkpoint_is_out_of_the_running(recipe):
    run = _interrupted(recipe(training=SETTINGS), 10)
    _cut(run / "checkpoints/checkpoint-3", "adapter_model.safetensors")
    said: list[str] = []
    train(recipe(training=SETTINGS), resume=True, note=said.append)
    assert any("checkpoint-3, the best so far, is damaged" in line for line in said)
    assert _state(run, 15)["best_global_step"] == 12
    saved = load_file(run / "checkpoints/checkpoint-12/adapter_model.safetensors")
    assert all(
        torch.equal(weight, saved[name]) for name, weight in load_file(run / "adapter_model.safetensors").items()
    )


def test_patience_that_was_at_its_end_stays_so(recipe):
    """A run that stopped early, and was killed before its weights were written, does not train on."""
    settings = {**SETTINGS, "patience": 1, "log_steps": 1}
    run = train(recipe(training=settings)).folder
    logged = (run / "metrics.jsonl").read_bytes()
    weights = (run / "adapter_model.safetensors").read_bytes()
    for name in ("nertune.json", "adapter_model.safetensors"):
        (run / name).unlink()
    assert train(recipe(training=settings), resume=True).steps == 6
    assert (run / "metrics.jsonl").read_bytes() == logged
    assert (run / "adapter_model.safetensors").read_bytes() == weights


def test_a_runs_weights_are_on_the_disk_before_its_manifest_says_that_it_is_whole(recipe, monkeypatch):
    """A power cut keeps what was synced: a manifest that stands there stands beside whole weights."""
    happened: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda file: (happened.append(os.readlink(f"/proc/self/fd/{file}")), sync(file))[1]
    )
    monkeypatch.setattr(
        Path, "replace", lambda path, target: (happened.append(f"moved {Path(target).name}"), replace(path, target))[1]
    )
    run = train(recipe(training={"max_steps": 1})).folder
    manifest = happened.index("moved nertune.json")
    for path in (run / "adapter_model.safetensors", run / "adapter_config.json", run):
        assert str(path.resolve()) in happened[:manifest], path
