"""The training loss: cross-entropy at trained positions, over packed rows or, where a model cannot, padded batches."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from nertune.models.attention import PackedRow

__all__ = ["packed_loss_sum", "padded_loss_sum"]


def packed_loss_sum(model: Any, batch: dict[str, Any]) -> Tensor:
    """Summed cross-entropy (nats) of a batch from `collate_packed`; logits are computed where a token is trained, only."""
    row = PackedRow(batch["prefix_length"], batch["suffix_lengths"], device=batch["input_ids"].device)
    logits_1MV = model(
        input_ids=batch["input_ids"],
        position_ids=row.position_ids_1S,
        logits_to_keep=batch["keep"],
        use_cache=False,
        nertune_context=row,
    ).logits
    return F.cross_entropy(logits_1MV[0].float(), batch["labels"][0], reduction="sum")


def padded_loss_sum(model: Any, batch: dict[str, Any]) -> Tensor:
    """Summed cross-entropy (nats) of a batch from `collate_padded`, logits everywhere."""
    logits_NTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    return F.cross_entropy(
        logits_NTV[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )
