"""adapter_config.json and config.json: types, sane sizes, and nothing that makes a library import or download code."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nertune.errors import RunError
from nertune.safety.files import MEGABYTE, read_json
from nertune.safety.trust import remote_code_trusted

__all__ = ["ADAPTER_CONFIG", "AdapterConfig", "check_no_code", "check_sizes", "read_adapter_config"]

ADAPTER_CONFIG = "adapter_config.json"
_LARGEST_RANK = 65_536
_LARGEST_ALPHA = 1_000_000
_LARGEST_SIZE = 2**31
_MOST_LAYERS = 10_000
_MOST_NAMES = 10_000
# Names, and what PEFT writes for experts that lie in one tensor: `.*\.gate_up_proj`. One star is at most quadratic.
_NAME_PATTERN = re.compile(r"\^?(?:\.\*)?(?:\\\.|[\w.])*")
# What PEFT 0.21 writes for LoRA. Other keys are of versions of the future, and of kinds of adapters that they bring.
# fmt: off
_KEYS = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path", "bias",
    "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "kasa_config", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "modules_to_save",
    "monteclora_config", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision",
    "runtime_config", "target_modules", "target_parameters", "task_type", "trainable_token_indices", "use_bdlora",
    "use_dora", "use_qalora", "use_rslora", "velora_config",
})
# fmt: on
# Kinds of LoRA that act otherwise than by a sum, or only on some tokens: merged or not, they would give other answers.
_OTHER_KINDS = {
    "alora_invocation_tokens": "an activated LoRA (aLoRA), which acts only after its invocation tokens",
    "arrow_config": "a router among adapters (Arrow)",
    "kasa_config": "a KaSA adapter",
    "monteclora_config": "a MonteCLoRA adapter",
    "use_bdlora": "a block-diagonal LoRA (BD-LoRA)",
    "use_qalora": "a QALoRA adapter",
    "velora_config": "a VeLoRA adapter",
}
# Ways to draw the first weights that leave the base model as it is; others change it when PEFT loads the adapter.
_HARMLESS_STARTS = ("gaussian", "orthogonal", "eva")
_SIZES: tuple[str, ...]
_SIZES = ("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim")
_SIZES += ("max_position_embeddings", "n_embd", "n_head", "n_positions", "num_experts", "num_local_experts")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")


class AdapterConfig(NamedTuple):
    """What nertune reads of PEFT's adapter_config.json; `rank` is the largest of its layers' ranks."""

    kind: str
    base_model: str | None
    rank: int
    targets: str | tuple[str, ...]
    dora: bool
    modules_to_save: tuple[str, ...]
    bias: str
    value: Mapping[str, Any]


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises RunError where it is missing, damaged, of absurd size, or asks for what is not loaded here."""
    path = folder / ADAPTER_CONFIG
    value = read_json(folder, ADAPTER_CONFIG, limit=MEGABYTE)
    if value is None:
        raise RunError(f"{folder}: {ADAPTER_CONFIG} is missing; restore it or train again")
    try:
        _check_code(value)
        return _adapter_config(value)
    except _RefusedError as refused:
        raise RunError(f"{path}: {refused}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); restore it or train again") from error


class _RefusedError(Exception):
    """A file that is well formed and not to be loaded."""


def _check_code(value: Mapping[str, Any]) -> None:
    """PEFT imports the module that `megatron_core` or `parent_library` names."""
    if value.get("megatron_config") is not None:
        raise _RefusedError("megatron_config makes PEFT import a module of the file's choice, so it is not loaded")
    mapping = value.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else None
    if library is not None and not (
        isinstance(library, str) and re.fullmatch(r"(transformers|torch)(\.\w+)*", library)
    ):
        raise _RefusedError(f"auto_mapping names the module {library!r:.60}, which is none of transformers'")
    if value.get("auto_map"):
        raise _RefusedError("auto_map names code of its own, which is never run for an adapter; remove the key")
    start = value.get("init_lora_weights", True)
    if not isinstance(start, bool) and start not in _HARMLESS_STARTS:
        raise _RefusedError(
            f"init_lora_weights {start!r:.40} changes the base model when it is loaded; convert the adapter to plain LoRA"
        )
    for key, found in value.items():
        if found and key in _OTHER_KINDS:
            raise _RefusedError(f"{key} makes it {_OTHER_KINDS[key]}, which is not available here")
        if found and key not in _KEYS:
            raise _RefusedError(
                f"{key:.60} is no setting that is known here (PEFT {value.get('peft_version') or 'of another version'!s:.20} "
                "wrote it), and may make it another kind of adapter. If it means nothing for this one, remove the key"
            )
    if value.get("layer_replication"):
        raise _RefusedError("layer_replication makes another model of its base; it is not available here")


def _adapter_config(value: Mapping[str, Any]) -> AdapterConfig:
    kind, base = _text(value, "peft_type"), value.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise TypeError(f"base_model_name_or_path is {base!r:.40}, not a name")
    if kind != "LORA":
        raise _RefusedError(f"an adapter of the kind {kind!r:.40}; only LoRA is loaded")
    targets = value["target_modules"]
    if not isinstance(targets, str):
        targets = tuple(_names(value, "target_modules"))
    elif len(targets) > 1000:
        raise ValueError(f"target_modules has {len(targets):,} characters")
    ranks = [_rank(value["r"], "r"), *(_rank(rank, "rank_pattern") for rank in _pattern(value, "rank_pattern"))]
    for alpha in (value["lora_alpha"], *_pattern(value, "alpha_pattern")):
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
            raise TypeError(f"lora_alpha is {alpha!r:.40}, not a number")
        if not 0 < alpha <= _LARGEST_ALPHA:
            raise ValueError(f"lora_alpha is {alpha:g}, and it is above 0 and at most {_LARGEST_ALPHA:,}")
    for key in ("use_dora", "use_rslora", "lora_bias"):
        if not isinstance(value.get(key) or False, bool):
            raise TypeError(f"{key} is {value[key]!r:.40}, neither true nor false")
    return AdapterConfig(
        kind=kind,
        base_model=base,
        rank=max(ranks),
        targets=targets,
        dora=bool(value.get("use_dora")),
        modules_to_save=tuple(_names(value, "modules_to_save")),
        bias="lora_bias" if value.get("lora_bias") else str(value.get("bias") or "none"),
        value=value,
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    if not isinstance(value[key], str):
        raise TypeError(f"{key} is {value[key]!r:.40}, not a text")
    return str(value[key])


def _names(value: Mapping[str, Any], key: str) -> list[str]:
    names = value.get(key) or []
    if not isinstance(names, list) or len(names) > _MOST_NAMES:
        raise TypeError(f"{key} is {names!r:.40}, not a list of names")
    if not all(isinstance(name, str) and len(name) <= 1000 for name in names):
        raise TypeError(f"{key} holds something else than names")
    return names


def _pattern(value: Mapping[str, Any], key: str) -> list[Any]:
    pattern = value.get(key) or {}
    if not isinstance(pattern, dict) or len(pattern) > _MOST_NAMES:
        raise TypeError(f"{key} is {pattern!r:.40}, not a rank or alpha by name")
    if not all(_NAME_PATTERN.fullmatch(name) for name in pattern):
        raise _RefusedError(f"{key} names layers by a regular expression, which can take for ever; name them in full")
    return list(pattern.values())


def _rank(rank: Any, key: str) -> int:
    if type(rank) is not int:
        raise TypeError(f"{key} is {rank!r:.40}, not a rank")
    if not 0 < rank <= _LARGEST_RANK:
        raise ValueError(f"{key} is {rank!r:.40}, and a rank is from 1 to {_LARGEST_RANK:,}")
    return rank


def check_no_code(path: Path, value: Mapping[str, Any]) -> None:
    """Raises RunError for a configuration that names code of its folder's own or on a hub, unless the user trusts it."""
    if remote_code_trusted():
        return
    for where in (value, *(part for part in value.values() if isinstance(part, dict))):
        if where.get("auto_map"):
            raise RunError(
                f"{path}: auto_map names code that comes with the model, and such code is not run unless you say so: "
                "--trust-remote-code. If transformers knows the model without it, as most, remove auto_map from the file"
            )
        for key, found in where.items():
            if key.endswith(("attn_implementation", "experts_implementation")) and "/" in str(found):
                raise RunError(
                    f"{path}: {key} {found!r:.80} is code on a hub, and such code is not run unless you say so: "
                    "--trust-remote-code. Or remove the key"
                )
    if value.get("custom_generate") or value.get("custom_pipelines"):
        raise RunError(f"{path}: it names code that comes with the model, which is not run; remove the key custom_…")


def check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    """Raises RunError for numbers of a model's config.json that no model has."""
    for part in (config, *(part for part in config.values() if isinstance(part, dict))):
        for keys, largest in ((_SIZES, _LARGEST_SIZE), (_LAYERS, _MOST_LAYERS)):
            for key in keys:
                found = part.get(key)
                if (
                    found is not None
                    and not isinstance(found, list)
                    and not (type(found) is int and 0 <= found <= largest)
                ):
                    raise RunError(f"{path}: {key} is {found!r:.40}, which no model has; restore the file")
