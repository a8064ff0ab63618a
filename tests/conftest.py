"""Tiny seeded models of real architectures, made in the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

SIZES = {
    "vocab_size": 160,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# A sliding window shorter than the rows of every test that uses these models.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "llama": ("Llama", {}),
    "phi3": ("Phi3", {}),
    "phi3-window": ("Phi3", {"sliding_window": 6}),
    "mistral-window": ("Mistral", {"sliding_window": 6}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma3": (
        "Gemma3Text",
        {
            "head_dim": 16,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 16,
        },
    ),
}


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[str], Any]:
    """A function from a family's name to a fresh model in evaluation mode, equal weights each time."""

    def build(family: str, **changes: Any) -> Any:
        prefix, own = FAMILIES[family]
        config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **own, **changes})
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
        return model.eval()

    return build
