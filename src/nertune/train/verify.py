"""Before the first step: the packed row and plain padded rows must give one loss and one gradient on this model.

The layout rests on how an architecture uses positions, masks and keywords, and the next one may do otherwise. A few rows of
the training itself, computed both ways without dropout, cost a second and decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nertune.models.attention import plain_attention
from nertune.prompt import Row
from nertune.train.batches import collate_packed, collate_padded
from nertune.train.heads import LossHead
from nertune.train.objective import packed_loss_sum, padded_loss_sum

__all__ = ["difference"]

_ROWS = 4
# Relative differences of loss and gradient: what rounding makes of them, with room.
_LIMITS = {torch.float32: (1e-4, 1e-2), torch.bfloat16: (2e-2, 0.3), torch.float16: (2e-2, 0.3)}


def difference(model: Any, rows: Sequence[Row], *, head: LossHead | None, pad_id: int) -> str | None:
    """How packed and padded computation differ beyond rounding on the first rows; None where they agree.

    `model` is on shared-prefix attention, with its trainable parameters; weights, gradients and random states stay as
    they were.
    """
    rows = rows[:_ROWS]
    device = next(model.parameters()).device
    packed = {
        key: value.to(device) if isinstance(value, Tensor) else value for key, value in collate_packed(rows).items()
    }
    padded = {key: value.to(device) for key, value in collate_padded(rows, pad_id=pad_id).items()}
    was_training = model.training
    model.eval()
    try:
        loss, gradient = _loss_and_gradient(model, packed_loss_sum(model, packed, head))
        with plain_attention(model):
            plain_loss, plain_gradient = _loss_and_gradient(model, padded_loss_sum(model, padded, head))
    finally:
        model.train(was_training)
    apart = abs(loss - plain_loss) / max(abs(plain_loss), 1e-6)
    turned = float((gradient - plain_gradient).norm() / plain_gradient.norm().clamp(min=1e-12))
    loss_limit, gradient_limit = _LIMITS.get(next(model.parameters()).dtype, _LIMITS[torch.bfloat16])
    if apart <= loss_limit and turned <= gradient_limit:
        return None
    return f"loss {loss:.6f} against {plain_loss:.6f}, gradients {turned:.1%} apart"


def _loss_and_gradient(model: Any, loss: Tensor) -> tuple[float, Tensor]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    flat = [gradient.flatten().float() for gradient in gradients if gradient is not None]
    return float(loss.detach()), torch.cat(flat)
