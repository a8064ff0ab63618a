"""A LoRA adapter as PEFT writes it, read without PEFT: the low-rank part of each module that it changes.

Weights come from safetensors alone, and nothing in the folder is believed: a pattern is compared, never run as an
expression, and what the configuration asks for beyond the plain low-rank product is refused instead of left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nertune.errors import RunError
from nertune.files import parse_json
from nertune.safety import read_header

__all__ = ["LowRank", "read_lora", "why_alone"]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
_LARGEST_CONFIG = 1 << 20  # bytes

# Keys of PEFT's configuration that change nothing once the weights are known, and those that are read here.
# fmt: off
_PLAIN = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_core",
    "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_rslora",
}
# fmt: on
# Ways to begin that leave the base model's weights as they are; the others (PiSSA, OLoRA, ...) are trained on changed ones.
_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
_CALLED = {
    "use_dora": "DoRA",
    "modules_to_save": "whole modules beside it (modules_to_save)",
    "trainable_token_indices": "trained token embeddings",
    "lora_bias": "biases of its own (lora_bias)",
    "target_parameters": "parameters that are no layers (target_parameters)",
}


class LowRank(NamedTuple):
    """What an adapter adds to one linear layer: `scale` B A x, of rank R (Hu et al. 2021, arXiv 2106.09685)."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float


def why_alone(folder: str | Path) -> str | None:
    """What keeps the adapter in a folder from being served beside others; None where nothing does.

    Raises RunError where its configuration cannot be read.
    """
    config = _config(Path(folder))
    if config.get("peft_type") != "LORA":
        return f"it is of PEFT's type {config.get('peft_type')!r:.40}, not LORA"
    if config.get("bias", "none") != "none":
        return f"it has trained biases (bias: {config['bias']!r:.40})"
    if config.get("init_lora_weights") not in _BEGINNINGS:
        return f"it was trained on changed weights (init_lora_weights: {config['init_lora_weights']!r:.40})"
    for key, value in config.items():
        if value and key not in _PLAIN:
            return f"it has {_CALLED.get(key, f'PEFT’s {key:.40}')}"
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(key) or {}
        if not all(name.removeprefix("^").replace(".", "_").isidentifier() for name in patterns):
            return f"its {key} has expressions where module names are expected"
    return None


def read_lora(folder: str | Path) -> dict[str, LowRank]:
    """The low-rank parts by the name of their module in the base model, in the file's own types.

    Raises RunError for a folder that is damaged or unsafe, and for adapters that are more than low-rank products.
    """
    folder = Path(folder)
    reason = why_alone(folder)
    if reason is not None:
        raise RunError(
            f"{folder}: {reason}, so it cannot be served beside other adapters or its base model. Serve it alone, merged"
        )
    config = _config(folder)
    weights = _inside(folder, WEIGHTS)
    read_header(folder, WEIGHTS)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _tensors(weights).items():
        module, side = _module_and_side(folder, key)
        if tensor.ndim != 2 or not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise RunError(f"{folder / WEIGHTS}: {key:.200} is no matrix of finite numbers; restore it or train again")
        pairs.setdefault(module, {})[side] = tensor
    if not pairs:
        raise RunError(f"{folder / WEIGHTS}: holds no weights; restore it or train again")
    return {module: _low_rank(folder, config, module, pair) for module, pair in pairs.items()}


def _low_rank(folder: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, Tensor]) -> LowRank:
    if len(pair) < 2:
        raise RunError(f"{folder / WEIGHTS}: lora_{next(iter(pair))} of {module:.200} stands alone; restore the file")
    a_RI, b_OR = pair["A"], pair["B"]
    rank = _number(folder, "r", _of_module(config, "rank_pattern", module, config.get("r")))
    alpha = _number(folder, "lora_alpha", _of_module(config, "alpha_pattern", module, config.get("lora_alpha")))
    if not len(a_RI) == b_OR.shape[1] == rank:
        raise RunError(
            f"{folder}: {module:.200} has matrices of rank {len(a_RI)} and {b_OR.shape[1]}, and {CONFIG} says "
            f"{rank:g}: the two files are not of one adapter"
        )
    return LowRank(a_RI, b_OR, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _of_module(config: Mapping[str, Any], key: str, module: str, default: Any) -> Any:
    """A module's own value: PEFT takes the first pattern that the name ends with, or with ^ is."""
    for name, value in (config.get(key) or {}).items():
        if module == name.removeprefix("^") or module.endswith(f".{name}"):
            return value
    return default


def _number(folder: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise RunError(f"{folder / CONFIG}: {key} is {value!r:.40}, not a number above 0; restore it or train again")
    return value


def _module_and_side(folder: Path, key: str) -> tuple[str, str]:
    for side in ("A", "B"):
        tail = f".lora_{side}.weight"
        if key.startswith(_PREFIX) and key.endswith(tail):
            return key[len(_PREFIX) : -len(tail)], side
    raise RunError(
        f"{folder / WEIGHTS}: holds {key!r:.200}, which is no low-rank part of a linear layer, so the adapter cannot be "
        "served beside others or its base model. Serve it alone, merged"
    )


def _config(folder: Path) -> dict[str, Any]:
    path = _inside(folder, CONFIG)
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError("larger than a megabyte")
        config = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError("no JSON object")
        for key in ("rank_pattern", "alpha_pattern"):
            if not isinstance(config.get(key) or {}, dict):
                raise TypeError(f"{key} is no JSON object")
        return config
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise RunError(
            f"{path}: damaged ({type(error).__name__}: {error!s:.200}); train again or restore it"
        ) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path}: damaged ({error!s:.200}); train again or restore it") from error


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder. Raises RunError where it is missing, or a link to a file elsewhere."""
    path = folder / name
    if not path.is_file():
        raise RunError(f"{folder}: needs {name}, which is missing; restore it or train again")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunError(f"{path}: a link that leaves the folder; put the file itself there")
    return path
