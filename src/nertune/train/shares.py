"""How several processes share the batches of an epoch: all of them, none twice.

Every process must take as many steps as the others. Where the batches do not go round, the usual cure is to repeat rows of
the beginning, which then count twice in the loss; here a process without a batch computes one in which nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from nertune.train.batches import untrained

__all__ = ["EvenBatches", "even_loader"]

Collate = Callable[[list[Any]], dict[str, Any]]
_IDLE = -1


class EvenBatches(BatchSampler):
    """A BatchSampler whose batches go round: after the last come as many idle ones, of row -1, as are wanted."""

    def __init__(self, sampler: Sampler[int], batch_size: int, processes: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self._processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()
        yield from ([_IDLE] for _ in range(len(self) - super().__len__()))

    def __len__(self) -> int:
        return -(-super().__len__() // self._processes) * self._processes


class _Rows(Dataset[Any]):
    """The rows, and None for row -1."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Any:
        return None if number == _IDLE else self._rows[number]


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

    def collate_or_idle(batch: list[Any]) -> dict[str, Any]:
        return untrained(collate([rows[0]])) if batch == [None] else collate(batch)

    return DataLoader(
        _Rows(rows),
        batch_sampler=EvenBatches(sampler or SequentialSampler(rows), batch_size, processes),
        collate_fn=collate_or_idle,
        pin_memory=pin_memory,
    )
