"""Dropout whose random bits do not cost as much as the matrix products beside it.

On a processor torch draws one float per element for a Bernoulli mask, one after the other; for the seven LoRA inputs of
every layer that is a tenth of a training step. Here one 64-bit draw of the same generator decides on four elements.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LaneDropout", "draw_lanes", "kept_share", "mask_of", "replace_lora_dropout"]

_LANES = 4  # 16-bit lanes in a 64-bit draw
_STEPS = 1 << 16


class LaneDropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014); the probability is rounded to 1/65,536, and the scale with it.

    Draws from torch's global CPU generator, so seeds and restored states give the same masks. On an accelerator it is
    torch's own dropout.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped: Tensor = _Drop.apply(x, self.p)  # type: ignore[no-untyped-call]
        return dropped

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _Drop(torch.autograd.Function):
    """Zeroes a share of the elements on average and scales the others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        draws = draw_lanes(x.shape)
        ctx.p = p
        ctx.save_for_backward(draws)
        return (x * mask_of(draws, x, p)).mul_(1 / kept_share(p))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (draws,) = ctx.saved_tensors
        gradient = gradients[0]
        return (gradient * mask_of(draws, gradient, ctx.p)).mul_(1 / kept_share(ctx.p)), None


def draw_lanes(shape: torch.Size) -> Tensor:
    """Random bits for a mask of this shape; what `mask_of` makes a mask of, at two bytes an element."""
    return torch.empty(-(-shape.numel() // _LANES), dtype=torch.int64).random_(-(2**63), None)


def mask_of(draws: Tensor, like: Tensor, p: float) -> Tensor:
    """1 where an element of `like` is kept, 0 where it is dropped, in its type: a Boolean mask multiplies far slower."""
    lanes = draws.view(torch.int16)[: like.numel()].view(like.shape)
    return torch.ge(lanes, round(p * _STEPS) - _STEPS // 2, out=torch.empty(like.shape, dtype=like.dtype))


def kept_share(p: float) -> float:
    """The expected share of elements that a mask keeps."""
    return 1 - round(p * _STEPS) / _STEPS


def replace_lora_dropout(model: nn.Module) -> None:
    """Put LaneDropout in place of every dropout in front of a LoRA layer of a PEFT model."""
    for module in model.modules():
        dropouts = getattr(module, "lora_dropout", None)
        if isinstance(dropouts, nn.ModuleDict):
            for name, dropout in dropouts.items():
                if isinstance(dropout, nn.Dropout):
                    dropouts[name] = LaneDropout(dropout.p)
