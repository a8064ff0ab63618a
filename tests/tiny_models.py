"""More tiny seeded models than conftest.py has: other layouts of attention, and models that cannot share a prefix."""

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
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
# Windows, where there are any, are shorter than every row of the tests.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-neox": ("GPTNeoX", {}),
    "gpt2": ("GPT2", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "gemma2": (
        "Gemma2",
        {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "attn_logit_softcapping": 1.0},
    ),
    "gemma2-uncapped": (
        "Gemma2",
        {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "attn_logit_softcapping": None},
    ),
    "gemma3-tied": (
        "Gemma3Text",
        {
            "head_dim": 16,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "query_pre_attn_scalar": 16,
            "tie_word_embeddings": True,
        },
    ),
    # Its attention hides what lies beyond the window by a mask alone and does not tell how long the window is.
    "qwen2-moe-window": (
        "Qwen2Moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "use_sliding_window": True,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "qwen3-next": ("Qwen3Next", {**LINEAR, "num_experts": 0, "mlp_only_layers": [0, 1, 2, 3]}),
    "qwen3.5": ("Qwen3_5Text", LINEAR),
    "falcon-h1": ("FalconH1", {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8}),
    "jamba": ("Jamba", {"num_experts": 1, "mamba_d_state": 4, "attn_layer_period": 2, "attn_layer_offset": 1}),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    "mamba": ("Mamba", {"state_size": 4}),
}


def build(name: str, **changes: Any) -> Any:
    """A fresh model in evaluation mode, equal weights each time, on the attention that transformers chooses."""
    prefix, own = OTHERS[name]
    config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **own, **changes})
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def other_model() -> Callable[..., Any]:
    """A function from a name of OTHERS to a fresh model."""
    return build
