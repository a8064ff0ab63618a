"""Feeding trackers from a training. A tracker that fails is dropped with one line; the training goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nertune.train.track.settings import TrackerSettings
from nertune.train.track.trackers import Outcome, SampleRow, Tracker, hushed, make_tracker

__all__ = ["Tracking", "TrackingCallback", "is_measure", "named_values"]

_NAMES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "eval_loss": "eval/loss",
    "eval_precision": "eval/precision",
    "eval_recall": "eval/recall",
}


def is_measure(key: str) -> bool:
    """Whether a key of the trainer's log is an entity F1 (`eval_f1`, `eval_f1/人名` or `f1/人名`) or a task's own loss."""
    return key.startswith(("eval_f1", "f1/", "eval_loss/"))


def named_values(logs: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a log under the trackers' names: `eval_f1/人名` becomes `eval/f1/人名`, and losses alike."""
    values = {}
    for key, value in logs.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if number and key in _NAMES:
            values[_NAMES[key]] = float(value)
        elif number and is_measure(key):
            values["eval/" + key.removeprefix("eval_")] = float(value)
    return values


class Tracking:
    """The trackers of one training, as a context: leaving it finishes them, as failed when an error passes through."""

    def __init__(self, trackers: Mapping[str, Tracker], note: Callable[[str], None]) -> None:
        self._trackers = dict(trackers)
        self._note = note

    @classmethod
    def start(
        cls,
        settings: Sequence[TrackerSettings],
        *,
        run: Path,
        config: Mapping[str, Any],
        note: Callable[[str], None],
        trackers: Mapping[str, Tracker] | None = None,
    ) -> Self:
        """Start the recipe's trackers, and `trackers` of the caller's own, each in its folder (default RUN/track/NAME)."""
        made = {item.tracker: make_tracker(item, run.name) for item in settings}
        folders = {item.tracker: Path(item.folder) for item in settings if item.folder}
        tracking = cls({**made, **(trackers or {})}, note)
        for name in list(tracking._trackers):
            folder = folders.get(name, run / "track" / name)
            tracking._try(name, partial(_start, config=config, folder=folder))
        return tracking

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Hand numbers to every tracker that still works."""
        self._each(lambda tracker: tracker.log(values, step))

    def samples(self, rows: Sequence[SampleRow], step: int) -> None:
        """Hand sample predictions to every tracker that still works."""
        self._each(lambda tracker: tracker.samples(rows, step))

    def page(self, html: str, step: int) -> None:
        """Hand the report page to every tracker that still works."""
        self._each(lambda tracker: tracker.page(html, step))

    def finish(self, outcome: Outcome) -> None:
        """Finish every tracker; later calls do nothing."""
        self._each(lambda tracker: tracker.finish(outcome))
        self._trackers = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish("finished")
        else:
            self.finish("failed" if issubclass(kind, Exception) else "interrupted")

    def _each(self, act: Callable[[Tracker], Any]) -> None:
        for name in list(self._trackers):
            self._try(name, act)

    def _try(self, name: str, act: Callable[[Tracker], Any]) -> None:
        try:
            with hushed():
                act(self._trackers[name])
        except Exception as error:
            # One of several logs is no reason to lose hours of training.
            del self._trackers[name]
            self._note(
                f"{name} stops tracking, training goes on: {type(error).__name__}: {' '.join(str(error).split())}"
            )


def _start(tracker: Tracker, *, config: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tracker.start(config, folder)


class TrackingCallback(TrainerCallback):
    """Hands what the trainer logs to the trackers; they run in the first process alone."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        values = named_values(logs or {})
        if values and state.is_world_process_zero:
            self._tracking.log(values, state.global_step)
