"""The training loss: cross-entropy at trained positions, over packed rows or, where a model cannot, padded batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nertune.models.attention import PackedRow

__all__ = ["narrow_head", "packed_loss_sum", "padded_loss_sum"]


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


def narrow_head(model: Any, token_ids: Iterable[int]) -> dict[int, int]:
    """Give a model an output layer for these tokens alone, and return token id -> row of the new layer.

    The softmax then runs over the tokens of the data: another loss than the full one, at a fraction of its cost where the
    vocabulary is large. The new layer is a frozen copy; an adapter trained under it works with the full layer.
    """
    ids = sorted(set(token_ids))
    head = model.get_output_embeddings()
    rows = torch.tensor(ids, device=head.weight.device)
    narrow = torch.nn.Linear(head.in_features, len(ids), bias=head.bias is not None, device="meta")
    narrow.weight = torch.nn.Parameter(head.weight.detach()[rows], requires_grad=False)
    if head.bias is not None:
        narrow.bias = torch.nn.Parameter(head.bias.detach()[rows], requires_grad=False)
    model.set_output_embeddings(narrow)
    return {token_id: row for row, token_id in enumerate(ids)}
