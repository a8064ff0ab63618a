"""The output layer of a model: where it chooses among few tokens, only their rows are computed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nertune.models.matmul import matmul_nt

__all__ = ["ChoiceHead"]


class ChoiceHead(nn.Module):
    """An output layer that computes few logits for its first rows, and all of the vocabulary's for the others.

    `candidates` (C,): the ascending token ids of which the first `narrow` rows get logits; None where no row is narrow, as at
    the beginning: then it is the model's own layer. Both stay until they are set anew.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self._head: Any = head
        self.candidates: Tensor | None = None
        self.narrow = 0

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
        """(1, Q, V); with `narrow` rows flat, (1, 1, narrow * C + others * V), which `split` takes apart.

        Flat, because models that cap or scale their logits do so to each by itself.
        """
        if self.candidates is None:
            return self._every(hidden_1QD)
        few = self._few(hidden_1QD[:, : self.narrow], self.candidates).flatten()
        if self.narrow >= hidden_1QD.shape[1]:
            return few[None, None]
        return torch.cat((few, self._every(hidden_1QD[:, self.narrow :]).flatten()))[None, None]

    def split(self, logits: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """What the model made of `forward`'s logits: those of the narrow rows, (narrow, C), and of the others, (Q, V).

        `size`: V.
        """
        candidates = 0 if self.candidates is None else len(self.candidates)
        few, every = logits.flatten().tensor_split([self.narrow * candidates])
        return few.view(self.narrow, candidates), every.view(-1, size)

    def _every(self, hidden_1QD: Tensor) -> Tensor:
        if isinstance(self._head, nn.Linear) and self._head.bias is None and hidden_1QD.device.type == "cpu":
            # With few rows and many tokens the product transposed, W hᵀ, is the faster one.
            flat = hidden_1QD.flatten(0, -2)
            return matmul_nt(self.weight, flat).T.view(*hidden_1QD.shape[:-1], -1)
        every: Tensor = self._head(hidden_1QD)
        return every

    def _few(self, hidden_1QD: Tensor, candidates: Tensor) -> Tensor:
        if not isinstance(self._head, nn.Linear):
            some: Tensor = self._head(hidden_1QD).index_select(-1, candidates)
            return some
        bias = self._head.bias
        rows = self.weight.index_select(0, candidates)
        return F.linear(hidden_1QD, rows, None if bias is None else bias.index_select(0, candidates))
