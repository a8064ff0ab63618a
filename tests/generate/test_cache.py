"""The sequence cache against dense attention over each sequence's whole past."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
import torch

from nertune.generate.cache import PrefixStates, SequenceCache

HEADS, KV_HEADS, SIZE, SCALE = 4, 2, 8, 0.3
# New tokens for each slot, step by step: prompts of different lengths, one of them long, a few at once, then one by one.
STEPS = [(3, 1, 21), (1, 2, 1), (1, 1, 1), (1, 19, 20)]


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


def _prefix(length: int) -> tuple[PrefixStates, Dense]:
    keys, values = _states(length)[0], _states(length)[0]
    states = PrefixStates([keys], [values], length) if length else PrefixStates([], [], 0)
    return states, Dense(list(keys.transpose(0, 1)), list(values.transpose(0, 1)))


def _cache(prefixes: list[int], **options: int) -> tuple[SequenceCache, list[Dense]]:
    """A cache with a sequence for each prefix length, and the same knowledge, dense; equal lengths share a prefix."""
    torch.manual_seed(0)
    known = {length: _prefix(length) for length in dict.fromkeys(prefixes)}
    cache = SequenceCache(torch.device("cpu"), **options)
    dense: list[Dense] = []
    for length in prefixes:
        _enter(cache, dense, *known[length])
    return cache, dense


def _enter(cache: SequenceCache, dense: list[Dense], states: PrefixStates, start: Dense) -> Dense:
    """One more sequence in both; those that move for it move in both."""
    new = Dense(list(start.keys), list(start.values))
    dense.append(new)
    moves = cache.enter(states)
    for source, target in moves:
        dense[target] = dense[source]
    if moves:
        dense[moves[-1].source] = new
    return new


def _leave(cache: SequenceCache, dense: list[Dense], slot: int) -> None:
    for source, target in cache.leave(slot):
        dense[target] = dense[source]
    dense.pop()


def _check_step(cache: SequenceCache, dense: list[Dense], counts, window: int | None, padding: int = 0) -> None:
    """Give both the same new tokens and compare what they compute and where they put them."""
    total = sum(counts) + padding
    query, key, value = _states(total, HEADS), _states(total), _states(total)
    positions = cache.plan(counts, padding=padding)
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
    assert positions.tolist() == [expected_positions + [0] * padding]
    assert found.shape == (total, HEADS, SIZE)
    assert found.isfinite().all()


@pytest.mark.parametrize("window", [None, 100, 4, 1])
@pytest.mark.parametrize("prefixes", [[0, 0, 0], [1, 1, 1], [6, 6, 6], [6, 0, 6], [3, 6, 6]])
def test_every_step_is_dense_attention(prefixes, window):
    cache, dense = _cache(prefixes)
    for number, counts in enumerate(STEPS):
        _check_step(cache, dense, counts, window, padding=number)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_slot_that_is_left_is_taken_by_others(gone):
    cache, dense = _cache([5, 2, 5])
    _check_step(cache, dense, STEPS[0], None)
    _leave(cache, dense, gone)
    assert len(cache) == len(dense) == 2
    _check_step(cache, dense, [2, 1], None)
    _check_step(cache, dense, [1, 1], 4)


def test_a_sequence_that_enters_later_begins_at_its_prefix():
    cache, dense = _cache([4, 4])
    _check_step(cache, dense, [2, 30], None)
    _leave(cache, dense, 1)
    _enter(cache, dense, *_prefix(3))
    _check_step(cache, dense, [1, 70], None)
    _check_step(cache, dense, [3, 1], 5)


@pytest.mark.parametrize("limit", [{}, {"most": 1}])
def test_slots_of_one_prefix_are_neighbours_whoever_comes_and_goes(limit):
    draw = random.Random(5)
    cache, dense = _cache([], **limit)
    known = [_prefix(length) for length in (3, 0, 4, 3)]
    of: dict[int, int] = {}
    for _ in range(60):
        if len(dense) < 2 or (len(dense) < 9 and draw.random() < 0.6):
            number = draw.randrange(len(known))
            of[id(_enter(cache, dense, *known[number]))] = number
        else:
            _leave(cache, dense, draw.randrange(len(dense)))
        numbers = [of[id(one)] for one in dense]
        assert len(list(itertools.groupby(numbers))) == len(set(numbers))
        _check_step(cache, dense, [draw.choice([1, 1, 2, 18]) for _ in dense], draw.choice([None, 5]))


def test_many_short_sequences_and_few_long_ones_at_different_times_take_what_they_need():
    cache, dense = _cache([], most=800)
    known = _prefix(2)
    for count, tokens, reserved in ((2, 200, 2 * 256), (12, 3, 12 * 64), (2, 300, 2 * 320)):
        while dense:
            _leave(cache, dense, 0)
        for _ in range(count):
            _enter(cache, dense, *known)
        _check_step(cache, dense, [tokens] * count, None)
        _check_step(cache, dense, [1] * count, None)
        assert cache.reserved == reserved


def test_forgotten_tokens_leave_no_trace():
    cache, dense = _cache([2, 2])
    _check_step(cache, dense, [3, 5], None)
    cache.forget(0, 2)
    cache.forget(1, 4)
    for one, length in zip(dense, (3, 3), strict=True):
        del one.keys[length:], one.values[length:]
    _check_step(cache, dense, [1, 2], None)
    _check_step(cache, dense, [4, 1], 3)


def test_layers_are_kept_apart():
    cache, _ = _cache([0])
    cache.plan([2])
    query, key = _states(2, HEADS), _states(2)
    first = cache.attend(query, key, _states(2), layer=0, scale=SCALE, window=None)
    value = _states(2)
    second = cache.attend(query, key, value, layer=1, scale=SCALE, window=None)
    assert not torch.allclose(first, second)
    cache.plan([1])
    one = cache.attend(query[:, :, :1], key[:, :, :1], value[:, :, :1], layer=1, scale=SCALE, window=1)
    torch.testing.assert_close(one[0, 0], value[0, :, 0].repeat_interleave(HEADS // KV_HEADS, dim=0))
