"""The sequence cache against dense attention over each sequence's whole past."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from nertune.generate.cache import PrefixStates, SequenceCache

HEADS, KV_HEADS, SIZE, SCALE = 4, 2, 8, 0.3
# New tokens for each slot, step by step: prompts of different lengths, a few at once, then one by one.
STEPS = [(3, 1, 5), (1, 2, 1), (1, 1, 1), (1, 1, 1)]


@dataclass
class Dense:
    """Every query, key and value that one sequence has seen, and attention computed from their definition."""

    keys: list = field(default_factory=list)
    values: list = field(default_factory=list)

    def attend(self, query_TD, position: int, head: int, window: int | None):
        key, value = (torch.stack(states)[:, head // (HEADS // KV_HEADS)] for states in (self.keys, self.values))
        scores = query_TD @ key.T * SCALE
        for row in range(len(query_TD)):
            place = position + row
            visible = range(0 if window is None else max(0, place - window + 1), place + 1)
            scores[row, [column for column in range(len(key)) if column not in visible]] = float("-inf")
        return scores.softmax(-1) @ value


def _states(count: int, heads: int = KV_HEADS) -> torch.Tensor:
    return torch.randn(1, heads, count, SIZE)


def _cache(prefix: int, slots: int, capacity: int) -> tuple[SequenceCache, list[Dense]]:
    """A cache and the same knowledge, dense, one for each slot."""
    torch.manual_seed(0)
    keys, values = _states(prefix)[0], _states(prefix)[0]
    states = PrefixStates([keys], [values], prefix) if prefix else PrefixStates([], [], 0)
    dense = [Dense(list(keys.transpose(0, 1)), list(values.transpose(0, 1))) for _ in range(slots)]
    return SequenceCache(states, slots, capacity, device=torch.device("cpu")), dense


def _check_step(cache: SequenceCache, dense: list[Dense], counts, window: int | None) -> None:
    """Give both the same new tokens and compare what they compute and where they put them."""
    total = sum(counts)
    query, key, value = _states(total, HEADS), _states(total), _states(total)
    positions = cache.plan(counts)
    found = cache.attend(query, key, value, layer=0, scale=SCALE, window=window)[0]
    start, expected_positions = 0, []
    for one, count in zip(dense, counts, strict=True):
        position = len(one.keys)
        expected_positions += range(position, position + count)
        part = slice(start, start + count)
        one.keys += list(key[0, :, part].transpose(0, 1))
        one.values += list(value[0, :, part].transpose(0, 1))
        for head in range(HEADS):
            expected = one.attend(query[0, head, part], position, head, window)
            torch.testing.assert_close(found[part, head], expected, rtol=1e-5, atol=1e-6)
        start += count
    assert positions.tolist() == [expected_positions]


@pytest.mark.parametrize("window", [None, 100, 4, 1])
@pytest.mark.parametrize("prefix", [0, 1, 6])
def test_every_step_is_dense_attention(prefix, window):
    cache, dense = _cache(prefix, 3, capacity=12)
    for counts in STEPS:
        _check_step(cache, dense, counts, window)


@pytest.mark.parametrize("kept", [[0, 2], [2, 0], [1], [1, 0, 2]])
def test_dropped_and_reordered_slots_keep_their_past(kept):
    cache, dense = _cache(5, 3, capacity=12)
    _check_step(cache, dense, STEPS[0], None)
    cache.keep_slots(torch.tensor(kept))
    remaining = [dense[slot] for slot in kept]
    _check_step(cache, remaining, [1] * len(kept), None)
    _check_step(cache, remaining, [2, 1, 1][: len(kept)], 4)


def test_the_whole_capacity_can_be_used():
    cache, dense = _cache(2, 2, capacity=4)
    for counts in ((3, 1), (1, 3)):
        _check_step(cache, dense, counts, None)
    assert cache.lengths_B.tolist() == [4, 4]


def test_layers_are_kept_apart():
    cache, _ = _cache(0, 1, capacity=3)
    cache.plan([2])
    query, key = _states(2, HEADS), _states(2)
    first = cache.attend(query, key, _states(2), layer=0, scale=SCALE, window=None)
    value = _states(2)
    second = cache.attend(query, key, value, layer=1, scale=SCALE, window=None)
    assert not torch.allclose(first, second)
    cache.plan([1])
    one = cache.attend(query[:, :, :1], key[:, :, :1], value[:, :, :1], layer=1, scale=SCALE, window=1)
    torch.testing.assert_close(one[0, 0], value[0, :, 0].repeat_interleave(HEADS // KV_HEADS, dim=0))
