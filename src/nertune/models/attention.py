"""Attention over a prompt prefix that many sequences share, for any decoder of transformers.

All sequences of a batch are laid out in one packed row: the shared prefix once, then each sequence's own part (its
*suffix*). Every linear layer, norm and embedding therefore runs on each token exactly once and on no padding; only
attention knows about sequences. It is registered with transformers as the attention implementation `nertune` and is
told by a keyword, which decoders hand down untouched, how the row is laid out:

- training: `PackedRow`. The prefix attends to itself, causally; each suffix attends to the prefix and to itself.
- generation: `SequenceCache` (generate/ keeps one): keys and values of earlier tokens are kept per sequence.

Positions inside a suffix go on from the prefix's length, so rotary embeddings and sliding windows see what a plain
left-to-right row would show them: losses and gradients are those of the padded batch.

Shape legend: S tokens of the packed row, P prefix tokens, N sequences, T longest suffix, H query heads, K key/value
heads, G = H / K, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nertune.models.ragged import RaggedLayout, ragged_attention

__all__ = [
    "ATTENTION",
    "AttentionContext",
    "PackedRow",
    "can_share_prefix",
    "plain_attention",
    "register",
    "use_shared_prefix_attention",
]

ATTENTION = "nertune"


class AttentionContext(Protocol):
    """Computes one layer's attention over a packed row."""

    def attend(
        self, query_1HSD: Tensor, key_1KSD: Tensor, value_1KSD: Tensor, *, layer: int, scale: float, window: int | None
    ) -> Tensor:
        """Returns (1, S, H, D). `window`: how many positions back a token sees, itself included; None for all."""
        ...


def register() -> None:
    """Make the implementation known to transformers; doing so twice is harmless."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _forward)


def use_shared_prefix_attention(model: Any) -> None:
    """Switch a model to this attention. Every forward call then needs `nertune_context=`."""
    register()
    if model.config._attn_implementation != ATTENTION:
        model.nertune_plain_attention = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)


@contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """A model on shared-prefix attention is on its former one for the length of the context."""
    model.set_attn_implementation(model.nertune_plain_attention)
    try:
        yield
    finally:
        model.set_attn_implementation(ATTENTION)


def _forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    nertune_context: AttentionContext | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function that transformers' attention modules call, after rotary embeddings."""
    if nertune_context is None:
        raise RuntimeError("a model with shared-prefix attention was called without nertune_context")
    if dropout or softcap is not None:
        raise NotImplementedError("shared-prefix attention has no attention dropout and no soft-capping")
    if sliding_window is None and _is_windowed(module):
        raise NotImplementedError("the model hides distant tokens by a mask and does not say how far a token sees")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = cast(int, module.layer_idx)
    return nertune_context.attend(query, key, value, layer=layer, scale=scale, window=sliding_window), None


def _is_windowed(module: torch.nn.Module) -> bool:
    """Whether the model calls this layer's attention local."""
    layer_types: Any = getattr(getattr(module, "config", None), "layer_types", None)
    return bool(layer_types) and layer_types[cast(int, module.layer_idx)] in ("sliding_attention", "chunked_attention")


class PackedRow:
    """The layout of one training row: a prefix of `prefix_length` tokens, then suffixes of `suffix_lengths` tokens.

    `padding` tokens may follow, which nobody looks at and whose outputs mean nothing. Call the model with `input_ids` of
    shape (1, S), `position_ids=row.position_ids_1S` and `nertune_context=row`.
    """

    def __init__(
        self, prefix_length: int, suffix_lengths: Sequence[int], *, device: torch.device | str, padding: int = 0
    ) -> None:
        self.prefix_length = prefix_length
        self.padding = padding
        self.count = len(suffix_lengths)
        self.longest = max(suffix_lengths)
        lengths_N = torch.tensor(list(suffix_lengths))
        starts_N = prefix_length + lengths_N.cumsum(0) - lengths_N
        offset_T = torch.arange(self.longest)
        real_NT = offset_T < lengths_N[:, None]
        # Padding places repeat the sequence's last token: finite values that no real token looks at.
        place_NT = starts_N[:, None] + torch.minimum(offset_T, lengths_N[:, None] - 1)
        self._place_NT = place_NT.to(device)
        self._real_Q = real_NT.flatten().nonzero().squeeze(1).to(device)
        self.position_ids_1S = torch.cat(
            [
                torch.arange(prefix_length),
                (prefix_length + offset_T).expand(self.count, -1)[real_NT],
                torch.zeros(padding, dtype=torch.long),
            ]
        )[None].to(device)
        self._lengths = tuple(suffix_lengths)
        self._layouts: dict[int | None, RaggedLayout] = {}
        self._masks: dict[tuple[int | None, int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def attend(
        self, query_1HSD: Tensor, key_1KSD: Tensor, value_1KSD: Tensor, *, layer: int, scale: float, window: int | None
    ) -> Tensor:
        single = query_1HSD.dtype == key_1KSD.dtype == value_1KSD.dtype == torch.float32
        if single and query_1HSD.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return ragged_attention(query_1HSD, key_1KSD, value_1KSD, self._ragged_layout(window), scale)
        P, N, T = self.prefix_length, self.count, self.longest
        heads, size = query_1HSD.shape[1], query_1HSD.shape[3]
        kv_heads = key_1KSD.shape[1]
        group = heads // kv_heads
        mask_PP, mask_TL = self._additive_masks(window, group, query_1HSD)

        # Query heads that share a key head are stacked along the query axis, so keys are never repeated.
        prefix_query = query_1HSD[:, :, :P].reshape(1, kv_heads, group * P, size)
        prefix_key, prefix_value = key_1KSD[:, :, :P], value_1KSD[:, :, :P]
        prefix_out = F.scaled_dot_product_attention(
            prefix_query, prefix_key, prefix_value, attn_mask=mask_PP, scale=scale
        ).view(heads, P, size)

        place = self._place_NT.flatten()
        query = query_1HSD[0].index_select(1, place).view(kv_heads, group, N, T, size)
        query = query.permute(2, 0, 1, 3, 4).reshape(N, kv_heads, group * T, size)
        key = torch.cat([prefix_key.expand(N, -1, -1, -1), _suffixes(key_1KSD, place, N, T)], dim=2)
        value = torch.cat([prefix_value.expand(N, -1, -1, -1), _suffixes(value_1KSD, place, N, T)], dim=2)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_TL, scale=scale)
        out = out.view(N, heads, T, size).transpose(0, 1).reshape(heads, N * T, size).index_select(1, self._real_Q)
        parts = [prefix_out, out]
        if self.padding:
            parts.append(out.new_zeros(heads, self.padding, size))
        return torch.cat(parts, dim=1).transpose(0, 1)[None]

    def _ragged_layout(self, window: int | None) -> RaggedLayout:
        if window not in self._layouts:
            self._layouts[window] = RaggedLayout(self.prefix_length, self._lengths, window, padding=self.padding)
        return self._layouts[window]

    def _additive_masks(self, window: int | None, group: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of (1, 1, G·P, P) and (1, 1, G·T, P + T): 0 where a query may look, -inf elsewhere."""
        cached = self._masks.get((window, group, like.dtype))
        if cached is None:
            P, T = self.prefix_length, self.longest
            prefix, suffix = torch.arange(P, device=like.device), torch.arange(P, P + T, device=like.device)
            both = torch.cat([prefix, suffix])
            cached = (
                _additive(prefix, prefix, window, like.dtype).repeat(1, 1, group, 1),
                _additive(suffix, both, window, like.dtype).repeat(1, 1, group, 1),
            )
            self._masks[window, group, like.dtype] = cached
        return cached


def _suffixes(states_1KSD: Tensor, place: Tensor, count: int, longest: int) -> Tensor:
    """(1, K, S, D) -> (N, K, T, D)."""
    kv_heads, size = states_1KSD.shape[1], states_1KSD.shape[3]
    return states_1KSD[0].index_select(1, place).view(kv_heads, count, longest, size).transpose(0, 1)


def _additive(query_positions: Tensor, key_positions: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    distance = query_positions[:, None] - key_positions[None, :]
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    return torch.zeros_like(distance, dtype=dtype).masked_fill_(hidden, float("-inf"))[None, None]


def can_share_prefix(model: Any) -> bool:
    """Try the packed row on a few tokens against plain rows; leaves the model on whichever attention it will use.

    Models with linear attention, soft-capped scores or attention of their own give other numbers or refuse; so do, in
    training mode, models that drop attention weights. A model on shared-prefix attention already has passed.
    """
    if model.config._attn_implementation == ATTENTION:
        return True
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    prefix, suffixes = 5, (3, 4)
    ids = torch.randint(vocabulary, (prefix + sum(suffixes),), generator=generator).to(model.device)
    was_training, own_attention = model.training, model.config._attn_implementation
    model.eval()
    try:
        with torch.no_grad():
            plain, start = [], prefix
            for length in suffixes:
                row = torch.cat([ids[:prefix], ids[start : start + length]])[None]
                plain.append(model(input_ids=row, use_cache=False).logits[0, prefix:])
                start += length
            use_shared_prefix_attention(model)
            packed_row = PackedRow(prefix, suffixes, device=ids.device)
            inputs = {
                "input_ids": ids[None],
                "position_ids": packed_row.position_ids_1S,
                "use_cache": False,
                "nertune_context": packed_row,
            }
            packed = model(**inputs).logits[0, prefix:]
            if was_training:
                model.train()(**inputs)
        expected = torch.cat(plain)
        # Exact models differ by 1e-6; a short convolution in a model with weak weights shows no more than 3e-4.
        tolerance = 1e-4 if expected.dtype == torch.float32 else 5e-2
        if torch.allclose(packed, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
            return True
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError):
        pass
    finally:
        model.train(was_training)
    if own_attention is not None:
        model.set_attn_implementation(own_attention)
    return False
