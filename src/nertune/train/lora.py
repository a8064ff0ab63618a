"""LoRA's linear layer in as few passes over memory as the mathematics allows.

PEFT's layer computes W x, then dropout, A, B, the scale and the sum one after the other, each with a pass over its output
forward and another backward. Here they are one operation with a gradient of its own: on a processor a training step is
bound by its matrix products alone, and by memory as soon as something comes between them.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLoraLinear
from torch import Tensor, nn

from nertune.models.linear import QuickLinear
from nertune.models.matmul import add_matmul_nt, matmul_nt
from nertune.train.dropout import draw_lanes, kept_share, mask_of

__all__ = ["FusedLoraLinear", "fuse_lora"]


class FusedLoraLinear(PeftLoraLinear):
    """PEFT's LoRA layer with another forward pass; parameters, saving and merging are PEFT's."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        single = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if args or kwargs or not single or not _is_plain(self):
            out: Tensor = super().forward(x, *args, **kwargs)
            return out
        name = self.active_adapters[0]
        base = self.get_base_layer()
        dropout = self.lora_dropout[name].p if self.training and hasattr(self.lora_dropout[name], "p") else 0.0
        flat = x.reshape(-1, x.shape[-1])
        out = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            flat,
            base.weight,
            base.bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
            dropout,
        )
        return out.view(*x.shape[:-1], out.shape[-1])


class _LoraLinear(torch.autograd.Function):
    """y = W x + b + s B A drop(x), rows of x being tokens; W and b are frozen (Hu et al. 2021, arXiv:2106.09685)."""

    @staticmethod
    def forward(
        ctx: Any,
        x_SI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        a_RI: Tensor,
        b_OR: Tensor,
        scale: float,
        dropout: float,
    ) -> Tensor:
        draws = draw_lanes(x_SI.shape) if dropout else None
        dropped_SI = x_SI if draws is None else mask_of(draws, x_SI, dropout).mul_(x_SI)
        ctx.dropout = dropout
        ctx.scale = scale / kept_share(dropout)
        inner_SR = matmul_nt(dropped_SI, a_RI).mul_(ctx.scale)
        out_SO = add_matmul_nt(matmul_nt(x_SI, weight_OI), inner_SR, b_OR)
        ctx.save_for_backward(x_SI, draws, weight_OI, a_RI, b_OR, inner_SR)
        return out_SO if bias_O is None else out_SO.add_(bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_SI, draws, weight_OI, a_RI, b_OR, inner_SR = ctx.saved_tensors
        dy_SO = gradients[0].contiguous()
        d_inner_SR = matmul_nt(dy_SO, b_OR.T).mul_(ctx.scale)
        d_b_RO = matmul_nt(inner_SR.T, dy_SO.T)  # this way round the smaller factor is the one that is copied
        mask_SI = None if draws is None else mask_of(draws, x_SI, ctx.dropout)
        dx_SI = None
        if ctx.needs_input_grad[0]:
            dx_SI = matmul_nt(d_inner_SR, a_RI.T)
            if mask_SI is not None:
                dx_SI *= mask_SI
            dx_SI = add_matmul_nt(dx_SI, dy_SO, weight_OI.T)
        dropped_SI = x_SI if mask_SI is None else mask_SI.mul_(x_SI)
        d_a_RI = matmul_nt(d_inner_SR.T, dropped_SI.T)
        return dx_SI, None, None, d_a_RI, d_b_RO.T, None, None


def _is_plain(layer: Any) -> bool:
    """Whether the layer is W x + s B A x and nothing else at this moment."""
    active = layer.active_adapters
    return (
        len(active) == 1
        and active[0] in layer.lora_A
        and active[0] not in layer.lora_variant
        and not layer.disable_adapters
        and not layer.merged
        and not layer.lora_bias[active[0]]
        and type(layer.get_base_layer()) in (nn.Linear, QuickLinear)
        and not layer.get_base_layer().weight.requires_grad
    )


def fuse_lora(model: nn.Module) -> None:
    """Give every LoRA linear layer of a PEFT model the fused forward pass; other kinds stay as they are."""
    for module in model.modules():
        if type(module) is PeftLoraLinear:
            module.__class__ = FusedLoraLinear
