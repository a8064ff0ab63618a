"""Learning rates by parameter group: LoRA+ (Hayou et al. 2024, arXiv 2402.12354)."""

from __future__ import annotations

from typing import Any

__all__ = ["raise_rate_of_b"]


def raise_rate_of_b(optimizer: Any, model: Any, ratio: float) -> None:
    """Give the B matrices, and vectors, of LoRA layers `ratio` times the learning rate of everything else.

    Groups are split, so weight decay stays what it was and a scheduler made afterwards moves all rates together. To be
    called before the first step.
    """
    faster = {
        id(parameter) for name, parameter in model.named_parameters() if ".lora_B." in name or parameter.ndim == 1
    }
    for group in list(optimizer.param_groups):
        chosen = [parameter for parameter in group["params"] if id(parameter) in faster]
        if chosen:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in faster]
            optimizer.add_param_group({**group, "params": chosen, "lr": group["lr"] * ratio})
