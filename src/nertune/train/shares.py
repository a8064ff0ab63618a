"""How several processes share the batches of an epoch: all of them, none twice.

Every process must take as many steps as the others. Where the batches do not go round, the usual cure is to repeat rows of
the beginning, which then count twice in the loss; here a process without a batch computes one in which nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from nertune.train.batches import untrained

__all__ = ["IDLE", "EvenBatches", "even_loader", "with_idle"]

Collate = Callable[[list[Any]], dict[str, Any]]
IDLE = -1
"""The row of a batch with nothing to train."""


class EvenBatches(BatchSampler):
    """A BatchSampler whose batches go round: after the last come as many idle ones, of row -1, as are wanted."""

    def __init__(self, sampler: Sampler[int], batch_size: int, processes: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self._processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()
        yield from ([IDLE] for _ in range(len(self) - super().__len__()))

    def __len__(self) -> int:
        return -(-super().__len__() // self._processes) * self._processes


class _Rows(Dataset[Any]):
    """The rows, and None for row -1."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        return None if number == IDLE else self.rows[number]


def even_loader(
    rows: Sequence[Any],
    *,
    sampler: Sampler[int] | None,
    batch_size: int,
    processes: int,
    collate: Collate,
    pin_memory: bool,
) -> DataLoader[Any]:
    """A loader for accelerate to deal out to the processes, with its `even_batches` off. No `sampler`: in order."""

    dataset, collate = with_idle(rows, collate)
    return DataLoader(
        dataset,
        batch_sampler=EvenBatches(sampler or SequentialSampler(rows), batch_size, processes),
        collate_fn=collate,
        pin_memory=pin_memory,
    )


def with_idle(rows: Sequence[Any], collate: Collate) -> tuple[Dataset[Any], Collate]:
    """A data set and its collate function that make of the batch `[IDLE]` one with nothing to train."""

    def collate_or_idle(batch: list[Any]) -> dict[str, Any]:
        return untrained(collate([rows[0]])) if batch == [None] else collate(batch)

    return _Rows(rows), collate_or_idle
