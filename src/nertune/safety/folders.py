"""A whole folder before a library reads it: an adapter, a model, or a tokenizer. See the package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nertune.errors import RunError
from nertune.safety.configs import ADAPTER_CONFIG, AdapterConfig, check_no_code, check_sizes, read_adapter_config
from nertune.safety.files import MEGABYTE, check_depth, check_link, read_json, regular_file
from nertune.safety.headers import Tensor, read_header

__all__ = ["check_adapter", "check_model", "check_tokenizer", "weight_files"]

_ADAPTER, _MODEL = "adapter_model.safetensors", "model.safetensors"
_INDEX = "model.safetensors.index.json"
_TEMPLATE, _TEMPLATES = "chat_template.jinja", "additional_chat_templates"
# Configurations that transformers reads, and that can name code.
_CONFIGS: tuple[str, ...]
_CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json", "processor_config.json")
_CONFIGS += ("preprocessor_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json")
_VOCABULARIES = ("tokenizer.json", "vocab.json")
_TOKENIZER_BYTES = 200 * MEGABYTE
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})\.")


def check_adapter(folder: Path) -> AdapterConfig:
    """An adapter's folder: its weights, their header, its configuration, and that the two agree.

    Raises RunError with the file that is missing, damaged, or not to be loaded.
    """
    _need(folder, _ADAPTER, "adapter_model.bin")
    config = read_adapter_config(folder)
    header = read_header(folder, _ADAPTER)
    ranks = {tensor.shape[0] for name, tensor in header.items() if ".lora_A" in name and tensor.shape}
    # A pattern may name layers that are not there: PEFT writes some for experts whether or not they are trained.
    patterned = bool(config.value.get("rank_pattern"))
    if ranks and (max(ranks) > config.rank or (max(ranks) < config.rank and not patterned)):
        raise RunError(
            f"{folder / ADAPTER_CONFIG}: it says rank {config.rank}, and the weights have rank {max(ranks)}; restore it"
        )
    check_tokenizer(folder)
    return config


def check_model(folder: Path) -> dict[str, Tensor]:
    """A whole model's folder: its weights, their headers, its configuration, and that the two agree. Returns the tensors.

    Raises RunError with the file that is missing, damaged, or not to be loaded.
    """
    check_tokenizer(folder)
    if (folder / ADAPTER_CONFIG).exists():
        raise RunError(f"{folder}: holds an adapter ({ADAPTER_CONFIG}), so it is no base model; name the model itself")
    files = weight_files(folder)
    tensors = {name: tensor for file in files for name, tensor in read_header(folder, file).items()}
    config = read_json(folder, "config.json")
    if config is None:
        raise RunError(f"{folder}: config.json is missing; restore it or train again")
    if "transformers_weights" in config:
        raise RunError(f"{folder / 'config.json'}: transformers_weights is not taken; call the file {_MODEL}")
    check_sizes(folder / "config.json", config)
    _check_agreement(folder, config, tensors)
    return tensors


def check_tokenizer(folder: Path) -> None:
    """The files beside the weights: no link leaves the folder, and no configuration names code of its own."""
    for path in sorted([*folder.iterdir(), *(folder / _TEMPLATES).glob("*")]):
        if path.name == _TEMPLATES or not path.is_dir():  # no library looks into other folders
            check_link(folder, path)
    for name in _CONFIGS:
        value = read_json(folder, name)
        if value is not None:
            check_no_code(folder / name, value)
    for name in _VOCABULARIES:
        check_depth(folder, name, limit=_TOKENIZER_BYTES)
    templates = [f"{_TEMPLATES}/{path.name}" for path in (folder / _TEMPLATES).glob("*")]
    for names, limit in ((("tokenizer.model", "merges.txt"), _TOKENIZER_BYTES), ((_TEMPLATE, *templates), MEGABYTE)):
        for name in names:
            found = regular_file(folder, name)
            if found is not None and found.stat().st_size > limit:
                raise RunError(f"{found}: {found.stat().st_size:,} bytes are no tokenizer's; restore it")


def weight_files(folder: Path) -> list[str]:
    """The names of a model's safetensors files, those of its index where it has one. Raises RunError."""
    if regular_file(folder, _MODEL) is not None:
        return [_MODEL]
    index = read_json(folder, _INDEX, limit=50_000_000, strict=True)
    if index is None:
        _need(folder, _MODEL, "pytorch_model.bin")
    by_tensor = (index or {}).get("weight_map")
    if not isinstance(by_tensor, dict) or not by_tensor:
        raise RunError(f"{folder / _INDEX}: damaged (no weight_map); restore it")
    names: dict[str, None] = {}
    for tensor, name in by_tensor.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise RunError(
                f"{folder / _INDEX}: tensor {tensor!r:.60} lies in {name!r:.80}, and only safetensors files of this very "
                "folder are read"
            )
        names[name] = None
    for name in names:
        missing = {tensor for tensor, file in by_tensor.items() if file == name} - read_header(folder, name).keys()
        if missing:
            raise RunError(f"{folder / _INDEX}: tensor {min(missing)!r:.60} is not in {name}; restore both")
    return list(names)


def _need(folder: Path, weights: str, pickle: str) -> None:
    """Raises RunError where the weights are not there; says so where they are there as a pickle."""
    if regular_file(folder, weights) is None:
        pickled = (folder / pickle).exists()
        found = f"only {pickle}, which is not loaded because it can run code" if pickled else "no weights"
        raise RunError(f"{folder}: needs {weights}, found {found}")


def _check_agreement(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raises RunError for a configuration of more or wider layers than the weights have, which would be made up at random."""
    text = config.get("text_config")
    part = text if isinstance(text, dict) else config
    numbers = [int(found[1]) for name in tensors if (found := _LAYER.search(name))]
    layers = part.get("num_hidden_layers", part.get("n_layer"))
    if numbers and isinstance(layers, int) and layers > max(numbers) + 1:
        raise RunError(
            f"{folder / 'config.json'}: {layers:,} layers, and the weights have {max(numbers) + 1}; restore it"
        )
    width = part.get("hidden_size", part.get("n_embd"))
    if isinstance(width, int) and not any(width in tensor.shape for tensor in tensors.values()):
        raise RunError(f"{folder / 'config.json'}: no weight is {width:,} wide, as hidden_size says; restore it")
