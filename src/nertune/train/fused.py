"""Cross-entropy over a large vocabulary without its logits: one pass over the output layer, forward and gradient.

A vocabulary of 262,144 tokens makes the logits of some hundred answer tokens the largest tensor of a training step, and
writing, normalizing and reading it again costs as much as the products. The vocabulary is taken in blocks that stay in
the processor's cache; a running maximum and sum (online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867) carry the
normalizer from block to block, and the gradient's weighted sum of output rows is rescaled with them, as attention's is in
FlashAttention (Dao et al. 2022, arXiv:2205.14135). The output layer itself is frozen: it gets no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nertune.models.matmul import matmul_nt, rounded

__all__ = ["cross_entropy_sum"]

# Elements of one block of logits: 8 MB in fp32, well within a processor's last cache; far more on an accelerator.
_BLOCK = {"cpu": 1 << 21}
_ACCELERATOR_BLOCK = 1 << 26


def cross_entropy_sum(
    hidden_MH: Tensor, weight_VH: Tensor, targets_M: Tensor, *, bias_V: Tensor | None = None
) -> Tensor:
    """Summed cross-entropy (nats, fp32 scalar) of logits `hidden @ weight.T + bias` at `targets`.

    Only `hidden` gets a gradient. Exact up to rounding: no approximation, no recomputation in the backward pass.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden_MH, weight_VH, targets_M, bias_V)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_MH: Tensor, weight_VH: Tensor, targets_M: Tensor, bias_V: Tensor | None) -> Tensor:
        count, width = hidden_MH.shape
        places = rounded(count, hidden_MH)
        hidden_MH = F.pad(hidden_MH, (0, 0, 0, places - count))
        size = len(weight_VH)
        block = max(1024, _BLOCK.get(hidden_MH.device.type, _ACCELERATOR_BLOCK) // max(places, 1) // 256 * 256)
        with_gradient = ctx.needs_input_grad[0]
        maximum_M = hidden_MH.new_full((places,), float("-inf"), dtype=torch.float32)
        total_M = torch.zeros_like(maximum_M)
        mean_MH = torch.zeros((places, width), dtype=torch.float32, device=hidden_MH.device)
        for start in range(0, size, block):
            rows_BH = weight_VH[start : start + block]
            logits_MB = matmul_nt(hidden_MH, rows_BH).float()
            if bias_V is not None:
                logits_MB += bias_V[start : start + block]
            highest_M = torch.maximum(maximum_M, logits_MB.amax(dim=1))
            shrink_M = torch.exp(maximum_M - highest_M)
            weights_MB = logits_MB.sub_(highest_M[:, None]).exp_()
            total_M = total_M * shrink_M + weights_MB.sum(dim=1)
            maximum_M = highest_M
            if with_gradient:
                mean_MH.mul_(shrink_M[:, None])
                mean_MH += matmul_nt(weights_MB.to(rows_BH.dtype), rows_BH.T)
        hidden_MH, mean_MH, total_M, maximum_M = (x[:count] for x in (hidden_MH, mean_MH, total_M, maximum_M))
        target_MH = weight_VH[targets_M].float()
        target_M = (hidden_MH.float() * target_MH).sum(dim=1)
        if bias_V is not None:
            target_M += bias_V[targets_M]
        if with_gradient:
            ctx.save_for_backward(mean_MH.div_(total_M[:, None]).sub_(target_MH).to(hidden_MH.dtype))
        return (maximum_M + total_M.log() - target_M).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient_MH,) = ctx.saved_tensors
        return gradient_MH * gradients[0].to(gradient_MH.dtype), None, None, None
