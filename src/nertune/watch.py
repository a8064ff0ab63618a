"""The live view of a training: how far, how well, how fast, how long still, and how much memory."""

from __future__ import annotations

import itertools
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from nertune.terminal import duration, line, stderr

if TYPE_CHECKING:
    from nertune.train.callbacks import Progress as TrainingProgress

__all__ = ["TrainingView"]

_BARS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 32
_PLAIN_SECONDS = 20.0


class TrainingView:
    """Two live lines on a terminal; elsewhere a line every 20 seconds and one at every evaluation. A context manager."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._best: tuple[float, int] | None = None
        self._now: TrainingProgress | None = None
        self._told = time.monotonic()
        self._told_evaluation: tuple[float | None, float | None] = (None, None)
        self._live: Live | None = None
        if stderr.is_terminal and not stderr.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=stderr,
            )
            self._task = self._bar.add_task("training", total=1, left="", visible=False)
            self._live = Live(self._bar, console=stderr, refresh_per_second=4, transient=False)

    def __enter__(self) -> TrainingView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def preparing(self, what: str, done: int, total: int) -> None:
        """Progress of the built-in model's conversion, which comes once before the first training."""
        if self._live:
            self._bar.update(self._task, description=what, completed=done, total=total, visible=True)
        elif time.monotonic() - self._told >= _PLAIN_SECONDS:
            self._told = time.monotonic()
            line(f"preparing the built-in model, once: {what} {done}/{total}")

    def reading(self, ended: int, total: int) -> None:
        """Progress of the answers by which F1 is measured."""
        if self._live:
            self._bar.update(self._task, description="training" if ended == total else f"measuring F1 {ended}/{total}")

    def update(self, now: TrainingProgress) -> None:
        """Where training stands."""
        before, self._now = self._now, now
        if now.loss is not None and (before is None or before.loss != now.loss):
            self._losses.append(now.loss)
        if now.eval_f1 is not None and (self._best is None or now.eval_f1 > self._best[0]):
            self._best = now.eval_f1, now.step
        if self._live:
            self._bar.update(
                self._task,
                description="training",
                completed=now.step,
                total=now.steps,
                left=self._left(now),
                visible=True,
            )
            self._live.update(Group(self._bar, Text(self._figures(now), style="cyan", no_wrap=True)))
            return
        evaluated = (now.eval_loss, now.eval_f1)
        news = evaluated != self._told_evaluation and evaluated != (None, None)
        if news or time.monotonic() - self._told >= _PLAIN_SECONDS:
            self._told, self._told_evaluation = time.monotonic(), evaluated
            line("  ".join([f"training: {now.step}/{now.steps}", self._figures(now, spark=False), self._left(now)]))

    def _left(self, now: TrainingProgress) -> str:
        if not now.samples_per_second or now.step == 0:
            return ""
        return f"{duration((now.steps - now.step) * now.seconds_per_step)} left"

    def _figures(self, now: TrainingProgress, *, spark: bool = True) -> str:
        parts = []
        if now.loss is not None:
            parts.append(f"loss {now.loss:.4f}" + (f" {_sparkline(self._losses)}" if spark else ""))
        if now.eval_loss is not None:
            parts.append(f"eval loss {now.eval_loss:.4f}")
        if now.eval_f1 is not None and self._best:
            best, step = self._best
            parts.append(f"F1 {now.eval_f1:.4f}" + (f" (best {best:.4f} at {step})" if best > now.eval_f1 else ""))
        if now.samples_per_second:
            parts.append(f"{now.samples_per_second:.2f} samples/s")
        parts.append(f"{now.memory_gb:.1f} GB")
        return "  ".join(parts)


def _sparkline(values: list[float]) -> str:
    """The course of the values, squeezed into a few characters: averages of equal stretches between least and most."""
    count = min(len(values), _SPARK_WIDTH)
    edges = [place * len(values) // count for place in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    if not means:
        return ""
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[int((mean - low) * scale)] for mean in means)
