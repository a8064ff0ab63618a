"""Linear layers whose products go through models/matmul.py: the same layer, on some processors at twice the speed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nertune.models.matmul import matmul_nt

__all__ = ["QuickLinear", "quicken"]


class QuickLinear(nn.Linear):
    """nn.Linear; in single precision on a processor its products, forward and backward, are `matmul_nt`'s."""

    def forward(self, input: Tensor) -> Tensor:
        single = input.dtype == self.weight.dtype == torch.float32 and input.device.type == "cpu"
        if not single or torch.is_autocast_enabled("cpu"):
            return F.linear(input, self.weight, self.bias)
        flat = input.reshape(-1, input.shape[-1])
        out: Tensor
        if torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad):
            out = _Product.apply(flat, self.weight)  # type: ignore[no-untyped-call]
        else:
            out = matmul_nt(flat, self.weight)
        if self.bias is not None:
            out = out + self.bias
        return out.view(*input.shape[:-1], out.shape[-1])


class _Product(torch.autograd.Function):
    """x (M, in) and W (out, in) to x Wᵀ (M, out)."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_MI, weight_OI)
        return matmul_nt(x_MI, weight_OI)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_MI, weight_OI = ctx.saved_tensors
        dy_MO = gradients[0].contiguous()
        dx_MI = matmul_nt(dy_MO, weight_OI.T) if ctx.needs_input_grad[0] else None
        d_weight_OI = matmul_nt(dy_MO.T, x_MI.T) if ctx.needs_input_grad[1] else None
        return dx_MI, d_weight_OI


def quicken(model: nn.Module) -> None:
    """Make every plain linear layer of a model a QuickLinear, in place."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = QuickLinear
