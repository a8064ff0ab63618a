"""Losses and gradients that would ruin the weights are found before the optimizer's step, and their samples named."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

__all__ = ["LossGuard", "MicroBatch", "listed"]

_REMEMBERED = 50  # steps
_FACTOR = 10
_ABOVE_GUESSING = 2.0  # nats a token
_SHOWN = 16  # documents


class MicroBatch(NamedTuple):
    """The loss of one micro-batch (its share of the step's, in nats a token) and its samples' places in the data set."""

    loss: float
    samples: Sequence[int]


class LossGuard:
    """Judges one loss (mean nats a trained token) after every step.

    A loss explodes when it is above 10 times the median of the last 50 steps *and* 2 nats above ln(vocabulary), which
    guessing all tokens alike would cost: hard samples, unusual first steps and losses near zero give no alarm.
    """

    def __init__(self, vocabulary: int) -> None:
        self._ceiling = math.log(vocabulary) + _ABOVE_GUESSING
        self._losses: deque[float] = deque(maxlen=_REMEMBERED)

    def problem(self, loss: float) -> str | None:
        """What is wrong with the loss of the next step, if anything; a loss that is right is remembered."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        usual = median(self._losses) if self._losses else math.inf
        if loss > _FACTOR * usual and loss > self._ceiling:
            return f"the loss explodes, {loss:.4g} after a median of {usual:.4g} nats a token,"
        self._losses.append(loss)
        return None


def listed(batches: Sequence[MicroBatch], names: Sequence[str]) -> str:
    """The samples of a step, one a line: those of micro-batches without a finite loss; else all, the highest loss first.

    `names`: what to call each sample of the data set. Empty where the batches do not tell their samples.
    """
    broken = [batch for batch in batches if not math.isfinite(batch.loss)]
    suspects = broken or sorted(batches, key=lambda batch: -batch.loss)
    samples = [sample for batch in suspects for sample in batch.samples if sample < len(names)]
    if not samples:
        return ""
    lines = [f"  {names[sample]}" for sample in samples[:_SHOWN]]
    if len(samples) > _SHOWN:
        lines.append(f"  and {len(samples) - _SHOWN} more")
    which = "without a finite loss" if broken else "highest loss first"
    return "\n".join([f"The samples of that step, {which}:", *lines])
