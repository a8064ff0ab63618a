"""Runs that were interrupted, runs of models that cannot share a prefix, and what other libraries make of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import nertune
from nertune import data
from nertune.errors import InputError, MissingFileError, TrainingError
from nertune.schema import Document
from nertune.train.fit import train
from nertune.train.recipe import load_recipe
from nertune.train.task import load_tasks

SHORT = {"max_steps": 2, "eval_steps": 2}


class InterruptionError(Exception):
    """Stands for the signal that ends a training from outside."""


def _train_until(recipe, step: int, **arguments) -> None:
    def report(progress) -> None:
        if progress.step == step:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train(recipe, report=report, **arguments)


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def _assert_same_run(found: Path, expected: Path) -> None:
    """The same log, line for line, and the same weights, bit for bit."""
    assert _metrics(found) == _metrics(expected)
    wanted, got = (load_file(run / "adapter_model.safetensors") for run in (expected, found))
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


@pytest.fixture(scope="module")
def whole(recipe_in, tmp_path_factory) -> Path:
    """A run of 15 steps that nothing interrupted, with dropout, in epochs of 5 steps."""
    return train(recipe_in(tmp_path_factory.mktemp("whole"))).folder


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(recipe, whole, tmp_path):
    """Checkpoints stand in the middle of an epoch, and steps after the last of them are computed again."""
    _train_until(recipe(), 11)
    assert _checkpoints(tmp_path / "run") == ["checkpoint-4", "checkpoint-8"]
    assert not (tmp_path / "run" / "nertune.json").exists()
    with pytest.raises(InputError, match="already holds a run"):
        train(recipe())
    resumed = train(recipe(), resume=True)
    assert resumed.steps == 15
    _assert_same_run(resumed.folder, whole)
    assert [line["step"] for line in _metrics(resumed.folder) if "loss" in line] == list(range(1, 16))


def test_a_run_may_be_interrupted_twice(recipe, whole, tmp_path):
    _train_until(recipe(), 6)
    _train_until(recipe(), 9, resume=True)
    # What a kill in the middle of writing a line leaves.
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    _assert_same_run(train(recipe(), resume=True).folder, whole)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_checkpoint_that_a_kill_cut_off_is_not_taken(recipe, whole, tmp_path, damage):
    _train_until(recipe(), 9)
    checkpoints = tmp_path / "run" / "checkpoints"
    half = checkpoints / "checkpoint-9"
    shutil.copytree(checkpoints / "checkpoint-8", half)
    (half / "optimizer.pt").write_bytes(b"")
    if damage == "missing":
        (half / "trainer_state.json").unlink()
    else:
        (half / "trainer_state.json").write_text('{"global_step": 9, "log_')
    _assert_same_run(train(recipe(), resume=True).folder, whole)


def test_a_finished_run_is_not_written_over(recipe, whole, recipe_in):
    before = (whole / "adapter_model.safetensors").read_bytes()
    with pytest.raises(InputError, match="already holds a run"):
        train(recipe_in(whole.parent))
    assert (whole / "adapter_model.safetensors").read_bytes() == before
    # An adapter folder alone, its checkpoints deleted, is a run still.
    (whole.parent / "bare" / "run").mkdir(parents=True)
    shutil.copy(whole / "nertune.json", whole.parent / "bare" / "run")
    with pytest.raises(InputError, match="already holds a run"):
        train(recipe_in(whole.parent / "bare"))


def test_an_output_that_is_a_file_is_refused(recipe, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        train(recipe())
    assert (tmp_path / "run").read_text() == "mine"


def test_resuming_needs_a_checkpoint(recipe):
    _train_until(recipe(), 2)
    with pytest.raises(MissingFileError, match="no checkpoint to resume from"):
        train(recipe(), resume=True)
    assert train(recipe(training=SHORT)).steps == 2


def test_the_picture_the_recipe_and_the_manifest_are_whole(whole, recipe_in):
    picture = imread(whole / "loss.png")
    assert picture.shape == (480, 840, 4)
    assert picture[..., :3].std() > 0.01
    assert load_recipe(whole / "recipe.yaml") == recipe_in(whole.parent)
    versions = json.loads((whole / "nertune.json").read_text(encoding="utf-8"))["versions"]
    assert versions["torch"] == torch.__version__
    assert set(_metrics(whole)[0]) == {"step", "epoch", "loss", "grad_norm", "learning_rate"}
    assert [line["step"] for line in _metrics(whole) if "eval_loss" in line] == [4, 8, 12, 15]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_checkpoints_are_kept_up_to_the_number(recipe, keep):
    """The best is kept besides the last, which --resume needs, so one may mean two."""
    run = train(recipe(training={"keep_checkpoints": keep, "learning_rate": 0.2, "eval_steps": 3})).folder
    kept = _checkpoints(run)
    evals = {line["step"]: line["eval_loss"] for line in _metrics(run) if "eval_loss" in line}
    best = min(evals, key=evals.__getitem__)
    assert len(kept) <= max(keep, 2)
    assert {f"checkpoint-{best}", "checkpoint-15"} <= set(kept)


def _base_logits(base: Path, run: Path | None = None) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    if run is not None:
        model = PeftModel.from_pretrained(model, run).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([[10, 20, 30, 40]])).logits


@pytest.mark.parametrize("vocabulary", ["full", "sampled"])
@pytest.mark.parametrize("name", ["qwen2", "gemma3-tied"])
def test_peft_loads_a_run_on_the_full_model(recipe, base_of, name, vocabulary):
    """Only adapter weights are saved, those of inner layers, even where training saw a part of the vocabulary."""
    base = base_of(name)
    run = train(recipe(model=str(base), training={**SHORT, "loss_vocabulary": vocabulary})).folder
    saved = load_file(run / "adapter_model.safetensors")
    assert all(".lora_A." in key or ".lora_B." in key for key in saved)
    assert all(".layers." in key for key in saved)
    plain, adapted = _base_logits(base), _base_logits(base, run)
    assert adapted.shape == plain.shape
    assert not torch.allclose(adapted, plain)
    config = json.loads((run / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["r"], config["lora_alpha"]) == (str(base), 4, 8)
    assert config["modules_to_save"] is None


@pytest.mark.parametrize("name", ["qwen3-next", "gemma2", "mamba"])
def test_models_that_cannot_share_a_prefix_train_and_extract(recipe, base_of, name):
    said: list[str] = []
    lora = {"targets": ["in_proj", "x_proj"]} if name == "mamba" else {}
    trained = train(recipe(model=str(base_of(name)), lora=lora, training={**SHORT, "max_steps": 4}), note=said.append)
    assert not trained.shares_prefix
    assert any("cannot share a prompt prefix" in line for line in said)
    losses = [line["loss"] for line in _metrics(trained.folder) if "loss" in line]
    assert losses[-1] < losses[0]
    prediction, other = nertune.load(trained.folder).extract_many(["方鹏去漠北", "天晴"])
    assert (prediction.text, other.text) == ("方鹏去漠北", "天晴")


def test_layers_that_peft_cannot_adapt_are_named(recipe, base_of, tmp_path):
    with pytest.raises(InputError, match=r"lora\.targets: .*out_proj"):
        train(recipe(model=str(base_of("mamba"))))
    assert not (tmp_path / "run").exists()


def test_checkpointing_computes_layers_again_and_changes_no_number(recipe, monkeypatch):
    """The run with activation checkpointing logs the same losses, at twice the passes through a layer in training."""
    from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

    passes = []
    forward = Qwen2MLP.forward
    monkeypatch.setattr(Qwen2MLP, "forward", lambda self, x: (passes.append(self.training), forward(self, x))[1])
    settings = {"max_steps": 3, "eval_steps": 3}
    plain = train(recipe("plain", training=settings)).folder
    count = sum(passes)
    passes.clear()
    saving = train(recipe("saving", training={**settings, "gradient_checkpointing": True})).folder
    layers, trial = 3, 3
    assert (count - trial, sum(passes) - trial) == (3 * layers, 2 * 3 * layers)
    for found, expected in zip(_metrics(saving), _metrics(plain), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_losses_that_explode_stop_with_advice(recipe, tmp_path):
    with pytest.raises(TrainingError, match=r"at step [2-4]: stopped .* Lower training\.learning_rate"):
        train(recipe(training={"learning_rate": 1e30, "max_grad_norm": 0}))
    assert not (tmp_path / "run" / "nertune.json").exists()
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()


def test_a_base_model_that_is_broken_stops_at_once(recipe, base, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises((TrainingError, InputError), match="nan"):
        train(recipe(model=str(broken)))
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()


def test_overlong_documents_are_named(recipe, corpus):
    """The longest name makes the longest rows; they are left out, told with their text, and none is cut."""
    said: list[str] = []
    trained = train(recipe(max_tokens=115, training=SHORT, data={"validation": 0}), note=said.append)
    documents = data.read(corpus).documents
    assert {item.text for item in trained.left_out} == {d.text for d in documents if "许若彤" in d.text}
    assert all(documents[item.number - 1].text == item.text for item in trained.left_out)
    assert all(any(item.text in line for line in said) for item in trained.left_out)
    assert any(f"{len(trained.left_out)} training documents are left out" in line for line in said)


def test_both_parts_of_a_split_are_numbered_as_in_the_file(recipe, corpus):
    documents = data.read(corpus).documents
    task = load_tasks(recipe(data={"validation": 0.3}))[0]
    for part, numbers in ((task.train, task.train_numbers), (task.validation, task.validation_numbers)):
        assert [documents[number - 1].text for number in numbers] == [document.text for document in part]
    assert sorted(task.train_numbers + task.validation_numbers) == list(range(1, len(documents) + 1))
    assert task.train_numbers != tuple(range(1, len(task.train) + 1))


def test_a_file_or_a_share_or_nothing_is_held_out(recipe, corpus, tmp_path):
    path = tmp_path / "held-out.jsonl"
    held_out = [Document.of("邱岳到青川", [("人名", 0, 2), ("地点", 3, 5)]), Document("雨")]
    data.write(held_out, path, format="entities")
    by_file = load_tasks(recipe(data={"validation": str(path)}))[0]
    assert [document.text for document in by_file.validation] == ["邱岳到青川", "雨"]
    assert len(by_file.train) == 14
    by_share = load_tasks(recipe())[0]
    assert (len(by_share.train), len(by_share.validation)) == (10, 4)
    assert not {d.text for d in by_share.train} & {d.text for d in by_share.validation}
    assert load_tasks(recipe(data={"validation": 0}))[0].validation == ()
    evaluated = train(recipe(data={"validation": str(path)}, training=SHORT))
    assert evaluated.best_eval_loss == _metrics(evaluated.folder)[-1]["eval_loss"]
    plain = train(recipe("plain", data={"validation": 0}, training=SHORT))
    assert plain.best_eval_loss is None
    assert not any("eval_loss" in line for line in _metrics(plain.folder))


@pytest.mark.parametrize("where", ["train", "validation"])
def test_an_unknown_label_is_refused_with_the_nearest_name(recipe, corpus, tmp_path, where):
    path = tmp_path / "other.jsonl"
    data.write([Document.of("方鹏去漠北", [("人 名", 0, 2)])], path, format="entities")
    files = {"train": str(corpus), "validation": 0.0, where: str(path)}
    with pytest.raises(InputError, match=r"'人 名' \(like '人名'\)"):
        train(recipe(data=files, labels=["人名", "地点"]))
    assert not (tmp_path / "run").exists()


def test_a_corpus_without_entities_is_refused(recipe, tmp_path):
    path = tmp_path / "empty.jsonl"
    data.write([Document("天晴"), Document("有雨")], path, format="entities")
    with pytest.raises(InputError, match="nothing to learn from"):
        train(recipe(data={"train": str(path), "validation": 0}))
