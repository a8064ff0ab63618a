"""What follows a training step by step: the metrics file, and whoever wants to hear how it goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nertune.atomic import write_text
from nertune.files import parse_json
from nertune.train.track.tracking import is_measure

__all__ = ["MetricsFile", "Progress", "ProgressCallback"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands: optimizer `step` of `steps`, and the last logged values (None before the first).

    `samples_per_second` counts the time of optimizer steps alone; `memory_gb` is this process's resident memory, or what
    torch has allocated on the accelerator.
    """

    step: int
    steps: int
    loss: float | None
    eval_loss: float | None
    eval_f1: float | None
    samples_per_second: float
    seconds_per_step: float
    memory_gb: float


class MetricsFile(TrainerCallback):
    """Writes one JSON line per log to `metrics.jsonl`: step, epoch, and losses, learning_rate, grad_norm or F1.

    On resume, lines past the checkpoint's step are dropped first, so every step stands there once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        kept = []
        if state.global_step and self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and parse_json(line)["step"] <= state.global_step]
        write_text(self._path, "".join(kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        wanted = ("loss", "eval_loss", "learning_rate", "grad_norm", "eval_precision", "eval_recall")
        values = {key: logs[key] for key in wanted if logs and key in logs}
        values |= {key: value for key, value in (logs or {}).items() if is_measure(key)}
        if values and state.is_world_process_zero:
            line = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4), **values}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())


class ProgressCallback(TrainerCallback):
    """Tells a function how training goes, after every optimizer step."""

    def __init__(self, report: Callable[[Progress], None], samples_per_step: int) -> None:
        self._report = report
        self._samples_per_step = samples_per_step
        self._step_began: float | None = None
        self._steps_done = 0
        self._seconds = 0.0
        self._last: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._step_began is not None:
            self._seconds += time.monotonic() - self._step_began
            self._steps_done += 1
        self._tell(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self._last |= {key: value for key, value in (logs or {}).items() if key in ("loss", "eval_loss", "eval_f1")}
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            a_step = self._seconds / self._steps_done if self._steps_done else 0.0
            rate = self._samples_per_step / a_step if a_step else 0.0
            loss, eval_loss, f1 = (self._last.get(key) for key in ("loss", "eval_loss", "eval_f1"))
            self._report(Progress(state.global_step, state.max_steps, loss, eval_loss, f1, rate, a_step, _memory_gb()))


def _memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return float(psutil.Process().memory_info().rss) / 1e9
