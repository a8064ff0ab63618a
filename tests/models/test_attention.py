"""Whether a model can share a prefix: the verdict is that of an exact comparison, for every architecture tried."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from nertune.models.attention import PackedRow, can_share_prefix, use_shared_prefix_attention

SHARING = ["gpt-neox", "gpt2", "gemma2-uncapped", "gemma3-tied"]
NOT_SHARING = ["gemma2", "qwen2-moe-window", "qwen3-next", "qwen3.5", "falcon-h1", "jamba", "lfm2", "mamba"]
FAMILIES = ["qwen2", "llama", "phi3", "phi3-window", "mistral-window", "qwen3", "gemma3"]
# Weights as fresh models have them, where one layer hardly sways the result, and as strong as trained ones.
STRENGTHS = [0.02, 0.3]


def _largest_difference(plain, packed) -> float:
    """Between plain rows and the packed row, as a share of the largest logit; the row is longer than the trial's."""
    draw = random.Random(5)
    prefix, suffixes = 11, (6, 1, 9, 4)
    shared = [draw.randrange(3, 160) for _ in range(prefix)]
    own = [[draw.randrange(3, 160) for _ in range(length)] for length in suffixes]
    expected = [plain(input_ids=torch.tensor([shared + ids]), use_cache=False).logits[0, prefix:] for ids in own]
    use_shared_prefix_attention(packed)
    row = PackedRow(prefix, suffixes, device="cpu")
    ids = torch.tensor([[*shared, *itertools.chain(*own)]])
    logits = packed(input_ids=ids, position_ids=row.position_ids_1S, use_cache=False, nertune_context=row).logits
    wanted = torch.cat(expected)
    return float((logits[0, prefix:] - wanted).abs().max() / wanted.abs().max())


@torch.no_grad()
def _shares_exactly(build, name: str, **changes) -> bool:
    try:
        return _largest_difference(build(name, **changes), build(name, **changes)) < 1e-5
    except (NotImplementedError, TypeError, ValueError):
        return False


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", SHARING + NOT_SHARING)
def test_the_verdict_agrees_with_an_exact_comparison(other_model, name, strength):
    model = other_model(name, initializer_range=strength)
    verdict = can_share_prefix(model)
    assert verdict == _shares_exactly(other_model, name, initializer_range=strength)
    assert verdict == (name in SHARING)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_usual_families_share(tiny_model, name, strength):
    assert can_share_prefix(tiny_model(name, initializer_range=strength))
    assert _shares_exactly(tiny_model, name, initializer_range=strength)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["gemma3-tied", "gemma2", "qwen3-next", "jamba"])
def test_the_trial_leaves_mode_and_results_as_they_were(other_model, name, training):
    model = other_model(name).train(training)
    own, ids = model.config._attn_implementation, torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
        shares = can_share_prefix(model)
        assert model.training == training
        assert model.config._attn_implementation == ("nertune" if shares else own)
        if not shares:
            assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_trial_draws_no_random_numbers(tiny_model):
    model = tiny_model("qwen2")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    can_share_prefix(model)
    assert torch.equal(torch.rand(1), expected)


def test_attention_dropout_is_not_trained_without(other_model):
    """A model whose attention drops weights shares a prefix when it generates, and must not when it trains."""
    model = other_model("gpt2", attn_pdrop=0.1)
    assert can_share_prefix(model)
    assert not can_share_prefix(other_model("gpt2", attn_pdrop=0.1).train())


def test_prefix_states_do_not_depend_on_the_suffixes(tiny_model):
    """What the prefix computes is the same in every row, and no suffix sees another."""
    model = tiny_model("gemma3")
    use_shared_prefix_attention(model)
    row = PackedRow(7, [4, 5], device="cpu")
    ids = torch.arange(10, 26)[None]
    changed = ids.clone()
    changed[0, 7:11] = 99
    with torch.no_grad():
        first, second = (
            model(input_ids=each, position_ids=row.position_ids_1S, use_cache=False, nertune_context=row).logits[0]
            for each in (ids, changed)
        )
    assert torch.equal(first[:7], second[:7])
    assert torch.equal(first[11:], second[11:])
    assert not torch.allclose(first[7:11], second[7:11])


def test_a_window_that_is_not_told_is_noticed_in_short_rows_too(other_model):
    """The trial's few tokens lie within any real window, so the numbers alone would not show it."""
    assert not can_share_prefix(other_model("qwen2-moe-window", sliding_window=64))
    assert can_share_prefix(other_model("qwen2-moe-window", layer_types=["full_attention"] * 4))
