"""Which rows make a micro-batch where a run has several tasks, or batches rows of like length.

A micro-batch holds rows of one task, so that the prefix which it computes once is that task's whole prompt; the batches of
all tasks are shuffled together. The rows are those of all tasks, one task after another.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

__all__ = ["TaskBatches", "batches_in_order"]

_WINDOW = 32  # micro-batches whose rows are sorted by length together


class TaskBatches(Sampler[list[int]]):
    """The micro-batches of an epoch, as lists of row numbers; a function of the seed and the epoch alone.

    `sizes`: rows of each task. `weights`: how often a row comes in an epoch, task by task: the rows of an epoch are taken
    from shuffled passes over the task, one after another, so every row comes once before one comes again. `lengths`
    (tokens of every row) makes batches of rows of like length. `processes`: the number of batches is made a multiple of it.
    """

    # No attribute batch_size: accelerate then takes batches of any size as they are, and deals them out in turn.

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        weights: Sequence[float] | None = None,
        lengths: Sequence[int] | None = None,
        processes: int = 1,
    ) -> None:
        self._sizes = tuple(sizes)
        self._rows = batch_size
        self._seed = seed
        self._lengths = lengths
        self._processes = processes
        self._epoch = 0
        self._draws = tuple(
            max(1, round(weight * size)) for weight, size in zip(weights or [1.0] * len(sizes), sizes, strict=True)
        )

    @property
    def samples(self) -> int:
        """Rows of one epoch."""
        return sum(self._draws)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) that the next iteration gives."""
        self._epoch = epoch

    def __len__(self) -> int:
        batches = sum(-(-draws // self._rows) for draws in self._draws)
        even = batches + -batches % self._processes
        return even if even <= self.samples else batches

    def __iter__(self) -> Iterator[list[int]]:
        batches: list[list[int]] = []
        first = 0
        for task, size in enumerate(self._sizes):
            order = [first + row for row in self._drawn(task)]
            if self._lengths is not None:
                order = _by_length(order, self._lengths, _WINDOW * self._rows)
            batches += _cut(order, self._rows)
            first += size
        random.Random(f"{self._seed} batches {self._epoch}").shuffle(batches)
        yield from _even(batches, self._processes)

    def _drawn(self, task: int) -> list[int]:
        """The task's rows of this epoch, counted within the task."""
        size, draws = self._sizes[task], self._draws[task]
        first_pass, start = divmod(self._epoch * draws, size)
        order: list[int] = []
        for number in range(first_pass, first_pass - (-(start + draws) // size)):
            shuffled = list(range(size))
            random.Random(f"{self._seed} task {task} {number}").shuffle(shuffled)
            order += shuffled
        return order[start : start + draws]


def _by_length(order: list[int], lengths: Sequence[int], window: int) -> list[int]:
    """The order with every stretch of `window` rows sorted by length."""
    stretches = [order[start : start + window] for start in range(0, len(order), window)]
    return [row for stretch in stretches for row in sorted(stretch, key=lengths.__getitem__)]


def batches_in_order(sizes: Sequence[int], *, batch_size: int, processes: int = 1) -> list[list[int]]:
    """All rows once, in order, in batches of one task each; as many batches as a multiple of `processes`."""
    batches: list[list[int]] = []
    first = 0
    for size in sizes:
        batches += _cut(list(range(first, first + size)), batch_size)
        first += size
    return _even(batches, processes)


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _even(batches: list[list[int]], processes: int) -> list[list[int]]:
    """Batches from the end split in two until every process has as many; without it, rows would be repeated.

    Where there are fewer rows than processes need, the batches stay as they are.
    """
    missing = -len(batches) % processes
    if missing > sum(len(batch) - 1 for batch in batches):
        return batches
    whole = list(batches)
    while missing:
        place = max(place for place, batch in enumerate(whole) if len(batch) > 1)
        half = len(whole[place]) // 2
        whole[place : place + 1] = [whole[place][:half], whole[place][half:]]
        missing -= 1
    return whole
