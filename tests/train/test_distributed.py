"""Two processes that train together make the weights of one process with batches of both."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nertune import data
from nertune.train.fit import train
from nertune.train.recipe import Recipe

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch knows no processes")

SCRIPT = textwrap.dedent("""
    import sys
    from nertune.train.fit import train
    from nertune.train.recipe import load_recipe
    train(load_recipe(sys.argv[1]), resume="--resume" in sys.argv)
""")
SETTINGS = {"max_steps": 2, "eval_steps": 1, "learning_rate": 0.05}


def _train_on_two(recipe: Recipe, folder: Path, *options: str) -> Path:
    """Run torchrun on this machine, gloo over loopback, and give the run's folder."""
    (folder / "script.py").write_text(SCRIPT)
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(folder / "script.py"), str(folder / "recipe.yaml"), *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(recipe.output)


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _assert_close(found: Path, expected: Path) -> None:
    wanted, got = (load_file(run / "adapter_model.safetensors") for run in (expected, found))
    assert got.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert float((got[name] - weight).norm()) <= 1e-5 * float(weight.norm()), name


def _forget_the_last_step(run: Path) -> None:
    """Leave what a kill during the last checkpoint leaves."""
    for name in ("nertune.json", "adapter_model.safetensors", "checkpoints/checkpoint-2/trainer_state.json"):
        (run / name).unlink()


@pytest.fixture
def recipe_of(recipe, corpus, tmp_path) -> Callable[[str, int], Recipe]:
    """A function from a run's name and a batch size to a recipe of two steps."""
    held_out = tmp_path / "held-out.jsonl"
    data.write(data.read(corpus).documents[-4:], held_out, format="entities")
    # Of 12 documents every step takes 4; the last of a ragged epoch would repeat some so that both processes have work.
    changes = {"data": {"limit": 12, "validation": str(held_out)}, "lora": {"dropout": 0.0}}
    return lambda name, size: recipe(name, **changes, training={**SETTINGS, "batch_size": size})


def test_two_processes_of_batch_2_are_one_of_batch_4(recipe_of, tmp_path):
    alone = train(recipe_of("alone", 4)).folder
    two = _train_on_two(recipe_of("two", 2), tmp_path)
    assert len(_metrics(two)) == len(_metrics(alone)) == 4
    for found, expected in zip(_metrics(two), _metrics(alone), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    _assert_close(two, alone)


@pytest.mark.slow
def test_two_processes_go_on_from_the_middle_of_an_epoch(recipe_of, tmp_path):
    whole = train(recipe_of("whole", 4)).folder
    cut = train(recipe_of("cut", 4)).folder
    _forget_the_last_step(cut)
    _assert_close(_train_on_two(recipe_of("cut", 2), tmp_path, "--resume"), whole)


@pytest.fixture
def tasks_of(two_tasks, drugs) -> Callable[[str, int], Recipe]:
    """A function from a run's name and an accumulation to a recipe of two tasks and two epochs of 5 steps.

    There are 9 micro-batches and 3 of evaluation, so two processes must split one of each.
    """
    settings = {"epochs": 2, "eval_steps": 2, "learning_rate": 0.05, "batch_size": 2}
    held_out = {"data": {"train": str(drugs), "validation": 2, "limit": 9}}
    return lambda name, accumulation: two_tasks(
        name, drugs_task=held_out, lora={"dropout": 0.0}, training={**settings, "accumulation": accumulation}
    )


def _assert_close_logs(found: Path, expected: Path) -> None:
    for got, wanted in zip(_metrics(found), _metrics(expected), strict=True):
        # Where an epoch has an odd number of batches, its share that is done is told otherwise.
        assert {**got, "epoch": 0} == pytest.approx({**wanted, "epoch": 0}, rel=1e-4)


@pytest.mark.slow
def test_two_processes_share_the_micro_batches_of_several_tasks(tasks_of, tmp_path):
    alone = train(tasks_of("alone", 2)).folder
    two = _train_on_two(tasks_of("two", 1), tmp_path)
    assert [line["step"] for line in _metrics(two) if "eval_loss/drugs" in line] == [2, 4, 6, 8, 10]
    _assert_close_logs(two, alone)
    _assert_close(two, alone)


@pytest.mark.slow
def test_two_processes_go_on_from_the_middle_of_a_later_epoch_of_several_tasks(tasks_of, tmp_path):
    whole = train(tasks_of("whole", 2)).folder
    cut = train(tasks_of("cut", 2)).folder
    for name in ("nertune.json", "adapter_model.safetensors", "checkpoints/checkpoint-10/trainer_state.json"):
        (cut / name).unlink()
    resumed = _train_on_two(tasks_of("cut", 1), tmp_path, "--resume")
    _assert_close_logs(resumed, whole)
    _assert_close(resumed, whole)
