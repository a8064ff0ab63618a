"""FSDP and DeepSpeed, which take a model's weights over: asked for by `accelerate launch`, recognized by its environment.

Such an engine moves, casts or shards every weight that it finds in the model. So there the model is built on the CPU, keeps
its own output layer (`heads.py` reads the whole of it at once), and the adapter is put together from all processes at the end.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from torch import Tensor

from nertune.errors import InputError

__all__ = ["adapter_weights", "check_engine", "engine", "is_sharded"]

Engine = Literal["fsdp", "deepspeed"]


def engine() -> Engine | None:
    """The engine that will hold the weights; None for one process and for plain data parallelism."""
    names: tuple[tuple[str, Engine], ...] = (("ACCELERATE_USE_FSDP", "fsdp"), ("ACCELERATE_USE_DEEPSPEED", "deepspeed"))
    return next((found for name, found in names if os.environ.get(name, "").lower() in ("1", "true", "yes")), None)


def check_engine(*, loss_vocabulary: str) -> None:
    """Raises InputError for an engine, or a loss, that cannot be used with LoRA on a frozen base."""
    found = engine()
    if found == "fsdp" and os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError(
            "FSDP 1 wants trained and frozen weights of one type: say fsdp_version: 2 in accelerate's file"
        )
    if found and loss_vocabulary == "sampled":
        raise InputError(
            f"training.loss_vocabulary: sampled needs the whole output layer, which {found} takes apart; use full"
        )


def is_sharded(weight: Any) -> bool:
    """Whether a parameter holds a part of its values only: a DTensor of FSDP 2, or a parameter that ZeRO-3 took apart."""
    return hasattr(weight, "ds_id") or hasattr(weight, "full_tensor")


def adapter_weights(model: Any) -> dict[str, Tensor] | None:
    """The trained weights, whole and on the CPU, by parameter name; None where the model itself has them whole.

    A collective: every process must call it.
    """
    found = engine()
    if found is None:
        return None
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if found == "deepspeed" and any(is_sharded(weight) for weight in trained.values()):
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(trained.values())):
            return {name: weight.detach().cpu().clone() for name, weight in trained.items()}
    whole = {name: weight.full_tensor() if is_sharded(weight) else weight for name, weight in trained.items()}
    return {name: weight.detach().cpu() for name, weight in whole.items()}
