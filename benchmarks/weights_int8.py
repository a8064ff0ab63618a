"""Linear layers in eight bits on a processor: a third to a quarter of the time of single precision, where it has VNNI.

Weights are rounded once, symmetrically, each output channel by its own largest value; the inputs at every call, each token
by its own, so that an answer does not depend on what it is batched with. Products are sums of whole numbers, by oneDNN.

Shape legend: M tokens, I inputs, O outputs.
"""

from __future__ import annotations

import functools
import os
import platform
from typing import Any

import torch
from torch import Tensor, nn

from nertune.errors import InputError
from nertune.models.linear import QuickLinear

__all__ = ["Int8Linear", "can_use_int8", "quantize_int8"]

# Layers beside each other that are given the same tensor, which is then rounded once.
_BESIDE = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_TINY = 1e-12


class Int8Linear(nn.Module):
    """A linear layer with rounded weights, for inference; output in its input's type. `inputs` may be shared."""

    def __init__(self, layer: nn.Linear, inputs: RoundedInput | None = None) -> None:
        super().__init__()
        weight_OI = layer.weight.detach().float()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._scale_O = weight_OI.abs().amax(1).clamp_(min=_TINY) / 127
        whole_OI = (weight_OI / self._scale_O[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(whole_OI, None)
        self._zero_O = torch.zeros(self.out_features, dtype=torch.long)
        self._bias = None if layer.bias is None else layer.bias.detach().float()
        self._inputs = inputs or RoundedInput()

    def forward(self, input: Tensor) -> Tensor:
        """(…, I) to (…, O)."""
        x_MI, scale_M1 = self._inputs.of(input)
        out_MO = _product(x_MI, self._packed, self._scale_O, self._zero_O).mul_(scale_M1)
        if self._bias is not None:
            out_MO += self._bias
        return out_MO.to(input.dtype).view(*input.shape[:-1], self.out_features)


class RoundedInput:
    """A tensor rounded to eight bits by rows; the last one is kept, for the layer beside."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Unsigned bytes around 128, (M, I), and the rows' scales, (M, 1)."""
        if self._last is None or self._last[0] is not x:
            flat_MI = x.reshape(-1, x.shape[-1])
            largest_M1 = torch.maximum(flat_MI.amax(1, keepdim=True), flat_MI.amin(1, keepdim=True).neg())
            scale_M1 = largest_M1.float().mul_(1 / 127).clamp_(min=_TINY)
            # torch's cast to signed bytes is vectorized; that to unsigned ones takes four times as long.
            signed_MI = (flat_MI.float() * scale_M1.reciprocal()).round_().to(torch.int8)
            self._last = x, signed_MI.view(torch.uint8).bitwise_xor_(128), scale_M1
        return self._last[1:]


def quantize_int8(model: nn.Module) -> None:
    """Make every plain linear layer of a model but its output layer an Int8Linear, in place.

    Merge adapters first. Raises InputError for a model that is not on a processor, or where the processor or torch has no
    exact product of bytes.
    """
    devices = {weight.device.type for weight in model.parameters()}
    if devices != {"cpu"}:
        raise InputError(f"weights int8: for models on a CPU, and this one is on {', '.join(sorted(devices))}")
    if not can_use_int8():
        raise InputError(
            "weights int8: this processor (x86 with VNNI is needed), this torch, or NERTUNE_ONEDNN=0 does not allow it. "
            "Leave it out; bfloat16 as dtype may be faster here"
        )
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    with torch.no_grad():
        for parent in list(model.modules()):
            shared = {name: inputs for names in _BESIDE for inputs in [RoundedInput()] for name in names}
            for name, layer in list(parent.named_children()):
                kind = type(layer)  # a layer in 4 bits is a linear one too, of another kind
                if isinstance(layer, nn.Linear) and kind in (nn.Linear, QuickLinear) and layer is not head:
                    setattr(parent, name, Int8Linear(layer, shared.get(name)))


@functools.cache
def can_use_int8() -> bool:
    """Whether products of bytes are there and exact: without VNNI they saturate at the largest values."""
    if os.environ.get("NERTUNE_ONEDNN") == "0" or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        x_MI = torch.full((4, 128), 255, dtype=torch.uint8)
        packed = torch.ops.onednn.qlinear_prepack(torch.full((32, 128), 127, dtype=torch.int8), None)
        out_MO = _product(x_MI, packed, torch.ones(32), torch.zeros(32, dtype=torch.long))
    except (AttributeError, RuntimeError, TypeError):  # not operators that this torch promises to keep
        return False
    return bool((out_MO == 127 * 127 * 128).all())


def _product(x_MI: Tensor, packed: Tensor, scale_O: Tensor, zero_O: Tensor) -> Tensor:
    """(x - 128) Wᵀ scale, (M, O), in single precision."""
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        x_MI, 1.0, 128, packed, scale_O, zero_O, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return product
