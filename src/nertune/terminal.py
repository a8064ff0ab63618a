"""What people see in a terminal: progress with an estimate, entities in colour, prompts with their loss mask.

Everything here goes to stderr, except what a command prints as its result.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from nertune.console import visible
from nertune.console.writer import SafeConsole
from nertune.schema import Entity

__all__ = [
    "Meter",
    "PipedConsole",
    "conversion_meter",
    "duration",
    "highlight",
    "in_colour",
    "line",
    "quiet_libraries",
    "silence",
    "stderr",
    "stdout",
    "token_strip",
]


class PipedConsole(SafeConsole):
    """A console whose reader may go away: that is told as a BrokenPipeError, where rich ends the process with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


stderr = SafeConsole(stderr=True)
stdout = PipedConsole()

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red", "bright_cyan", "bright_green", "bright_magenta")
_PLAIN_SECONDS = 20.0


class Meter:
    """Progress of one stage: a live bar on a terminal, a line every 20 seconds elsewhere. Use it as a context manager.

    `before`: units that were through when it began, which tell nothing of the time that the others take.
    """

    def __init__(self, what: str, total: int | None = None, *, before: int = 0) -> None:
        self._what = what
        self._total = total
        self._before = before
        self._started = self._told = time.monotonic()
        self._bar: Progress | None = None
        if stderr.is_terminal and not stderr.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[extra]}"),
                console=stderr,
            )
            self._task = self._bar.add_task(what, total=total, completed=before, extra="")

    def __enter__(self) -> Meter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif error is None and time.monotonic() - self._started > 2:
            line(f"{self._what}: done in {duration(time.monotonic() - self._started)}")

    def update(self, done: int, *, total: int | None = None, extra: str = "", what: str | None = None) -> None:
        """Say that `done` of `total` units are through; `extra` is shown at the end of the line."""
        self._total = total if total is not None else self._total
        if self._bar:
            description = what or self._what
            self._bar.update(self._task, completed=done, total=self._total, extra=extra, description=description)
            return
        now = time.monotonic()
        if now - self._told < _PLAIN_SECONDS:
            return
        self._told = now
        left = ""
        through = done - self._before
        # Those of a batch end at almost one time: the first alone would make hours of minutes.
        if self._total and through >= max(1, min(10, 0.05 * (self._total - self._before))):
            each = (now - self._started) / through
            left = f", about {duration(each * (self._total - done))} left"
        line(f"{what or self._what}: {done}/{self._total or '?'}{left}  {extra}".rstrip())


def highlight(text: str, entities: Sequence[Entity], labels: Sequence[str]) -> Text:
    """The text with each entity in brackets and in its label's colour: `[叶老桂 name]博士…`; nested ones nest."""
    styles = {label: _COLOURS[place % len(_COLOURS)] for place, label in enumerate(labels)}
    out = Text()
    open_entities: list[Entity] = []
    waiting = list(reversed(entities))
    for position in range(len(text) + 1):
        while open_entities and open_entities[-1].end <= position:
            label = open_entities.pop().label
            out.append(f" {label}]", style=f"dim {styles.get(label, 'white')}")
        while waiting and waiting[-1].start == position:
            open_entities.append(waiting.pop())
            out.append("[", style=f"dim {styles.get(open_entities[-1].label, 'white')}")
        if position < len(text):
            style = f"bold {styles.get(open_entities[-1].label, 'white')}" if open_entities else ""
            out.append(visible(text[position], layout=True), style=style)  # rich itself drops some controls
    return out


def token_strip(tokens: Sequence[str], trained: Sequence[bool], *, colour: bool) -> Text:
    """Write tokens one after another, boundaries shown by alternating brightness.

    Trained tokens are green in colour, and stand between ⟦ and ⟧ without it.
    """
    out = Text()
    before = False
    for place, (token, now) in enumerate(zip(tokens, trained, strict=True)):
        if now:
            style = "black on green" if place % 2 else "black on bright_green"
        else:
            style = "bright_black" if place % 2 else "white"
        if not colour and now != before:
            out.append("⟦" if now else "⟧")
        out.append(visible(token, layout=True), style=style)
        before = now
    return out.append("⟧") if before and not colour else out


def in_colour(console: Console) -> bool:
    """Whether a console shows colours: a terminal that is not told otherwise (NO_COLOR)."""
    return console.color_system is not None and not console.no_color


def silence() -> None:
    """Print nothing from here on: for all but the first of several processes."""
    stderr.quiet = stdout.quiet = True


def quiet_libraries() -> None:
    """Keep model libraries from talking over our own output."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is first imported
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is
    warnings.filterwarnings("ignore")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("peft", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)


def conversion_meter(meter: Meter) -> Any:
    """A report function for `ensure_builtin` that drives a meter."""

    def report(what: str, done: int, total: int) -> None:
        meter.update(done, total=total, what=f"preparing the built-in model, once: {what}")

    return report


def line(text: str) -> None:
    """One line on stderr, as it is."""
    stderr.print(text, soft_wrap=True)


def duration(seconds: float) -> str:
    """`80 s`, `12 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
