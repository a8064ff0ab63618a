"""Adapters that continue from adapters, and those that cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import nertune
from nertune.errors import InputError, MissingFileError, RunError
from nertune.train.fit import train
from nertune.train.recipe import Recipe, load_recipe
from nertune.train.start import fill_in

ONE = {"max_steps": 1, "eval_steps": "never"}
STILL = {**ONE, "learning_rate": 1e-12}
TOKENS = ["[", "]"]


@pytest.fixture(scope="module")
def start(recipe_in, tmp_path_factory) -> Path:
    """A run with its own rank, targets, scale and tokens."""
    folder = tmp_path_factory.mktemp("start")
    lora = {"rank": 2, "alpha": 6, "targets": ["v_proj", "q_proj"], "rslora": True, "dora": True}
    return train(recipe_in(folder, lora=lora, tokens=TOKENS, training=ONE)).folder


def _open(recipe: Recipe, start: Path, **lora) -> Recipe:
    """The recipe, starting from an adapter and silent about everything else of it."""
    value = recipe.model_dump(by_alias=True) | {"lora": {"from": str(start), **lora}}
    del value["tokens"]
    return Recipe.model_validate(value)


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter_model.safetensors")


def test_training_starts_at_the_adapter_s_weights_and_takes_its_shape(recipe, start, tmp_path):
    run = train(_open(recipe(training=STILL), start)).folder
    found, expected = _weights(run), _weights(start)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-8)
    written = load_recipe(run / "recipe.yaml")
    assert written.lora.model_dump() == {
        "rank": 2,
        "alpha": 6,
        "dropout": 0.1,
        "targets": ("q_proj", "v_proj"),
        "rslora": True,
        "dora": True,
        "plus_ratio": None,
        "start": str(start),
    }
    assert written.tokens == tuple(TOKENS)
    assert yaml.safe_load((run / "recipe.yaml").read_text())["lora"]["from"] == str(start)
    # What is written out agrees with the adapter, so the run's own recipe trains again.
    assert fill_in(written) == written
    nertune.load(run).extract("方鹏去漠北")


def test_a_bare_peft_folder_and_a_checkpoint_are_starts_too(recipe, tmp_path):
    first = train(recipe("first", training={**ONE, "save_steps": 1, "keep_best": False})).folder
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(first / name, bare)
    for number, folder in enumerate((bare, first / "checkpoints" / "checkpoint-1")):
        run = train(_open(recipe(f"second{number}", training=STILL), folder, targets="all-linear", rank=4)).folder
        for name, weight in _weights(first).items():
            torch.testing.assert_close(_weights(run)[name], weight, rtol=0, atol=1e-8)


def test_every_disagreement_is_told_at_once(recipe, start, base_of):
    changes = {"rank": 3, "alpha": 6, "targets": ["k_proj"], "dora": False}
    value = _open(recipe(model=str(base_of("llama"))), start, **changes).model_dump(by_alias=True, exclude_unset=True)
    with pytest.raises(InputError) as caught:
        fill_in(Recipe.model_validate({**value, "tokens": ["<x>"]}))
    said = str(caught.value)
    assert said.count("\n") == 5
    assert "model: the recipe trains" in said
    assert "lora.rank: the recipe says 3, the adapter 2; leave the key out" in said
    assert "lora.targets: the recipe says ('k_proj',), the adapter ('q_proj', 'v_proj')" in said
    assert "lora.dora: the recipe says False, the adapter True" in said
    assert "tokens: the recipe adds ['<x>']" in said
    assert "alpha" not in said


def test_all_linear_is_compared_by_the_layers(recipe, start):
    with pytest.raises(RunError, match=r"other layers than lora\.targets and tokens ask for"):
        train(_open(recipe(training=ONE), start, targets="all-linear"))


def _copy(start: Path, folder: Path) -> Path:
    return Path(shutil.copytree(start, folder / "copy", ignore=shutil.ignore_patterns("checkpoints")))


def test_weights_of_another_model_are_refused_by_their_shapes(recipe, start, tmp_path):
    copy = _copy(start, tmp_path)
    weights = {name: torch.cat([weight, weight], int("lora_A" in name)) for name, weight in _weights(copy).items()}
    save_file(weights, copy / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="was made for another model"):
        train(_open(recipe(training=ONE), copy))


def test_pickles_and_damaged_folders_are_refused(recipe, start, tmp_path):
    with pytest.raises(MissingFileError, match=r"lora\.from: .*nowhere: no such folder"):
        fill_in(_open(recipe(), tmp_path / "nowhere"))
    copy = _copy(start, tmp_path)
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    with pytest.raises(RunError, match=r"only adapter_model\.bin, which is not loaded because it can run code"):
        fill_in(_open(recipe(), copy))
    (copy / "adapter_model.bin").rename(copy / "adapter_model.safetensors")
    (copy / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(RunError, match="cannot be read"):
        train(_open(recipe(training=ONE), copy))
    shutil.copy(start / "adapter_model.safetensors", copy)
    path = copy / "adapter_config.json"
    config = json.loads(path.read_text())
    for changes, problem in [
        ({"peft_type": "IA3"}, "only LoRA is loaded"),
        ({"target_modules": ".*_proj"}, "by a pattern"),
    ]:
        path.write_text(json.dumps({**config, **changes}))
        with pytest.raises(InputError, match=problem):
            fill_in(_open(recipe(), copy))
    for content in ("{", "[]", "{}", "3"):
        path.write_text(content)
        with pytest.raises(RunError, match="damaged"):
            fill_in(_open(recipe(), copy))


def test_without_a_start_a_recipe_stays_as_it_is(recipe):
    assert fill_in(recipe()) is not None
    assert fill_in(recipe()) == recipe()
