"""A cheaper loss for large vocabularies: the softmax over the data's tokens and a fresh sample of all others.

Of a vocabulary of 262,144 tokens a corpus touches some thousands. Leaving the others out of the softmax is fast but wrong:
nothing then holds them down, and free generation ends in tokens that training never saw. Sampling them anew at every step,
each standing for the many it was drawn from, keeps the softmax's denominator unbiased (sampled softmax with a uniform
proposal: Bengio & Senécal 2008, doi:10.1109/TNN.2007.912312; Jean et al. 2015, arXiv:1412.2007).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nertune.errors import InputError

__all__ = ["SAMPLED", "SampledHead", "sample_head", "whole_head"]

SAMPLED = 8192
"""Tokens drawn per step from those that the data does not hold."""


class SampledHead(nn.Module):
    """Stands in for a frozen output layer (in, V).

    In training mode `forward` gives logits (…, D + M): the data's D tokens, then M sampled ones raised by the log of how many
    each stands for. In evaluation mode M is every other token and the softmax is the exact one, in another order.
    """

    def __init__(self, head: Any, token_ids: Iterable[int], *, sampled: int = SAMPLED) -> None:
        super().__init__()
        ids = sorted(set(token_ids))
        # Outside the module tree: the layer is frozen, shared with the input embeddings, and not ours to save.
        self._full = (head,)
        device = head.weight.device
        others = torch.ones(head.weight.shape[0], dtype=torch.bool)
        others[ids] = False
        self._data_D = torch.tensor(ids, device=device)
        self._others_O = others.nonzero().squeeze(1).to(device)
        self._sampled = min(sampled, len(self._others_O))
        self.rows = {token_id: row for row, token_id in enumerate(ids)}

    @property
    def weight(self) -> Tensor:
        """The whole layer's weight, (V, in)."""
        weight: Tensor = self._full[0].weight
        return weight

    def forward(self, hidden: Tensor) -> Tensor:
        others = self._others_O
        if self.training and self._sampled < len(others):
            # Drawn on the CPU, whose generator a checkpoint restores.
            others = others[torch.randperm(len(others))[: self._sampled].to(others.device)]
        ids = torch.cat([self._data_D, others])
        bias = self._full[0].bias
        logits = F.linear(hidden, self.weight[ids], None if bias is None else bias[ids])
        if len(others) < len(self._others_O):
            shift = torch.zeros(len(ids), dtype=logits.dtype, device=logits.device)
            shift[len(self._data_D) :] = torch.tensor(len(self._others_O) / len(others)).log()
            logits = logits + shift
        return logits


def whole_head(model: Any) -> None:
    """Put the layer back that `sample_head` took, so that logits are in the vocabulary's order; else do nothing."""
    head = model.get_output_embeddings()
    if isinstance(head, SampledHead):
        model.set_output_embeddings(head._full[0])


def sample_head(model: Any, token_ids: Iterable[int]) -> dict[int, int]:
    """Put a SampledHead in place of a model's output layer; returns token id -> logit column for the data's tokens.

    Raises InputError for models whose output is changed after the layer (soft-capped logits), or whose layer is trained.
    """
    head = model.get_output_embeddings()
    capped = getattr(model.config.get_text_config(), "final_logit_softcapping", None) is not None
    if capped or any(parameter.requires_grad for parameter in head.parameters()):
        why = "soft-caps its logits" if capped else "trains its output layer"
        raise InputError(f"training.loss_vocabulary: sampled does not work with a model that {why}; use full")
    replacement = SampledHead(head, token_ids)
    model.set_output_embeddings(replacement.train(model.training))
    return replacement.rows
