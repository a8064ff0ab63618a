"""Output layers for training: the model hands over hidden states, and the loss is computed from them without logits.

`LossHead` is the exact softmax over the vocabulary. `SampledHead` is cheaper: the softmax over the data's tokens and a
fresh sample of all others. Of a vocabulary of 262,144 tokens a corpus touches some thousands. Leaving the others out of the
softmax is fast but wrong: nothing then holds them down, and free generation ends in tokens that training never saw. Sampling
them anew at every step, each standing for the many it was drawn from, keeps the softmax's denominator unbiased (sampled
softmax with a uniform proposal: Bengio & Senécal 2008, doi:10.1109/TNN.2007.912312; Jean et al. 2015, arXiv:1412.2007).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nertune.errors import InputError
from nertune.train.fused import cross_entropy_sum
from nertune.train.sharded import engine, is_sharded

__all__ = ["SAMPLED", "LossHead", "SampledHead", "loss_head", "whole_head"]

SAMPLED = 8192
"""Tokens drawn per step from those that the data does not hold."""


class LossHead(nn.Module):
    """Stands in for a frozen output layer (V, in): the model's "logits" become its hidden states."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        # Outside the module tree: the layer is frozen, often shared with the input embeddings, and not ours to save.
        self._full = (head,)

    @property
    def weight(self) -> Tensor:
        """The whole layer's weight, (V, in)."""
        weight: Tensor = self._full[0].weight
        return weight

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden

    def loss_sum(self, hidden_MH: Tensor, targets_M: Tensor) -> Tensor:
        """Summed cross-entropy (nats) of the hidden states against token ids."""
        return cross_entropy_sum(hidden_MH, self.weight, targets_M, bias_V=self._full[0].bias)


class SampledHead(LossHead):
    """In training mode the softmax is over the data's D tokens and M sampled ones, else over all."""

    def __init__(self, head: Any, token_ids: Iterable[int], *, sampled: int = SAMPLED) -> None:
        super().__init__(head)
        ids = sorted(set(token_ids))
        device = head.weight.device
        others = torch.ones(head.weight.shape[0], dtype=torch.bool)
        others[ids] = False
        self._data_D = torch.tensor(ids, device=device)
        self._data_weight_DH = head.weight.detach()[self._data_D]
        self._others_O = others.nonzero().squeeze(1).to(device)
        self._sampled = min(sampled, len(self._others_O))

    def loss_sum(self, hidden_MH: Tensor, targets_M: Tensor) -> Tensor:
        others = self._others_O
        if not self.training or self._sampled >= len(others):
            return super().loss_sum(hidden_MH, targets_M)
        # Drawn on the CPU, whose generator a checkpoint restores.
        drawn = others[torch.randperm(len(others))[: self._sampled].to(others.device)]
        # Each drawn token stands for as many: its logit is raised by the log of their number.
        shift = hidden_MH.new_zeros(len(self._data_D) + len(drawn), dtype=torch.float32)
        shift[len(self._data_D) :] = torch.tensor(len(others) / len(drawn)).log()
        bias = self._full[0].bias
        if bias is not None:
            shift += bias[torch.cat([self._data_D, drawn])]
        weight = torch.cat([self._data_weight_DH, self.weight.index_select(0, drawn)])
        return cross_entropy_sum(hidden_MH, weight, torch.searchsorted(self._data_D, targets_M), bias_V=shift)


def loss_head(model: Any, *, sampled_beside: Iterable[int] | None = None) -> LossHead | None:
    """Put a LossHead in place of a model's output layer, a SampledHead where `sampled_beside` names the data's tokens.

    None, and the model untouched, where the exact loss needs the layer as it is: soft-capped logits, or a trained layer.
    Raises InputError there when sampling was asked for. None, too, where an engine takes the weights apart (`sharded.py`).
    """
    head = model.get_output_embeddings()
    if engine() or any(is_sharded(weight) for weight in head.parameters()):
        return None
    capped = getattr(model.config.get_text_config(), "final_logit_softcapping", None) is not None
    plain = isinstance(head, nn.Linear) and not any(parameter.requires_grad for parameter in head.parameters())
    if capped or not plain:
        if sampled_beside is not None:
            why = "soft-caps its logits" if capped else "trains its output layer"
            raise InputError(f"training.loss_vocabulary: sampled does not work with a model that {why}; use full")
        return None
    replacement = LossHead(head) if sampled_beside is None else SampledHead(head, sampled_beside)
    model.set_output_embeddings(replacement.train(model.training))
    return replacement


def whole_head(model: Any) -> None:
    """Put the layer back that `loss_head` took, so that the model gives logits again; else do nothing."""
    head = model.get_output_embeddings()
    if isinstance(head, LossHead):
        model.set_output_embeddings(head._full[0])
