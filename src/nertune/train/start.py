"""Adapters that continue from adapters: `lora.from` names a run, or any folder of a PEFT LoRA adapter.

Its weights are where training starts; optimizer, schedule and data are the recipe's own. To go on with an interrupted
training is another thing: --resume.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nertune.errors import InputError, MissingFileError, RunError
from nertune.files import parse_json
from nertune.run import MANIFEST, RunManifest, check_weights
from nertune.train.recipe import Recipe

__all__ = ["fill_in", "load_start"]

# Keys of the section `lora` and what PEFT calls them.
_PEFT = {"rank": "r", "alpha": "lora_alpha", "rslora": "use_rslora", "dora": "use_dora"}


def fill_in(recipe: Recipe) -> Recipe:
    """The recipe with what it leaves open about its adapter taken from the one it starts from; as it is without one.

    Raises InputError with every disagreement, MissingFileError or RunError where there is no usable adapter.
    """
    lora = recipe.lora
    if lora.start is None:
        return recipe
    folder = Path(lora.start)
    if not folder.is_dir():
        raise MissingFileError(f"lora.from: {lora.start}: no such folder (looked for {folder.absolute()})")
    check_weights(folder)
    adapter = _config(folder)
    problems = [] if _same_model(recipe.model, adapter["base_model_name_or_path"]) else [_another_base(recipe, adapter)]
    found = {ours: adapter.get(theirs, False) for ours, theirs in _PEFT.items()}
    targets = adapter["target_modules"]
    # all-linear said by both is compared by the layers themselves, when the weights are loaded.
    if isinstance(targets, list) and lora.targets != "all-linear":
        found["targets"] = tuple(sorted(targets))
    given = lora.model_dump() | {"targets": tuple(sorted(lora.targets))}
    problems += [
        f"lora.{key}: the recipe says {given[key]!r}, the adapter {value!r}; leave the key out to take the adapter's"
        for key, value in found.items()
        if key in lora.model_fields_set and given[key] != value
    ]
    if "targets" not in lora.model_fields_set:
        if not isinstance(targets, list):
            raise InputError(f"lora.from: {folder} names its layers by a pattern ({targets!r:.60}); list lora.targets")
        found["targets"] = tuple(sorted(targets))
    tokens = RunManifest.read(folder).tokens if (folder / MANIFEST).is_file() else ()
    if recipe.tokens and recipe.tokens != tokens:
        problems.append(f"tokens: the recipe adds {list(recipe.tokens)}, the adapter was trained with {list(tokens)}")
    if problems:
        raise InputError(f"lora.from: {folder} does not fit the recipe\n" + "\n".join(f"  {line}" for line in problems))
    return recipe.model_copy(update={"lora": lora.model_copy(update=found), "tokens": tokens})


def load_start(model: Any, folder: Path) -> None:
    """Put the weights of an adapter into a PEFT model that was built alike.

    Raises RunError where a layer of the one is not in the other, or has another shape.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / "adapter_model.safetensors")
    except (SafetensorError, OSError) as error:
        raise RunError(f"lora.from: {folder / 'adapter_model.safetensors'} cannot be read: {error}") from error
    here = model.peft_config["default"].to_dict()
    adapter = _config(folder)
    for key in ("rank_pattern", "alpha_pattern", "layer_replication"):
        if (adapter.get(key) or None) != (here.get(key) or None):
            raise RunError(f"lora.from: {folder / 'adapter_config.json'}: {key} is not available here")
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing, unknown = sorted(wanted.keys() - weights), sorted(weights.keys() - wanted)
    if missing or unknown:
        what = f"it lacks {missing[0]}" if missing else f"it holds {unknown[0]}, which is not trained here"
        raise RunError(f"lora.from: {folder} has other layers than lora.targets and tokens ask for: {what}")
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            raise RunError(
                f"lora.from: {folder} was made for another model: {name} is {tuple(weight.shape)} there and "
                f"{tuple(wanted[name].shape)} here"
            )
    set_peft_model_state_dict(model, weights)


def _config(folder: Path) -> dict[str, Any]:
    """PEFT's description of an adapter that this training could have written, as far as weights do not show it."""
    path = folder / "adapter_config.json"
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
        adapter = {**value, "base_model_name_or_path": value["base_model_name_or_path"] or ""}
        kind = (adapter["peft_type"], adapter["r"], adapter["lora_alpha"], adapter["target_modules"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"lora.from: {path} is damaged ({type(error).__name__}: {error})") from error
    if kind[0] != "LORA":
        raise RunError(f"lora.from: {path}: an adapter of the kind {kind[0]}; only LoRA can be continued")
    return adapter


def _same_model(ours: str, theirs: str) -> bool:
    """Whether two names can mean one model: equal, or a folder and a hub name that end alike."""
    return ours == theirs or Path(ours).name.casefold() == Path(theirs).name.casefold() != ""


def _another_base(recipe: Recipe, adapter: dict[str, Any]) -> str:
    theirs = adapter["base_model_name_or_path"] or "a model that it does not name"
    return (
        f"model: the recipe trains {recipe.model}, the adapter was made for {theirs}; if both are the same model under "
        "two names, give it the name in adapter_config.json"
    )
