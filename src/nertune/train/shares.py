"""How several processes share the batches of an epoch: all of them, none twice.

Every process must take as many steps as the others. Where the batches do not go round, the usual cure is to repeat rows of
the beginning, which then count twice in the loss; here a process without a batch gets a row with nothing to train in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from nertune.prompt import Row
from nertune.train.batches import nothing_to_train

__all__ = ["EvenBatches", "even_loader"]

_FILLER = -1


class EvenBatches(BatchSampler):
    """A BatchSampler whose batches go round: after the last come as many with nothing to train as are wanted."""

    def __init__(self, sampler: Sampler[int], batch_size: int, processes: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self._processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()
        yield from ([_FILLER] for _ in range(len(self) - super().__len__()))

    def __len__(self) -> int:
        return -(-super().__len__() // self._processes) * self._processes


class _RowsAndFiller(Dataset[Row]):
    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._filler = nothing_to_train(min(rows, key=lambda row: row.prompt_length))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._filler if index == _FILLER else self._rows[index]


def even_loader(
    rows: Sequence[Row],
    *,
    sampler: Sampler[int] | None,
    batch_size: int,
    processes: int,
    collate: Callable[[list[Row]], dict[str, Any]],
    pin_memory: bool,
) -> DataLoader[Row]:
    """A loader for accelerate to deal out to the processes, with its `even_batches` off. No `sampler`: in order."""
    return DataLoader(
        _RowsAndFiller(rows),
        batch_sampler=EvenBatches(sampler or SequentialSampler(rows), batch_size, processes),
        collate_fn=collate,
        pin_memory=pin_memory,
    )
