"""The training loss: cross-entropy at trained positions, over packed rows or, where a model cannot, padded batches."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from nertune.models.attention import PackedRow
from nertune.models.matmul import rounded
from nertune.train.heads import LossHead

__all__ = ["packed_loss_sum", "padded_loss_sum"]


def packed_loss_sum(model: Any, batch: dict[str, Any], head: LossHead | None = None) -> Tensor:
    """Summed cross-entropy (nats) of a batch from `collate_packed`.

    Only places where a token is trained reach the output layer. `head`: what `loss_head` put in its place, if it did.
    """
    ids_1S = batch["input_ids"]
    padding = rounded(ids_1S.shape[1], next(model.parameters())) - ids_1S.shape[1]
    row = PackedRow(batch["prefix_length"], batch["suffix_lengths"], device=ids_1S.device, padding=padding)
    # Logits (1, M, V); with a head, the hidden states (1, M, H) that it takes.
    out_1MX = model(
        input_ids=F.pad(ids_1S, (0, padding)),
        position_ids=row.position_ids_1S,
        logits_to_keep=batch["keep"],
        use_cache=False,
        nertune_context=row,
    ).logits
    if head is None:
        return F.cross_entropy(out_1MX[0].float(), batch["labels"][0], reduction="sum")
    return head.loss_sum(out_1MX[0], batch["labels"][0])


def padded_loss_sum(model: Any, batch: dict[str, Any], head: LossHead | None = None) -> Tensor:
    """Summed cross-entropy (nats) of a batch from `collate_padded`."""
    out_NTX = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    targets_NT = batch["labels"][:, 1:]
    trained_NT = targets_NT != -100
    out_MX, targets_M = out_NTX[:, :-1][trained_NT], targets_NT[trained_NT]
    if head is None:
        return F.cross_entropy(out_MX.float(), targets_M, reduction="sum")
    return head.loss_sum(out_MX, targets_M)
