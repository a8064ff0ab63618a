"""Whether an adapter belongs to a base model and is whole: the layers that it changes are there and of its shape, each of them
has its tensors, and all are finite."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nertune.errors import RunError
from nertune.safety import check_adapter, read_header

__all__ = ["check_fits", "check_loaded", "check_merged", "check_tensors", "targeted_layers"]

_NAMED = 3  # tensors in a message
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


def check_tensors(folder: Path, *, expected: Collection[str], found: Collection[str]) -> None:
    """Raises RunError, with names, for tensors that an adapter's configuration asks for or does not, unlike its weights."""
    for names, what in (
        (set(expected) - set(found), "lacks {} that adapter_config.json asks for"),
        (set(found) - set(expected), "holds {} that adapter_config.json does not ask for"),
    ):
        if names:
            listed = ", ".join(sorted(names)[:_NAMED]) + (", …" if len(names) > _NAMED else "")
            tensors = f"{len(names):,} of {len(set(found) | names):,} tensors"
            raise RunError(
                f"{folder / _WEIGHTS}: it {what.format(tensors)}: {listed}. The adapter is not whole: copy the folder anew, "
                "or train again"
            )


def targeted_layers(model: Any, config: Mapping[str, Any]) -> set[str]:
    """The names of the layers that an adapter_config.json names, in a base model that is not adapted."""
    from dataclasses import fields

    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    known = {field.name for field in fields(LoraConfig)}
    settings = LoraConfig(**{key: value for key, value in config.items() if key in known})
    if settings.target_modules == "all-linear":
        head = model.get_output_embeddings()
        return {
            name
            for name, module in model.named_modules()
            if module is not head and (hasattr(module, "in_features") or type(module).__name__ == "Conv1D")
        }
    return {name for name, _ in model.named_modules() if check_target_module_exists(settings, name)}


def check_loaded(adapted: Any, folder: Path) -> None:
    """Raises RunError where PEFT's model of a base model and an adapter did not get all tensors that it has room for, or
    not all of the file's, or some that are not finite: PEFT itself leaves out what is missing without a word."""
    from peft import get_peft_model_state_dict

    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    found = read_header(folder, _WEIGHTS).keys()
    # Whole weights of the base model may lie beside: PEFT writes the embeddings where their number was changed.
    base = {f"base_model.model.{name}" for name in adapted.get_base_model().state_dict()}
    check_tensors(folder, expected=wanted.keys(), found=found - (base - wanted.keys()))
    for name, tensor in wanted.items():
        if not bool(tensor.isfinite().all()):
            raise RunError(
                f"{folder / _WEIGHTS}: {name} holds numbers that are not finite (NaN or infinite): the adapter is damaged; "
                "copy the folder anew, or train again"
            )


def check_merged(model: Any, layers: Collection[str], folder: Path) -> None:
    """Raises RunError where an adapter made weights of these layers infinite or NaN."""
    for name in layers:
        weight = getattr(model.get_submodule(name), "weight", None)
        if weight is not None and weight.is_floating_point() and not bool(weight.isfinite().all()):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise RunError(
                f"{folder}: with the adapter the weights of {name} are not finite in {dtype}: "
                "its numbers, or lora_alpha in adapter_config.json, are too large; use float32, or restore the files"
            )


def _size(layer: Any, factor: str) -> tuple[int | None, int]:
    """How many numbers a layer takes (A) or gives (B), and which dimension of the factor that is; None where it is unknown."""
    own = {"A": ("in_features", "nx"), "B": ("out_features", "nf")}[factor]  # nx, nf: GPT-2's Conv1D
    size = next((getattr(layer, name) for name in own if isinstance(getattr(layer, name, None), int)), None)
    return size, 1 if factor == "A" else 0
