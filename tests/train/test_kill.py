"""kill -9 at any moment: the run that goes on ends in the very bits of one that nothing interrupted."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nertune.train.checkpoints import damage
from nertune.train.recipe import Recipe

# Three steps an epoch, the last of half the size; a checkpoint and a log fall on different steps in the midst of epochs.
CHANGES = {
    "lora": {"dropout": 0.1},
    "training": {"epochs": 5, "batch_size": 2, "accumulation": 2, "eval_steps": 4, "log_steps": 3},
}
STEPS = 15
STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


@pytest.fixture(scope="module")
def trained() -> Iterator[Callable[..., list[int]]]:
    """A function that trains a recipe in processes of its own, killed as asked, and gives their exit statuses."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("killed.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def run(recipe: Recipe, *, resume: bool = False, kill: dict | None = None, processes: int = 1) -> list[int]:
            path = Path(recipe.output).with_suffix(".yaml")
            path.write_text(recipe.to_yaml(), encoding="utf-8")
            order = {"recipe": str(path), "resume": resume, "kill": kill, "processes": processes}
            server.stdin.write(json.dumps({**order, "log": str(path.with_suffix(".log"))}) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield run
        server.stdin.close()


@pytest.fixture(scope="module")
def whole(recipe_in, tmp_path_factory, trained) -> Path:
    """A run that nothing interrupted."""
    recipe = recipe_in(tmp_path_factory.mktemp("whole"), **CHANGES)
    assert trained(recipe) == [0]
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
    last = f"checkpoints/checkpoint-{STEPS}"
    names = [path.name for pattern in STATES for path in (whole / last).glob(pattern)]
    assert len(names) >= 3
    for name in names:
        assert _equal(*(torch.load(folder / last / name, weights_only=False) for folder in (run, whole))), name
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
        if status == [0]:
            return died
        assert status == [-signal.SIGKILL]
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


# Of 10 samples an epoch each of two processes gets 5: three micro-batches, two steps.
TWO = {"lora": {"dropout": 0.1}, "training": {**CHANGES["training"], "epochs": 100, "max_steps": STEPS}}


@pytest.fixture(scope="module")
def whole_of_two(recipe_in, tmp_path_factory, trained) -> Path:
    """A run of two processes that nothing interrupted."""
    recipe = recipe_in(tmp_path_factory.mktemp("two"), **TWO)
    assert trained(recipe, processes=2) == [0, 0]
    return Path(recipe.output)


@pytest.mark.slow
def test_two_processes_go_on_from_kills_in_the_same_bits(recipe, trained, whole_of_two):
    """Killed in an epoch's midst and then in a save; the other process notices, or is killed too."""
    run = recipe(**TWO)
    assert trained(run, processes=2, kill={"step": 6})[0] == -signal.SIGKILL
    assert trained(run, processes=2, resume=True, kill={"call": 5})[0] == -signal.SIGKILL
    assert trained(run, processes=2, resume=True) == [0, 0]
    _assert_same_bits(Path(run.output), whole_of_two)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(recipe, trained, whole_of_two):
    run = recipe(**TWO)
    kill = {"batch": 4, "rank": 1, "signal": signal.SIGTERM}
    assert trained(run, processes=2, kill=kill) == [143, 143]
    (saved,) = (Path(run.output) / "checkpoints").iterdir()
    assert {path.name for path in saved.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert damage(saved) is None
    assert trained(run, processes=2, resume=True) == [0, 0]
    _assert_same_bits(Path(run.output), whole_of_two)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_of_two_processes_is_named_in_both(recipe, trained):
    run = recipe(**TWO)
    assert trained(run, processes=2, kill={"batch": 4, "rank": 1}) == [1, 1]
    said = Path(run.output).with_suffix(".log").read_text(encoding="utf-8")
    messages = re.findall(r"TrainingError: (the loss is nan at step 3: .*?)\nThere is no checkpoint", said, re.DOTALL)
    assert len(messages) == 2
    assert messages[0] == messages[1]
    assert len(re.findall(r"document \d+: '", messages[0])) == 2


# F1 is read, the best checkpoint by it is kept, patience counts, and the loss draws from the vocabulary.
BY_COMMAND = {
    "lora": CHANGES["lora"],
    "training": {**CHANGES["training"], "best_by": "f1", "patience": 9, "loss_vocabulary": "sampled"},
}


@pytest.fixture(scope="module")
def whole_by_command(recipe_in, tmp_path_factory) -> Path:
    """What `nertune train` leaves where nothing interrupts it."""
    recipe = recipe_in(tmp_path_factory.mktemp("command"), **BY_COMMAND)
    path = Path(recipe.output).with_suffix(".yaml")
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "nertune", "train", str(path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return Path(recipe.output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.soak)]
)
def test_the_command_stops_at_a_signal_saves_and_goes_on_to_the_same_weights(
    recipe_in, tmp_path, whole_by_command, number, code
):
    recipe = recipe_in(tmp_path, **BY_COMMAND)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "nertune", "train", str(path)]
    metrics = Path(recipe.output) / "metrics.jsonl"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        while not metrics.exists() or not metrics.read_text(encoding="utf-8"):
            assert training.poll() is None, training.stderr.read()
            time.sleep(0.01)
        training.send_signal(number)
        _, said = training.communicate(timeout=120)
    assert training.returncode == code, said
    assert "--resume" in said
    assert not (Path(recipe.output) / "adapter_model.safetensors").exists()
    ended = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = load_file(Path(recipe.output) / "adapter_model.safetensors")
    expected = load_file(whole_by_command / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert metrics.read_text(encoding="utf-8") == (whole_by_command / "metrics.jsonl").read_text(encoding="utf-8")
