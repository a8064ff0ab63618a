"""Compute a prompt prefix once and keep its keys and values."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nertune.generate.cache import PrefixStates

__all__ = ["compute_prefix"]


class _Recorder:
    """An attention context that runs plain causal attention and keeps what it is given."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(
        self, query_1HSD: Tensor, key_1KSD: Tensor, value_1KSD: Tensor, *, layer: int, scale: float, window: int | None
    ) -> Tensor:
        self.keys.append(key_1KSD[0])
        self.values.append(value_1KSD[0])
        group = query_1HSD.shape[1] // key_1KSD.shape[1]
        key, value = key_1KSD.repeat_interleave(group, dim=1), value_1KSD.repeat_interleave(group, dim=1)
        mask = None
        if window is not None and window < self._length:
            places = torch.arange(self._length, device=key.device)
            distance = places[:, None] - places
            mask = (distance >= 0) & (distance < window)
        out = F.scaled_dot_product_attention(
            query_1HSD, key, value, attn_mask=mask, is_causal=mask is None, scale=scale
        )
        return out.transpose(1, 2)


def compute_prefix(model: Any, ids: tuple[int, ...]) -> PrefixStates:
    """Keys and values of the prefix `ids` for a model with shared-prefix attention."""
    if not ids:
        return PrefixStates([], [], 0)
    recorder = _Recorder(len(ids))
    model(
        input_ids=torch.tensor([ids], device=model.device),
        position_ids=torch.arange(len(ids), device=model.device)[None],
        logits_to_keep=1,
        use_cache=False,
        nertune_context=recorder,
    )
    return PrefixStates(recorder.keys, recorder.values, len(ids))
