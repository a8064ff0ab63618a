"""Signals: the step is finished, a checkpoint saved, and the run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nertune.errors import TrainingInterrupted
from nertune.train.checkpoints import damage
from nertune.train.fit import train
from nertune.train.stopping import StopSignals

HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _signalling(number: int, step: int, times: int = 1):
    """A report function that sends this process a signal after a step."""

    def report(progress) -> None:
        if progress.step == step:
            for _ in range(times):
                os.kill(os.getpid(), number)

    return report


def _assert_same_run(found: Path, expected: Path) -> None:
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    wanted, got = (load_file(run / "adapter_model.safetensors") for run in (expected, found))
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("number", "step", "rhythm"),
    [
        (signal.SIGINT, 6, {"eval_steps": 4, "log_steps": 4}),
        (signal.SIGTERM, 10, {"eval_steps": "epoch", "log_steps": 3}),
        (signal.SIGTERM, 7, {"eval_steps": "epoch", "log_steps": 2, "max_steps": 7}),
        (signal.SIGTERM, 3, {"eval_steps": "never", "save_steps": "never"}),
    ],
    ids=["middle", "end of an epoch", "last step, in an epoch's middle", "no checkpoints wanted"],
)
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(recipe, tmp_path, number, step, rhythm):
    whole = train(recipe("whole", training=rhythm)).folder
    with pytest.raises(
        TrainingInterrupted, match=rf"stopped after step {step} of .*checkpoint-{step}\. .*--resume"
    ) as stop:
        train(recipe(training=rhythm), report=_signalling(number, step))
    assert stop.value.exit_code == 128 + number
    assert damage(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}") is None
    assert not (tmp_path / "run" / "nertune.json").exists()
    assert {key: signal.getsignal(key) for key in HANDLERS} == HANDLERS
    _assert_same_run(train(recipe(training=rhythm), resume=True).folder, whole)


def test_a_second_ctrl_c_leaves_at_once(recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt) as stop:
        train(recipe(), report=_signalling(signal.SIGINT, 3, times=2))
    assert not isinstance(stop.value, TrainingInterrupted)
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    assert {key: signal.getsignal(key) for key in HANDLERS} == HANDLERS


def test_a_signal_during_an_evaluation_does_not_wait_for_another_step(recipe, tmp_path, monkeypatch):
    from nertune.train.trainer import NerTrainer

    loop = NerTrainer.evaluation_loop

    def signalled(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return loop(self, *args, **kwargs)

    monkeypatch.setattr(NerTrainer, "evaluation_loop", signalled)
    with pytest.raises(TrainingInterrupted, match="after step 4 of 15"):
        train(recipe(training={"save_steps": 8}))
    state = json.loads((tmp_path / "run/checkpoints/checkpoint-4/trainer_state.json").read_text())
    assert state["log_history"][-1]["step"] == 4
    assert "eval_loss" in state["log_history"][-1]


def test_outside_the_main_thread_no_handler_is_installed():
    def enter() -> None:
        with StopSignals():
            seen.append({key: signal.getsignal(key) for key in HANDLERS})

    seen: list[dict] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [HANDLERS]
