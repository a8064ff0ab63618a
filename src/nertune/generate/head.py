"""The output layer of a model that chooses among few tokens: only their rows are computed."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nertune.models.matmul import matmul_nt

__all__ = ["ChoiceHead"]


class ChoiceHead(nn.Module):
    """An output layer that gives the logits of `candidates` (C,), ascending token ids, or of all tokens where that is None."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self._head: Any = head
        self.candidates: Tensor | None = None

    @classmethod
    def take_over(cls, model: Any) -> ChoiceHead:
        """Put it in the place of a model's output layer."""
        head = model.get_output_embeddings()
        if isinstance(head, cls):
            return head
        own = cls(head)
        model.set_output_embeddings(own)
        return own

    @property
    def weight(self) -> Tensor:
        """The output layer's weights: transformers looks at them."""
        weight: Tensor = self._head.weight
        return weight

    def forward(self, hidden_1QD: Tensor) -> Tensor:
        """(1, Q, C)."""
        plain = isinstance(self._head, nn.Linear)
        if self.candidates is None:
            if plain and self._head.bias is None and hidden_1QD.device.type == "cpu":
                # With few rows and many tokens the product transposed, W hᵀ, is the faster one.
                flat = hidden_1QD.flatten(0, -2)
                return matmul_nt(self.weight, flat).T.view(*hidden_1QD.shape[:-1], -1)
            every: Tensor = self._head(hidden_1QD)
            return every
        if not plain:
            some: Tensor = self._head(hidden_1QD).index_select(-1, self.candidates)
            return some
        bias = self._head.bias
        rows = self.weight.index_select(0, self.candidates)
        return F.linear(hidden_1QD, rows, None if bias is None else bias.index_select(0, self.candidates))
