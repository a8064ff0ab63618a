"""Two processes that train together, gloo over loopback, make the losses and weights of one process with batches of both."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nertune import data
from nertune.train.fit import train
from nertune.train.recipe import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch knows no processes"),
]

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# Every recipe is trained by both processes, one after another: starting Python twice takes longest. RANK in an output
# folder's name gives each process a folder of its own, which shows what each writes.
# Finds what is annotated in every second sentence: F1 is the same only if the processes' shares are put together in order.
READER = """
from nertune.assemble import f1_reader
from nertune.schema import Prediction
from nertune.train.measure import Reader

def predict(model, renderer, documents):
    return [Prediction(d.text, d.entities if len(d.text) % 2 else ()) for d in documents]

reader = Reader(predict, f1_reader().score)
"""
SCRIPT = textwrap.dedent("""
    import os, sys
    from nertune.train import ranks
    from nertune.train.fit import train
    from nertune.train.recipe import load_recipe

    READER
    for path in sys.argv[1:]:
        recipe = load_recipe(path.removeprefix("resume:"))
        recipe = recipe.model_copy(update={"output": recipe.output.replace("RANK", os.environ["RANK"])})
        train(recipe, resume=path.startswith("resume:"), reader=reader)

    for count in (0, 1, 2, 7):
        items = [f"item {number}" for number in range(count)]
        mine = ranks.share(items)
        assert mine == items[int(os.environ["RANK"]) :: 2]
        assert ranks.gather([(item, ranks.rank()) for item in mine]) == [(item, n % 2) for n, item in enumerate(items)]
    try:
        ranks.gather(["one too many"] * 2 * ranks.rank())
    except ValueError as error:
        assert "cannot come from shares" in str(error)
    else:
        raise AssertionError("unequal shares were put together")
    assert (ranks.world_size(), ranks.is_first()) == (2, os.environ["RANK"] == "0")
""").replace("READER", READER)
SHORT = {"max_steps": 2, "eval_steps": 1, "learning_rate": 0.05}
# Of 9 rows the last of an epoch leaves one process without work, of 11 with half of it; so does evaluation on 5.
SHAPES = {
    "even": {"rows": 12, "held_out": 4, "batch": 2, "training": SHORT},
    "ragged": {"rows": 11, "held_out": 5, "batch": 2, "training": {**SHORT, "max_steps": 6, "eval_steps": 3}},
    "idle": {"rows": 9, "held_out": 5, "batch": 2, "training": {**SHORT, "max_steps": 6, "eval_steps": 3}},
    "accumulated": {"rows": 9, "held_out": 3, "batch": 1, "training": {**SHORT, "max_steps": 5, "accumulation": 2}},
    "more-processes-than-rows": {"rows": 1, "held_out": 1, "batch": 3, "training": SHORT},
    "padded": {"rows": 9, "held_out": 5, "batch": 2, "training": {**SHORT, "max_steps": 3}, "model": "gpt-neox"},
}


def _reader() -> Any:
    names: dict[str, Any] = {}
    exec(READER, names)
    return names["reader"]


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _train_on_two_each(paths: list[str], folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    command = [*TORCHRUN, str(folder / "script.py"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def _assert_close(found: Path, expected: Path) -> None:
    wanted, got = (load_file(run / "adapter_model.safetensors") for run in (expected, found))
    assert got.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert float((got[name] - weight).norm()) <= 1e-4 * float(weight.norm()), name


def _forget_the_last_step(run: Path) -> None:
    """Leave what a kill during the last checkpoint leaves."""
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in (run / "nertune.json", run / "adapter_model.safetensors", last / "trainer_state.json"):
        path.unlink()


@pytest.fixture(scope="module")
def recipe_of(recipe_in, base_of, corpus, tmp_path_factory) -> Callable[..., Recipe]:
    """A function from a shape's name, an output and the number of processes that share a batch to a recipe."""
    folder = tmp_path_factory.mktemp("recipes")
    documents = data.read(corpus).documents

    def build(shape: str, output: str, processes: int, **training: object) -> Recipe:
        settings = SHAPES[shape]
        held_out = folder / f"held-out-{shape}.jsonl"
        data.write(documents[-settings["held_out"] :], held_out, format="entities")
        model = {"model": str(base_of(settings["model"]))} if "model" in settings else {}
        return recipe_in(
            folder,
            output,
            data={"limit": settings["rows"], "validation": str(held_out)},
            lora={"dropout": 0.0},
            training={
                "best_by": "loss",
                **settings["training"],
                "batch_size": settings["batch"] * 2 // processes,
                **training,
            },
            **model,
        )

    return build


@pytest.fixture(scope="module")
def tasks_of(two_tasks_in, drugs, tmp_path_factory) -> Callable[[str, int], Recipe]:
    """A function from a run's name and an accumulation to a recipe of two tasks and two epochs of 5 steps.

    There are 9 micro-batches and 3 of evaluation, so two processes must split one of each.
    """
    folder = tmp_path_factory.mktemp("tasks")
    settings = {"epochs": 2, "eval_steps": 2, "learning_rate": 0.05, "batch_size": 2, "best_by": "loss"}
    held_out = {"data": {"train": str(drugs), "validation": 2, "limit": 9}}
    return lambda name, accumulation: two_tasks_in(
        folder, name, held_out, lora={"dropout": 0.0}, training={**settings, "accumulation": accumulation}
    )


@pytest.fixture(scope="module")
def runs(recipe_of, tasks_of, tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Of every shape, and of several tasks, the run of one process and that of two; the cut ones were resumed by two."""
    folder = tmp_path_factory.mktemp("two")
    made: dict[str, tuple[Path, Path]] = {}
    arguments = []
    for shape in SHAPES:
        two = recipe_of(shape, f"{shape}-two", 2)
        made[shape] = (train(recipe_of(shape, f"{shape}-alone", 1), reader=_reader()).folder, Path(two.output))
        arguments.append(two)
    cut = train(recipe_of("idle", "cut", 1, eval_steps=2), reader=_reader()).folder
    made["cut"] = (train(recipe_of("idle", "cut-alone", 1, eval_steps=2), reader=_reader()).folder, cut)
    resumed = [recipe_of("idle", "cut", 2, eval_steps=2), tasks_of("tasks-cut", 1)]
    tasks, alone = tasks_of("tasks-two", 1), train(tasks_of("tasks-alone", 2), reader=_reader()).folder
    made["tasks"] = (alone, Path(tasks.output))
    made["tasks-cut"] = (alone, train(tasks_of("tasks-cut", 2), reader=_reader()).folder)
    for name in ("cut", "tasks-cut"):
        _forget_the_last_step(made[name][1])
    apart = recipe_of("ragged", "apart-RANK", 2, keep_best=False)
    made["apart"] = (Path(apart.output.replace("RANK", "0")), Path(apart.output.replace("RANK", "1")))
    paths = []
    for number, recipe in enumerate([*arguments, tasks, *resumed, apart]):
        path = folder / f"{number}.yaml"
        path.write_text(recipe.to_yaml(), encoding="utf-8")
        paths.append(f"resume:{path}" if recipe in resumed else str(path))
    _train_on_two_each(paths, folder)
    return made


@pytest.mark.parametrize("shape", [*SHAPES, "cut"])
def test_two_processes_make_the_losses_and_the_weights_of_one(shape, runs):
    alone, two = runs[shape]
    assert len(_metrics(two)) == len(_metrics(alone)) >= 4
    for found, expected in zip(_metrics(two), _metrics(alone), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
        assert ("eval_f1" in found) == ("eval_loss" in found)
    _assert_close(two, alone)


def test_the_second_process_writes_nothing_but_its_random_state(runs):
    first, second = runs["apart"]
    written = {str(path.relative_to(second)) for path in second.rglob("*") if path.is_file()}
    # In a folder of its own it waits in vain for the first process to seal and move what both wrote.
    assert written == {f"checkpoints/.writing/checkpoint-{step}/rng_state_1.pth" for step in (3, 6)}
    assert {path.name for path in (first / "checkpoints").iterdir()} == {"checkpoint-3", "checkpoint-6"}
    assert {"nertune.json", "recipe.yaml", "metrics.jsonl", "adapter_model.safetensors", "report.html"} <= {
        path.name for path in first.iterdir()
    }
    steps = [(line["step"], "eval_loss" in line) for line in _metrics(first)]
    assert len(steps) == len(set(steps))


def _assert_close_logs(found: Path, expected: Path) -> None:
    for got, wanted in zip(_metrics(found), _metrics(expected), strict=True):
        # Where an epoch has an odd number of batches, its share that is done is told otherwise.
        assert {**got, "epoch": 0} == pytest.approx({**wanted, "epoch": 0}, rel=1e-4)


def test_two_processes_share_the_micro_batches_of_several_tasks(runs):
    alone, two = runs["tasks"]
    assert [line["step"] for line in _metrics(two) if "eval_loss/drugs" in line] == [2, 4, 6, 8, 10]
    _assert_close_logs(two, alone)
    _assert_close(two, alone)


def test_two_processes_go_on_from_the_middle_of_a_later_epoch_of_several_tasks(runs):
    whole, resumed = runs["tasks-cut"]
    _assert_close_logs(resumed, whole)
    _assert_close(resumed, whole)
