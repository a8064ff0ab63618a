"""The packed row's loss and gradients are those of the plain padded batch, for every family."""

from __future__ import annotations

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model

from nertune.models.attention import PackedRow, can_share_prefix
from nertune.prompt import Row
from nertune.train.batches import collate_packed, collate_padded
from nertune.train.heads import loss_head
from nertune.train.objective import packed_loss_sum, padded_loss_sum

FAMILIES = ["qwen2", "llama", "phi3", "phi3-window", "mistral-window", "qwen3", "gemma3"]


def _rows(prefix: int, suffixes: list[tuple[int, int]], seed: int = 0) -> list[Row]:
    """Rows with a common prefix; each suffix has (prompt tokens, trained tokens)."""
    draw = random.Random(seed)
    common = [draw.randrange(3, 160) for _ in range(prefix)]
    rows = []
    for number, (prompt, trained) in enumerate(suffixes):
        own = [3 + number, *(draw.randrange(3, 160) for _ in range(prompt + trained - 1))]
        rows.append(Row(common + own, [0] * (prefix + prompt) + [1] * trained))
    return rows


ROWS = {
    "many": _rows(9, [(3, 7), (1, 2), (6, 4), (2, 11)]),
    "one": _rows(9, [(3, 7)]),
    "short prefix": _rows(1, [(4, 3), (2, 9)]),
    "no prefix": _rows(0, [(4, 3), (2, 9)]),
}
# As loss_tokens: free leaves them: trained here and there, and one not at all.
ROWS["gaps"] = [
    Row(row.ids_T, [flag * kept for flag, kept in zip(row.loss_mask_T, [0] * 13 + [1, 0, 0, 1, 1, 0, 1], strict=False)])
    for row in _rows(9, [(3, 7), (3, 6), (5, 1)])
]


def _with_lora(model):
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, config).train()


def _gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_every_lora_gradient_equal_the_padded_batch(tiny_model, family, case, checkpointing):
    padded, packed = tiny_model(family), tiny_model(family)
    assert can_share_prefix(packed)
    padded, packed = _with_lora(padded), _with_lora(packed)
    head = loss_head(packed.get_base_model()) if case in ("many", "no prefix", "gaps") else None
    if checkpointing:
        packed.enable_input_require_grads()
        packed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        assert packed.is_gradient_checkpointing
    expected = padded_loss_sum(padded, collate_padded(ROWS[case], pad_id=0))
    found = packed_loss_sum(packed, collate_packed(ROWS[case]), head)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    wanted, got = _gradients(padded, expected), _gradients(packed, found)
    assert wanted.keys() == got.keys()
    assert len(got) == 3 * 2 * (4 if family.startswith("phi3") else 7)
    for name, gradient in wanted.items():
        assert float((got[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()), name


def test_checkpointing_computes_layers_again(tiny_model):
    model = tiny_model("gemma3")
    assert can_share_prefix(model)
    model = _with_lora(model)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    calls = []
    model.get_base_model().model.layers[1].mlp.register_forward_hook(lambda *_: calls.append(1))
    packed_loss_sum(model, collate_packed(ROWS["many"])).backward()
    assert len(calls) == 2


def test_logits_are_computed_where_a_token_is_trained_only(tiny_model):
    model = tiny_model("gemma3")
    assert can_share_prefix(model)
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    packed_loss_sum(model, collate_packed(ROWS["many"]))
    trained = sum(sum(row.loss_mask_T) for row in ROWS["many"])
    assert seen == [(1, trained, 32)]


def test_a_soft_capped_model_falls_back(tiny_model):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=160, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, attn_logit_softcapping=1.0, query_pre_attn_scalar=8, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).train()
    own_attention = model.config._attn_implementation
    assert not can_share_prefix(model)
    assert model.training
    assert model.config._attn_implementation == own_attention != "nertune"
    assert torch.isfinite(padded_loss_sum(model, collate_padded(ROWS["many"], pad_id=0)))


def test_a_state_space_model_falls_back():
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=160, hidden_size=16, num_hidden_layers=2, state_size=4))
    assert not can_share_prefix(model)


def test_the_shared_attention_refuses_a_call_without_its_layout(tiny_model):
    model = tiny_model("llama")
    assert can_share_prefix(model)
    with pytest.raises(RuntimeError, match="nertune_context"):
        model(input_ids=torch.tensor([[5, 6]]), use_cache=False)


def test_positions_go_on_from_the_prefix_in_every_suffix():
    row = PackedRow(3, [2, 4], device="cpu")
    assert row.position_ids_1S.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 6]]


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_padded_batches_without_logits(tiny_model, family):
    """What models train on whose attention cannot share a prefix."""
    plain, lean = _with_lora(tiny_model(family)), _with_lora(tiny_model(family))
    batch = collate_padded(ROWS["many"], pad_id=0)
    expected = padded_loss_sum(plain, batch)
    found = padded_loss_sum(lean, batch, loss_head(lean.get_base_model()))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    wanted, got = _gradients(plain, expected), _gradients(lean, found)
    for name, gradient in wanted.items():
        # Relative to the largest of the matrix: small elements are differences of large ones, which round by machine.
        assert float((got[name] - gradient).abs().max()) <= 1e-4 * float(gradient.abs().max()), name
