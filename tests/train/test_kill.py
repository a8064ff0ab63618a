"""kill -9 at any moment: the run that goes on ends in the very bits of one that nothing interrupted."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nertune.train.recipe import Recipe

# Three steps an epoch, the last of half the size; a checkpoint and a log fall on different steps in the midst of epochs.
CHANGES = {
    "lora": {"dropout": 0.1},
    "training": {"epochs": 5, "batch_size": 2, "accumulation": 2, "eval_steps": 4, "log_steps": 3},
}
STEPS = 15
STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


@pytest.fixture(scope="module")
def trained() -> Iterator[Callable[..., int]]:
    """A function that trains a recipe in a process of its own, killed as asked, and gives its exit status."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("killed.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def run(recipe: Recipe, *, resume: bool = False, kill: dict | None = None) -> int:
            path = Path(recipe.output).with_suffix(".yaml")
            path.write_text(recipe.to_yaml(), encoding="utf-8")
            server.stdin.write(json.dumps({"recipe": str(path), "resume": resume, "kill": kill}) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield run
        server.stdin.close()


@pytest.fixture(scope="module")
def whole(recipe_in, tmp_path_factory, trained) -> Path:
    """A run that nothing interrupted."""
    recipe = recipe_in(tmp_path_factory.mktemp("whole"), **CHANGES)
    assert trained(recipe) == 0
    return Path(recipe.output)


def _equal(found: object, expected: object) -> bool:
    if isinstance(expected, torch.Tensor):
        return torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_equal(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_equal, found, expected))
    return bool((found == expected).all()) if hasattr(expected, "all") else found == expected


def _assert_same_bits(run: Path, whole: Path) -> None:
    """Adapter, optimizer, scheduler, random states, and every logged number."""
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert _equal(*(load_file(folder / "adapter_model.safetensors") for folder in (run, whole)))
    for name in STATES:
        paths = [folder / "checkpoints" / f"checkpoint-{STEPS}" / name for folder in (run, whole)]
        assert _equal(*(torch.load(path, weights_only=False) for path in paths)), name
    # A kill between the last checkpoint's move and the deletion of an old one leaves one more.
    kept, expected = ({path.name for path in (folder / "checkpoints").iterdir()} for folder in (run, whole))
    assert expected <= kept
    assert all(name.startswith("checkpoint-") for name in kept)


def _go_on_until_done(trained, recipe: Recipe, kills: Iterator[dict | None]) -> int:
    """Kill and go on, as often as `kills` has kills; the number of those that met the training alive."""
    died = 0
    while True:
        kill = next(kills, None)
        status = trained(recipe, resume=any((Path(recipe.output) / "checkpoints").glob("checkpoint-*")), kill=kill)
        if status == 0:
            return died
        assert status == -signal.SIGKILL
        died += 1


def _taken(orders: list[dict], given: list[dict]) -> Iterator[dict]:
    """The orders one after the other, moved from one list to the other when they are given."""
    while orders:
        given.append(orders.pop())
        yield given[-1]


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bits(recipe, trained, whole):
    """Killed in an epoch's midst, with half a file of a checkpoint written, and between the files of a deletion."""
    run = recipe(**CHANGES)
    assert _go_on_until_done(trained, run, iter([{"step": 7}, {"call": 3}, {"call": 39}])) == 3
    _assert_same_bits(Path(run.output), whole)


@pytest.mark.soak
def test_fifty_random_kills_ten_of_them_inside_a_save(recipe, trained, whole):
    draw = random.Random(20)
    orders = [{"call": draw.randrange(1, 60)} for _ in range(10)]
    orders += [{"step": draw.randrange(0, STEPS + 1)} for _ in range(15)]
    orders += [{"seconds": draw.uniform(0, 1.5)} for _ in range(25)]
    draw.shuffle(orders)
    inside = died = runs = 0
    while inside < 10 or died < 50:
        # A kill that came too late, the run being done, is asked for again in another run.
        run = recipe(f"run-{runs}", **CHANGES)
        given: list[dict] = []
        found = _go_on_until_done(trained, run, _taken(orders, given))
        died += found
        inside += sum("call" in order for order in given[:found])
        orders += given[found:]
        _assert_same_bits(Path(run.output), whole)
        runs += 1
    print(f"{died} kills, {inside} inside a save, {runs} runs")
