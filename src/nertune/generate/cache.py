"""Keys and values of a batch of sequences that share a prefix: the prefix stored once, the rest per sequence.

The counterpart of the training layout: one packed row of new tokens, any number per sequence, so a prompt's own part and
a single decoding step are the same call. Shape legend as in models/attention.py; B slots, L places kept per slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PrefixStates", "SequenceCache"]


class PrefixStates(NamedTuple):
    """Per layer, the keys and values of the shared prefix, each (K, P, D); empty lists for no prefix."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int


class SequenceCache:
    """The attention context of generation: call `plan` with the new tokens' counts, then the model."""

    def __init__(self, prefix: PrefixStates, slots: int, capacity: int, *, device: torch.device) -> None:
        self.prefix = prefix
        self.lengths_B = torch.zeros(slots, dtype=torch.long, device=device)
        self._capacity = capacity
        self._device = device
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._hidden: dict[int | None, Tensor] = {}

    def plan(self, counts: Sequence[int]) -> Tensor:
        """Lay out a packed row of `counts[b]` new tokens for each slot; returns its position ids (1, S)."""
        counts_B = torch.tensor(list(counts), device=self._device)
        self._longest = max(counts)
        offset_T = torch.arange(self._longest, device=self._device)
        real_BT = offset_T < counts_B[:, None]
        starts_B = counts_B.cumsum(0) - counts_B
        self._place_BT = starts_B[:, None] + torch.minimum(offset_T, counts_B[:, None] - 1)
        self._real_Q = real_BT.flatten().nonzero().squeeze(1)
        # Padding places write beyond every real token of their slot, where the mask hides them until overwritten.
        self._column_BT = self.lengths_B[:, None] + offset_T
        self._kept = int((self.lengths_B + counts_B).max())
        self.lengths_B = self.lengths_B + counts_B
        self._hidden = {}
        return (self.prefix.length + self._column_BT)[real_BT][None]

    def keep_slots(self, slots_R: Tensor) -> None:
        """Drop every slot but these."""
        self.lengths_B = self.lengths_B[slots_R]
        for states in (self._keys, self._values):
            for layer in states:
                states[layer] = states[layer][slots_R]

    def attend(
        self, query_1HSD: Tensor, key_1KSD: Tensor, value_1KSD: Tensor, *, layer: int, scale: float, window: int | None
    ) -> Tensor:
        """Store the new keys and values, then attend to the prefix and to each slot's own past: (1, S, H, D)."""
        kv_heads, size = key_1KSD.shape[1], key_1KSD.shape[3]
        heads, slots, longest = query_1HSD.shape[1], len(self.lengths_B), self._longest
        group = heads // kv_heads
        keys_BKLD, values_BKLD = self._store(layer, key_1KSD, value_1KSD)
        query = query_1HSD[0].index_select(1, self._place_BT.flatten()).view(kv_heads, group, slots, longest, size)

        own_query = query.permute(2, 0, 1, 3, 4).reshape(slots, kv_heads, group * longest, size)
        scores = own_query @ keys_BKLD.transpose(2, 3)
        if self.prefix.length:
            # The prefix is one set of keys for all slots: one product, nothing expanded.
            flat = query.reshape(kv_heads, group * slots * longest, size)
            prefix_scores = (flat @ self.prefix.keys[layer].transpose(1, 2)).view(kv_heads, group, slots, longest, -1)
            prefix_scores = prefix_scores.permute(2, 0, 1, 3, 4).reshape(slots, kv_heads, group * longest, -1)
            scores = torch.cat([prefix_scores, scores], dim=3)
        hidden = self._hidden_places(window).repeat(1, 1, group, 1)
        weights = scores.mul_(scale).masked_fill_(hidden, float("-inf")).softmax(dim=3, dtype=torch.float32)
        weights = weights.to(values_BKLD.dtype)
        length = self.prefix.length
        out = weights[..., length:] @ values_BKLD
        if length:
            flat = weights[..., :length].view(slots, kv_heads, group, longest, length).permute(1, 2, 0, 3, 4)
            prefix_out = flat.reshape(kv_heads, group * slots * longest, length) @ self.prefix.values[layer]
            prefix_out = prefix_out.view(kv_heads, group, slots, longest, size).permute(2, 0, 1, 3, 4)
            out = out + prefix_out.reshape(slots, kv_heads, group * longest, size)
        out = out.view(slots, heads, longest, size).transpose(0, 1).reshape(heads, slots * longest, size)
        return out.index_select(1, self._real_Q).transpose(0, 1)[None]

    def _store(self, layer: int, key_1KSD: Tensor, value_1KSD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new states at their places; returns what is kept so far, (B, K, L, D) each."""
        kv_heads, size = key_1KSD.shape[1], key_1KSD.shape[3]
        shape = (len(self.lengths_B), kv_heads, self._capacity, size)
        slot_Q, column_Q = self._real_slots()
        for states, new in ((self._keys, key_1KSD), (self._values, value_1KSD)):
            if layer not in states:
                states[layer] = torch.zeros(shape, dtype=new.dtype, device=new.device)
            states[layer][slot_Q, :, column_Q] = new[0].transpose(0, 1)
        return self._keys[layer][:, :, : self._kept], self._values[layer][:, :, : self._kept]

    def _real_slots(self) -> tuple[Tensor, Tensor]:
        slots = torch.arange(len(self.lengths_B), device=self._device)[:, None].expand_as(self._column_BT)
        return slots.flatten()[self._real_Q], self._column_BT.flatten()[self._real_Q]

    def _hidden_places(self, window: int | None) -> Tensor:
        """(B, 1, T, P + L): True where a query must not look."""
        if window not in self._hidden:
            positions_BT = self._column_BT + self.prefix.length
            keys = torch.arange(self.prefix.length + self._kept, device=self._device)
            distance = positions_BT[:, :, None] - keys
            hidden = distance < 0
            if window is not None:
                hidden |= distance >= window
            self._hidden[window] = hidden[:, None]
        return self._hidden[window]
