"""Whether an adapter was made for a base model: every layer that it changes is there, and of its shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nertune.errors import RunError
from nertune.safety import check_adapter, read_header

__all__ = ["check_fits"]

_WEIGHTS = "adapter_model.safetensors"
_FACTOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


def check_fits(model: Any, folder: Path) -> None:
    """Raises RunError for an adapter of another model, or one that could hang PEFT, before PEFT reads it.

    A layer W (out, in) takes A (rank, in) and B (out, rank). `model`: the base model, not yet adapted.
    """
    config = check_adapter(folder)
    if isinstance(config.targets, str) and config.targets != "all-linear":
        raise RunError(
            f"{folder / 'adapter_config.json'}: target_modules is a pattern ({config.targets!r:.60}), which is not tried on "
            "names, for it can take for ever; list the layers' names"
        )
    layers = dict(model.named_modules())
    for name, tensor in read_header(folder, _WEIGHTS).items():
        found = _FACTOR.fullmatch(name)
        if found is None:
            continue
        layer = layers.get(found[1])
        if layer is None:
            raise RunError(f"{folder}: the adapter was made for another base model, one with a layer {found[1]}")
        wide, place = _size(layer, found[2])
        if wide is not None and (len(tensor.shape) < 2 or tensor.shape[place] != wide):
            raise RunError(
                f"{folder}: the adapter was made for another base model: its {name} is {list(tensor.shape)}, and the layer "
                f"here {'takes' if found[2] == 'A' else 'gives'} {wide:,} numbers"
            )


def _size(layer: Any, factor: str) -> tuple[int | None, int]:
    """How many numbers a layer takes (A) or gives (B), and which dimension of the factor that is; None where it is unknown."""
    own = {"A": ("in_features", "nx"), "B": ("out_features", "nf")}[factor]  # nx, nf: GPT-2's Conv1D
    size = next((getattr(layer, name) for name in own if isinstance(getattr(layer, name, None), int)), None)
    return size, 1 if factor == "A" else 0
