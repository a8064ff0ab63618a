"""Shared-prefix attention on a processor: no padding, no expanded keys, a gradient of its own.

One product gives the scores of all tokens against the prefix; each suffix then attends to itself in products of its own
size. Scores of both kinds lie side by side in one matrix, so that softmax is one call. Against the padded general form it
saves a third of the arithmetic, and its products are those of models/matmul.py.

Shape legend: S tokens, P prefix tokens, T longest suffix, H query heads, K key/value heads, G = H / K, D head size; a row
of Q = S G is one token's query for one of the heads that share a key head; C = P + T score columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nertune.models.matmul import matmul_nt

__all__ = ["RaggedLayout", "ragged_attention"]


class RaggedLayout:
    """Where the sequences of a packed row lie, and who may look at whom. `window` as in `AttentionContext.attend`.

    `padding` tokens at the row's end look at the first column and are looked at by none.
    """

    def __init__(
        self, prefix_length: int, suffix_lengths: Sequence[int], window: int | None, *, padding: int = 0
    ) -> None:
        self.prefix_length = prefix_length
        self.width = prefix_length + max(suffix_lengths)
        self.spans: list[tuple[int, int]] = []  # start and end of each suffix in the packed row
        start = prefix_length
        for length in suffix_lengths:
            self.spans.append((start, start + length))
            start += length
        columns = torch.arange(self.width)
        positions = torch.cat(
            [
                torch.arange(prefix_length),
                *(torch.arange(prefix_length, prefix_length + n) for n in suffix_lengths),
                torch.zeros(padding, dtype=torch.long),
            ]
        )
        distance = positions[:, None] - columns
        hidden = distance < 0
        # A prefix token looks at nothing but the prefix, which the distance says already.
        if window is not None:
            hidden |= distance >= window
        self.mask_SC = torch.zeros(distance.shape).masked_fill_(hidden, float("-inf"))
        self._by_group: dict[int, Tensor] = {}

    def mask(self, group: int) -> Tensor:
        """The additive mask, (S G, C)."""
        if group not in self._by_group:
            self._by_group[group] = self.mask_SC.repeat_interleave(group, dim=0)
        return self._by_group[group]


def ragged_attention(
    query_1HSD: Tensor, key_1KSD: Tensor, value_1KSD: Tensor, layout: RaggedLayout, scale: float
) -> Tensor:
    """Attention of a packed row, (1, S, H, D), exact and differentiable; fp32 on a processor."""
    heads, kv_heads = query_1HSD.shape[1], key_1KSD.shape[1]
    group = heads // kv_heads
    outs = []
    for head in range(kv_heads):
        query_QD = query_1HSD[0, head * group : (head + 1) * group].transpose(0, 1).flatten(0, 1)
        outs.append(_Ragged.apply(query_QD, key_1KSD[0, head], value_1KSD[0, head], layout, scale))  # type: ignore[no-untyped-call]
    tokens, size = query_1HSD.shape[2:]
    return torch.cat([out.view(tokens, group, size) for out in outs], dim=1)[None]


class _Ragged(torch.autograd.Function):
    """One key/value head: query (Q, D), key and value (S, D) to (Q, D)."""

    @staticmethod
    def forward(ctx: Any, query_QD: Tensor, key_SD: Tensor, value_SD: Tensor, layout: Any, scale: float) -> Tensor:
        query_QD, key_SD, value_SD = query_QD.contiguous(), key_SD.contiguous(), value_SD.contiguous()
        group, P = len(query_QD) // len(key_SD), layout.prefix_length
        scores_QC = torch.zeros(len(query_QD), layout.width)
        scores_QC[:, :P] = matmul_nt(query_QD, key_SD[:P])
        for rows, places, own in _blocks(layout, group):
            scores_QC[rows, own] = matmul_nt(query_QD[rows], key_SD[places])
        weights_QC = torch.add(layout.mask(group), scores_QC, alpha=scale).softmax(dim=1)
        out_QD = matmul_nt(weights_QC[:, :P], value_SD[:P].T)
        for rows, places, own in _blocks(layout, group):
            out_QD[rows] += matmul_nt(weights_QC[rows, own], value_SD[places].T)
        ctx.layout, ctx.scale, ctx.group = layout, scale, group
        ctx.save_for_backward(query_QD, key_SD, value_SD, weights_QC)
        return out_QD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_QD, key_SD, value_SD, weights_QC = ctx.saved_tensors
        layout, group, P = ctx.layout, ctx.group, ctx.layout.prefix_length
        d_out_QD = gradients[0].contiguous()
        d_weights_QC = torch.zeros_like(weights_QC)
        d_weights_QC[:, :P] = matmul_nt(d_out_QD, value_SD[:P])
        d_key_SD, d_value_SD = torch.zeros_like(key_SD), torch.zeros_like(value_SD)
        d_value_SD[:P] = matmul_nt(weights_QC[:, :P].T, d_out_QD.T)
        for rows, places, own in _blocks(layout, group):
            d_weights_QC[rows, own] = matmul_nt(d_out_QD[rows], value_SD[places])
            d_value_SD[places] = matmul_nt(weights_QC[rows, own].T, d_out_QD[rows].T)
        d_scores_QC = torch._softmax_backward_data(d_weights_QC, weights_QC, 1, torch.float32).mul_(ctx.scale)
        d_query_QD = matmul_nt(d_scores_QC[:, :P], key_SD[:P].T)
        d_key_SD[:P] = matmul_nt(d_scores_QC[:, :P].T, query_QD.T)
        for rows, places, own in _blocks(layout, group):
            d_query_QD[rows] += matmul_nt(d_scores_QC[rows, own], key_SD[places].T)
            d_key_SD[places] = matmul_nt(d_scores_QC[rows, own].T, query_QD[rows].T)
        return d_query_QD, d_key_SD, d_value_SD, None, None


def _blocks(layout: RaggedLayout, group: int) -> list[tuple[slice, slice, slice]]:
    """For each suffix: its rows of the query, its places in the packed row, its columns among the scores."""
    P = layout.prefix_length
    return [
        (slice(start * group, end * group), slice(start, end), slice(P, P + end - start)) for start, end in layout.spans
    ]
