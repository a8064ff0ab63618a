"""A seeded tiny training from recipe to run directory: complete, pinned, resumable, loadable, and refused in time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import nertune
from nertune import data
from nertune.confidence import Calibration, write_calibration
from nertune.errors import InputError, MissingFileError, SampleTooLongError, TrainingError
from nertune.run import RunManifest
from nertune.train.fit import train


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in _metrics(run) if "loss" in line}


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter_model.safetensors")


def test_a_run_is_complete_pinned_and_loads(recipe, base, corpus):
    trained = train(recipe())
    run = trained.folder
    assert trained.steps == 15
    assert trained.shares_prefix
    for name in ("adapter_config.json", "nertune.json", "recipe.yaml", "metrics.jsonl"):
        assert (run / name).stat().st_size > 0
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((run / "checkpoints").iterdir())) <= 2
    losses = _losses(run)
    assert list(losses) == list(range(1, 16))
    assert [losses[1], losses[2], losses[15]] == pytest.approx(PINNED, rel=1e-4)
    assert trained.best_eval_loss == min(line["eval_loss"] for line in _metrics(run) if "eval_loss" in line)

    manifest = RunManifest.read(run)
    assert manifest.base_model == str(base)
    assert manifest.prompt.labels.names == ("人名", "地点")
    assert set(manifest.stop_ids) == {0, 2}
    recognizer = nertune.load(run, max_new_tokens=4)
    rows = [recognizer.renderer.row(document) for document in data.read(corpus).documents]
    assert manifest.max_tokens in {len(row.ids_T) for row in rows}
    short, long = recognizer.extract_many(["方鹏去漠北", "方鹏去漠北。" * 200])
    assert all(short.text[e.start : e.end] == e.text for e in short.entities)
    assert (short.windows, long.windows > 1, long.stop) == (1, True, "length")
    with pytest.raises(InputError, match="window of 9000 tokens does not fit"):
        nertune.load(run, window=9000)

    assert (recognizer.calibration, recognizer.min_score) == (None, None)
    fitted = Calibration(2.0, 0.5, {"人名": 0.25}, constrained=recognizer.constrained)
    write_calibration(run, dataclasses.asdict(fitted))
    recognizer = nertune.load(run, min_score="calibrated")
    assert (recognizer.calibration, recognizer.min_score) == (fitted, "calibrated")
    assert nertune.load(run, calibrated=False).calibration is None
    write_calibration(run, {**dataclasses.asdict(fitted), "constrained": not recognizer.constrained})
    assert nertune.load(run).calibration is None


# Losses of the first, second and last step of the run above, in nats per trained token.
PINNED = [5.579172, 5.537853, 5.359437]


def test_the_best_checkpoint_is_what_is_saved(recipe):
    run = train(recipe(training={"learning_rate": 0.2, "eval_steps": 6, "keep_checkpoints": 3})).folder
    evals = {line["step"]: line["eval_loss"] for line in _metrics(run) if "eval_loss" in line}
    best = min(evals, key=evals.__getitem__)
    saved = load_file(run / "checkpoints" / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert all(torch.equal(weight, saved[name]) for name, weight in _weights(run).items())


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"max_steps": 2, "gradient_checkpointing": True}},
        {"training": {"max_steps": 2, "loss_vocabulary": "sampled"}},
        {"training": {"max_steps": 2, "accumulation": 2}, "data": {"validation": 0}},
        {"training": {"max_steps": 2}, "answer": "json"},
        {"training": {"max_steps": 2}, "answer": "jsonl"},
    ],
    ids=["checkpointing", "sampled vocabulary", "accumulation, no validation", "json", "jsonl"],
)
def test_options_train_and_load(recipe, changes):
    trained = train(recipe(**changes))
    assert trained.steps == 2
    assert set(RunManifest.read(trained.folder).prompt.labels) == {"人名", "地点"}
    assert all(torch.isfinite(weight).all() for weight in _weights(trained.folder).values())


def test_overlong_documents_are_left_out_by_name_or_refused(recipe):
    said: list[str] = []
    trained = train(recipe(max_tokens=115, training={"max_steps": 1}), note=said.append)
    assert trained.left_out
    assert any("its answer would be cut" in line for line in said)
    with pytest.raises(SampleTooLongError, match="overlong: refuse"):
        train(recipe("other", max_tokens=115, overlong="refuse"))


def test_a_loss_that_is_not_finite_stops_before_the_step(recipe, monkeypatch):
    from nertune.train import trainer

    monkeypatch.setattr(
        trainer, "packed_loss_sum", lambda model, batch, head=None: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(TrainingError, match="step 1: stopped before"):
        train(recipe())


def test_refusals_come_before_anything_is_written(recipe, tmp_path):
    with pytest.raises(MissingFileError, match="no checkpoint"):
        train(recipe(), resume=True)
    with pytest.raises(InputError, match=r"lora\.targets: nope"):
        train(recipe(lora={"targets": ["nope"]}))
    with pytest.raises(InputError, match="'地点'"):
        train(recipe(labels=["人名"]))
    assert not (tmp_path / "run").exists()
