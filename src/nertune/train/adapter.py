"""What is trained of a model: LoRA layers on a frozen base, rows of added tokens beside them, or every weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nertune.errors import InputError
from nertune.models import load_model
from nertune.train import ranks
from nertune.train.dropout import replace_lora_dropout
from nertune.train.recipe import Recipe
from nertune.train.sharded import engine
from nertune.train.start import load_start

__all__ = ["inner_model", "load_base", "mixed_precision", "prepare_model", "save_weights"]


def load_base(recipe: Recipe) -> Any:
    """The recipe's model, on this process's own device; an engine that takes weights over takes them from the CPU.

    Where the model is trained itself it is in float32: steps are lost in bfloat16's eight bits.
    """
    import torch

    settings = recipe.training
    dtype = "float32" if recipe.method == "full" else settings.dtype
    device = ranks.device()
    if engine() is not None:
        device = "cpu"
        dtype = "bfloat16" if torch.cuda.is_available() and dtype == "auto" else dtype
    return load_model(recipe.model, dtype=dtype, quantize=settings.quantize, device=device)


def mixed_precision(recipe: Recipe) -> bool:
    """Whether float32 weights are computed with in bfloat16 (autocast)."""
    import torch

    dtype = recipe.training.dtype
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"
    return recipe.method == "full" and dtype == "bfloat16"


def prepare_model(model: Any, recipe: Recipe, *, token_ids: Sequence[int] = ()) -> tuple[Any, bool]:
    """The model ready to train, and whether it computes shared prefixes once.

    `token_ids`: rows of embeddings and output layer to train besides the adapter.
    """
    from nertune.models.attention import can_share_prefix
    from nertune.train.lora import fuse_lora

    packed = can_share_prefix(model.train())
    if recipe.training.gradient_checkpointing:
        model.enable_input_require_grads()
    if recipe.method == "full":
        return model.requires_grad_(True), packed
    model = _with_lora(model, recipe, token_ids)
    replace_lora_dropout(model)
    fuse_lora(model)
    if recipe.lora.start is not None:
        load_start(model, Path(recipe.lora.start))
    return model, packed


def inner_model(model: Any) -> Any:
    """The transformers model, out of PEFT's wrapping where it is in one."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def save_weights(model: Any, recipe: Recipe, folder: Path, weights: Mapping[str, Any] | None = None) -> None:
    """The adapter alone, added tokens' rows with it; or a whole model, where that was trained.

    `weights`: the trained ones by name, where the model holds a part of them only. A model that was computed with in
    bfloat16 is saved in it.
    """
    import torch

    if mixed_precision(recipe):
        model = model.to(torch.bfloat16)
    model.save_pretrained(str(folder), safe_serialization=True, state_dict=weights)


def _with_lora(model: Any, recipe: Recipe, token_ids: Sequence[int]) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    lora = recipe.lora
    targets: str | list[str] = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    if not isinstance(targets, str):
        modules = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        missing = sorted(set(targets) - modules)
        if missing:
            raise InputError(f"lora.targets: {', '.join(missing)} not in {recipe.model}; use all-linear")
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        trainable_token_indices=_token_layers(model, recipe, token_ids) if token_ids else None,
        base_model_name_or_path=recipe.model,
    )
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"lora.targets: {targets} does not fit {recipe.model}: {error}") from error
    # PEFT would add whole embeddings to every checkpoint where there are rows for added tokens, which are saved anyway.
    model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
    return model


def _token_layers(model: Any, recipe: Recipe, token_ids: Sequence[int]) -> dict[str, list[int]]:
    """The layers that hold a row for every token; the embeddings alone where the output layer is tied to them."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise InputError(f"tokens: the output layer of {recipe.model} has a bias, so its rows cannot be trained alone")
    names = {id(module): name for name, module in model.named_modules()}
    layers = [embeddings] if head.weight is embeddings.weight else [embeddings, head]
    if len(layers) == 1 and not model.config.tie_word_embeddings:
        raise InputError(f"tokens: {recipe.model} shares its embeddings with its output layer and does not say so")
    return {names[id(layer)]: list(token_ids) for layer in layers}
