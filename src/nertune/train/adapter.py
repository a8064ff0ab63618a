"""The trainable part of a model: LoRA layers on a frozen base."""

from __future__ import annotations

from typing import Any

from nertune.errors import InputError
from nertune.train.dropout import replace_lora_dropout
from nertune.train.recipe import Recipe

__all__ = ["prepare_model"]


def prepare_model(model: Any, recipe: Recipe) -> tuple[Any, bool]:
    """The model with LoRA layers, and whether it computes shared prefixes once."""
    from peft import LoraConfig, TaskType, get_peft_model

    from nertune.models.attention import can_share_prefix
    from nertune.train.lora import fuse_lora

    packed = can_share_prefix(model.train())
    lora = recipe.lora
    targets: str | list[str] = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    if not isinstance(targets, str):
        modules = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        missing = sorted(set(targets) - modules)
        if missing:
            raise InputError(f"lora.targets: {', '.join(missing)} not in {recipe.model}; use all-linear")
    if recipe.training.gradient_checkpointing:
        model.enable_input_require_grads()
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        base_model_name_or_path=recipe.model,
    )
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"lora.targets: {targets} does not fit {recipe.model}: {error}") from error
    replace_lora_dropout(model)
    fuse_lora(model)
    return model, packed
