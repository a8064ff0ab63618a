"""Keys and values of the sequences being generated, and attention over them.

Sequences enter and leave between any two steps. Each belongs to a *prefix*, the tokens that its prompt shares with
others, whose states are stored once for all of them; what is its own lies in a *slot*. Slots in use are always the first
ones, and those of one prefix are neighbours, so that a step works on views and attends to each prefix once: where a
sequence enters or leaves, one of each prefix behind it moves to another slot.

The counterpart of the training layout: one packed row of new tokens, any number per sequence, so that reading a prompt,
a decoding step and the check of a draft are the same call. Shape legend as in models/attention.py; B slots in use, L
places kept per slot.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Move", "PrefixStates", "SequenceCache"]

# Sequences with more new tokens than this in a step are reading their prompts: they are attended apart from the others,
# whose few tokens would otherwise be padded to the length of a prompt.
_FEW = 16
_GROWTH = 64  # places


class Move(NamedTuple):
    """A sequence goes from one slot to another, whose own has gone before."""

    source: int
    target: int


class PrefixStates(NamedTuple):
    """Per layer, the keys and values of a shared prefix, each (K, P, D); empty lists for no prefix."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int


class _Block(NamedTuple):
    """Neighbouring slots [low, high) with one prefix, attended together; `rows` is their part of the packed row.

    `place_F`: for each of (high - low) x longest places, padding included, the row's token that stands there. `real_Q`:
    which of these are no padding. `column_BT`: where in its slot each token is stored; padding lies beyond every real one.
    `slot_Q`, `column_Q`, `place_Q`: of the real ones, their slot, their place in it, and their place in the row.
    """

    low: int
    high: int
    longest: int
    kept: int
    prefix: PrefixStates
    rows: slice
    place_F: Tensor
    real_Q: Tensor
    column_BT: Tensor
    slot_Q: Tensor
    column_Q: Tensor
    place_Q: Tensor


class SequenceCache:
    """The attention context of generation: call `plan` with the new tokens' counts, then the model.

    `most`: places that may be reserved, in all slots together, beyond what those in use need. What is stored are tensors of
    inference mode, so whatever moves them is in that mode, whoever calls it.
    """

    def __init__(self, device: torch.device, *, most: int = sys.maxsize) -> None:
        self._device = device
        self._most = most
        self._lengths: list[int] = []
        self._prefixes: list[PrefixStates] = []
        self._slots = self._capacity = 0
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._blocks: list[_Block] = []
        self._hidden: dict[tuple[int, int | None], Tensor] = {}

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def reserved(self) -> int:
        """Places for which memory is taken, in all slots together."""
        return self._slots * self._capacity

    @torch.inference_mode()
    def enter(self, prefix: PrefixStates) -> list[Move]:
        """A new sequence, behind those of its prefix: in the last slot, or where the last of the moves came from."""
        slot = len(self._lengths)
        known = any(other is prefix for other in self._prefixes)
        self._lengths.append(0)
        self._prefixes.append(prefix)
        moves = []
        while known and self._prefixes[slot - 1] is not prefix:
            first = self._first(slot - 1)
            self._move(first, slot)
            moves.append(Move(first, slot))
            slot = first
        self._lengths[slot], self._prefixes[slot] = 0, prefix
        return moves

    @torch.inference_mode()
    def leave(self, slot: int) -> list[Move]:
        """Drop a sequence; the last one of its prefix takes its slot, the last one of the next prefix that one's, ..."""
        moves = []
        last = self._last(slot)
        while slot < len(self._lengths) - 1:
            if slot != last:
                self._move(last, slot)
                moves.append(Move(last, slot))
                slot = last
            last = self._last(min(slot + 1, len(self._lengths) - 1))
        self._lengths.pop()
        self._prefixes.pop()
        return moves

    @torch.inference_mode()
    def wipe(self, slot: int) -> None:
        """Remove what a slot holds for good: a NaN there would spoil the next sequence, for a weight of 0 does not undo it."""
        for states in (*self._keys.values(), *self._values.values()):
            states[slot].zero_()

    def _first(self, slot: int) -> int:
        """The first slot of the prefix that a slot has."""
        while slot > 0 and self._prefixes[slot - 1] is self._prefixes[slot]:
            slot -= 1
        return slot

    def _last(self, slot: int) -> int:
        while slot + 1 < len(self._prefixes) and self._prefixes[slot + 1] is self._prefixes[slot]:
            slot += 1
        return slot

    def _move(self, source: int, target: int) -> None:
        kept = self._lengths[source]
        if kept:
            self._reserve(kept)
            for states in (*self._keys.values(), *self._values.values()):
                states[target, :, :kept] = states[source, :, :kept]
        self._lengths[target], self._prefixes[target] = kept, self._prefixes[source]

    def forget(self, slot: int, tokens: int) -> None:
        """Take back the last tokens of a slot, as if they had not been planned."""
        self._lengths[slot] -= tokens

    @torch.inference_mode()
    def plan(self, counts: Sequence[int], *, padding: int = 0) -> Tensor:
        """Lay out a packed row of `counts[b]` new tokens for each slot, and `padding` that nobody looks at.

        Returns its position ids (1, S).
        """
        self._reserve(max(length + count for length, count in zip(self._lengths, counts, strict=True)))
        self._blocks, self._hidden = [], {}
        positions: list[int] = []
        low = start = 0
        while low < len(counts):
            high = low + 1
            while high < len(counts) and self._alike(counts, low, high):
                high += 1
            self._blocks.append(self._block(low, high, counts[low:high], start))
            for slot in range(low, high):
                first = self._prefixes[slot].length + self._lengths[slot]
                positions += range(first, first + counts[slot])
            start += sum(counts[low:high])
            low = high
        for slot, count in enumerate(counts):
            self._lengths[slot] += count
        self._padding = padding
        return torch.tensor([positions + [0] * padding], device=self._device)

    @torch.inference_mode()
    def attend(
        self, query_1HSD: Tensor, key_1KSD: Tensor, value_1KSD: Tensor, *, layer: int, scale: float, window: int | None
    ) -> Tensor:
        """Store the new keys and values, then attend to the prefix and to each slot's own past: (1, S, H, D)."""
        outputs = [
            self._attend_block(number, query_1HSD, key_1KSD, value_1KSD, layer, scale, window)
            for number in range(len(self._blocks))
        ]
        if self._padding:
            outputs.append(query_1HSD.new_zeros(query_1HSD.shape[1], self._padding, value_1KSD.shape[3]))
        return torch.cat(outputs, dim=1).transpose(0, 1)[None].to(query_1HSD.dtype)

    def _alike(self, counts: Sequence[int], low: int, slot: int) -> bool:
        same_size = (counts[low] > _FEW) == (counts[slot] > _FEW)
        return same_size and self._prefixes[low] is self._prefixes[slot]

    def _block(self, low: int, high: int, counts: Sequence[int], start: int) -> _Block:
        longest = max(counts)
        counts_B, lengths_B = torch.tensor(counts), torch.tensor(self._lengths[low:high])
        offset_T = torch.arange(longest)
        starts_B = start + counts_B.cumsum(0) - counts_B
        # Padding places repeat the sequence's last token: finite values that no real token looks at.
        place_F = (starts_B[:, None] + torch.minimum(offset_T, counts_B[:, None] - 1)).flatten()
        real_Q = (offset_T < counts_B[:, None]).flatten().nonzero().squeeze(1)
        column_BT = lengths_B[:, None] + offset_T
        return _Block(
            low,
            high,
            longest,
            kept=int((lengths_B + counts_B).max()),
            prefix=self._prefixes[low],
            rows=slice(start, start + sum(counts)),
            place_F=place_F.to(self._device),
            real_Q=real_Q.to(self._device),
            column_BT=column_BT.to(self._device),
            slot_Q=torch.arange(low, high).repeat_interleave(counts_B).to(self._device),
            column_Q=column_BT.flatten()[real_Q].to(self._device),
            place_Q=place_F[real_Q].to(self._device),
        )

    def _reserve(self, places: int) -> None:
        """Make room for so many places in each slot in use, keeping what is stored.

        What was reserved before stays, as long as that is not too much: many slots from a time of short sequences, and
        long ones from a time of few.
        """
        slots, needed = len(self._lengths), max(places, *self._lengths)
        if slots <= self._slots and places <= self._capacity:
            return
        capacity = -(-needed // _GROWTH) * _GROWTH
        self._slots, self._capacity = max(self._slots, slots), max(self._capacity, capacity)
        if self.reserved > self._most:
            self._slots, self._capacity = slots, capacity
        for states in (self._keys, self._values):
            for layer, old in states.items():
                new = old.new_zeros(self._slots, old.shape[1], self._capacity, old.shape[3])
                new[: old.shape[0], :, : old.shape[2]] = old[: self._slots, :, : self._capacity]
                states[layer] = new

    def _attend_block(
        self,
        number: int,
        query_1HSD: Tensor,
        key_1KSD: Tensor,
        value_1KSD: Tensor,
        layer: int,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """One block's output, (H, Q, D).

        The prefix is one set of keys for all, so it is attended without padding; what each slot holds of its own, apart.
        Both are joined as in Rabe and Staats 2021, arXiv 2112.05682, by their largest scores and sums of exponentials.
        """
        block = self._blocks[number]
        kv_heads, size = key_1KSD.shape[1], key_1KSD.shape[3]
        heads, slots, longest = query_1HSD.shape[1], block.high - block.low, block.longest
        group = heads // kv_heads
        keys_BKLD = self._store(self._keys, layer, block, key_1KSD)
        values_BKLD = self._store(self._values, layer, block, value_1KSD)
        query = query_1HSD[0].index_select(1, block.place_F).view(kv_heads, group, slots, longest, size)
        query = query.permute(2, 0, 1, 3, 4).reshape(slots, kv_heads, group * longest, size)
        hidden = self._hidden_places(number, window)
        own = _partial(query, keys_BKLD, values_BKLD, scale, hidden.repeat(1, 1, group, 1))
        own = _Partial(*(part.view(slots, heads, longest, -1).transpose(0, 1).flatten(1, 2) for part in own))
        own = _Partial(*(part.index_select(1, block.real_Q) for part in own))
        if not block.prefix.length:
            return own.sum / own.weight
        prefix_query = query_1HSD[0, :, block.rows].reshape(kv_heads, -1, size)
        keys, values = block.prefix.keys[layer], block.prefix.values[layer]
        hidden_prefix = self._hidden_prefix(number, window)
        if hidden_prefix is not None:
            hidden_prefix = hidden_prefix.repeat(group, 1)
        shared = _partial(prefix_query, keys, values, scale, hidden_prefix)
        return _join(own, _Partial(*(part.view(heads, len(block.real_Q), -1) for part in shared)))

    def _store(self, states: dict[int, Tensor], layer: int, block: _Block, new_1KSD: Tensor) -> Tensor:
        """Write a block's new states at their places; returns what is kept so far, (B, K, L, D)."""
        if layer not in states:
            kv_heads, size = new_1KSD.shape[1], new_1KSD.shape[3]
            shape = (self._slots, kv_heads, self._capacity, size)
            states[layer] = torch.zeros(shape, dtype=new_1KSD.dtype, device=new_1KSD.device)
        own = new_1KSD[0].index_select(1, block.place_Q).transpose(0, 1)
        states[layer][block.slot_Q, :, block.column_Q] = own
        return states[layer][block.low : block.high, :, : block.kept]

    def _hidden_places(self, number: int, window: int | None) -> Tensor:
        """(B, 1, T, L): True where a query must not look into its own slot."""
        if (number, window) not in self._hidden:
            block = self._blocks[number]
            distance = block.column_BT[:, :, None] - torch.arange(block.kept, device=self._device)
            hidden = distance < 0
            if window is not None:
                hidden |= distance >= window
            self._hidden[number, window] = hidden[:, None]
        return self._hidden[number, window]

    def _hidden_prefix(self, number: int, window: int | None) -> Tensor | None:
        """(Q, P): True where a query must not look into the prefix; None where it may look everywhere."""
        block = self._blocks[number]
        if window is None or block.prefix.length + block.kept <= window:
            return None
        positions_Q = block.prefix.length + block.column_BT.flatten()[block.real_Q]
        return positions_Q[:, None] - torch.arange(block.prefix.length, device=self._device) >= window


class _Partial(NamedTuple):
    """Attention over some of the keys: the largest score, the sum of exp(score - largest), and that of their values."""

    largest: Tensor
    weight: Tensor
    sum: Tensor


def _partial(query_NRD: Tensor, keys_NLD: Tensor, values_NLD: Tensor, scale: float, hidden: Tensor | None) -> _Partial:
    """Leading dimensions may be several. Where all is hidden, the weight is 0."""
    scores = (query_NRD @ keys_NLD.transpose(-2, -1)).float().mul_(scale)
    if hidden is not None:
        scores = scores.masked_fill_(hidden, float("-inf"))
    largest = scores.amax(dim=-1, keepdim=True).clamp_min_(torch.finfo(torch.float32).min)
    weights = scores.sub_(largest).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    return _Partial(largest, total, (weights.to(values_NLD.dtype) @ values_NLD).float())


def _join(one: _Partial, other: _Partial) -> Tensor:
    largest = torch.maximum(one.largest, other.largest)
    first, second = (one.largest - largest).exp_(), (other.largest - largest).exp_()
    weight = one.weight * first + other.weight * second
    return (one.sum * first + other.sum * second).div_(weight)
