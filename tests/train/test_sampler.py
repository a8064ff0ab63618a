"""Micro-batches: of one task each, every row as often as its weight says, a function of seed and epoch alone."""

from __future__ import annotations

from collections import Counter

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st

from nertune.train.sampler import TaskBatches, batches_in_order


def _epoch(batches: TaskBatches, epoch: int) -> list[list[int]]:
    batches.set_epoch(epoch)
    return list(batches)


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=3)


@given(sizes=SIZES, batch_size=st.integers(1, 7), processes=st.integers(1, 4), bucket=st.booleans())
def test_every_row_comes_once_in_batches_of_one_task(sizes, batch_size, processes, bucket):
    lengths = [row % 5 for row in range(sum(sizes))] if bucket else None
    batches = TaskBatches(sizes, batch_size=batch_size, seed=1, lengths=lengths, processes=processes)
    task_of = [task for task, size in enumerate(sizes) for _ in range(size)]
    for found in (_epoch(batches, 2), batches_in_order(sizes, batch_size=batch_size, processes=processes)):
        assert sorted(row for batch in found for row in batch) == list(range(sum(sizes)))
        assert all(len({task_of[row] for row in batch}) == 1 for batch in found)
        assert all(1 <= len(batch) <= batch_size for batch in found)
        assert len(found) == len(batches)
        assert len(found) % processes == 0 or sum(sizes) < processes * (len(found) // processes + 1)


@given(sizes=SIZES, batch_size=st.integers(1, 7), processes=st.integers(1, 4))
def test_processes_take_turns_and_have_as_many_batches_each(sizes, batch_size, processes):
    batches = TaskBatches(sizes, batch_size=batch_size, seed=1, processes=processes)
    shards = [BatchSamplerShard(batches, processes, process, even_batches=True) for process in range(processes)]
    dealt = [list(shard) for shard in shards]
    assert {len(shard) for shard in dealt} == {len(shards[0])}
    if len(batches) % processes == 0:
        assert [batch for turn in zip(*dealt, strict=True) for batch in turn] == list(batches)


def test_orders_differ_between_epochs_and_seeds_and_come_again():
    def build(seed: int) -> TaskBatches:
        return TaskBatches([20, 11], batch_size=4, seed=seed)

    epochs = [_epoch(build(1), epoch) for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert [_epoch(build(1), epoch) for epoch in (2, 0)] == [epochs[2], epochs[0]]
    assert _epoch(build(2), 0) != epochs[0]
    tasks = ["".join("ab"[batch[0] >= 20] for batch in epoch) for epoch in epochs]
    assert all("ab" in order and "ba" in order for order in tasks)


@pytest.mark.parametrize(("weight", "counts"), [(0.5, {1}), (2, {4}), (1.5, {3}), (1, {2})])
def test_a_weight_is_how_often_a_row_comes_in_an_epoch(weight, counts):
    """Over two epochs half a time makes once; no row comes again before all have come."""
    batches = TaskBatches([10, 6], batch_size=4, seed=3, weights=[weight, 1])
    seen = Counter(row for epoch in (0, 1) for batch in _epoch(batches, epoch) for row in batch)
    assert {seen[row] for row in range(10)} == counts
    assert {seen[row] for row in range(10, 16)} == {2}
    assert batches.samples == 10 * weight + 6


def test_a_small_weight_still_shows_a_row():
    batches = TaskBatches([3, 3], batch_size=2, seed=3, weights=[0.01, 1])
    rows = [row for epoch in range(3) for batch in _epoch(batches, epoch) for row in batch if row < 3]
    assert sorted(rows) == [0, 1, 2]


def test_buckets_hold_rows_of_like_length_and_change_with_the_epoch():
    lengths = [(7 * row) % 101 for row in range(400)]

    def spread(batches: list[list[int]]) -> float:
        return sum(max(map(lengths.__getitem__, b)) - min(map(lengths.__getitem__, b)) for b in batches) / len(batches)

    plain = TaskBatches([400], batch_size=8, seed=1)
    bucketed = TaskBatches([400], batch_size=8, seed=1, lengths=lengths)
    assert spread(_epoch(bucketed, 0)) < spread(_epoch(plain, 0)) / 5
    first, second = ({frozenset(batch) for batch in _epoch(bucketed, epoch)} for epoch in (0, 1))
    assert len(first & second) < 5
    means = [sum(lengths[row] for row in batch) / len(batch) for batch in _epoch(bucketed, 0)]
    assert means != sorted(means)
