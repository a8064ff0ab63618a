"""Output layers for training: exact, or sampled without bias; nothing but stand-ins."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nertune.errors import InputError
from nertune.train.heads import LossHead, SampledHead, loss_head

TOKENS = [77, 3, 159, 3, 40, 0]
TARGETS = torch.tensor([3, 40, 159, 0, 77, 3, 3, 40, 0, 159])


def _hidden() -> torch.Tensor:
    return torch.randn(10, 32, generator=torch.Generator().manual_seed(4))


def _head(bias: bool = False) -> torch.nn.Linear:
    torch.manual_seed(2)
    return torch.nn.Linear(32, 160, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
def test_the_exact_head_and_the_sampled_one_in_evaluation_are_the_whole_softmax(bias):
    full = _head(bias)
    expected = F.cross_entropy(full(_hidden()), TARGETS, reduction="sum")
    for head in (LossHead(full).train(), SampledHead(full, TOKENS, sampled=10).eval()):
        assert torch.equal(head(_hidden()), _hidden())
        torch.testing.assert_close(head.loss_sum(_hidden(), TARGETS), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_in_training_the_denominator_is_unbiased(bias):
    full = _head(bias)
    head = SampledHead(full, TOKENS, sampled=20).train()
    logits = full(_hidden())
    picked = logits[torch.arange(10), TARGETS]
    torch.manual_seed(0)
    # The loss of one place is log(denominator) - its logit.
    losses = torch.stack(
        [torch.stack([head.loss_sum(_hidden()[n : n + 1], TARGETS[n : n + 1]) for n in range(10)]) for _ in range(2000)]
    )
    denominators = (losses + picked).exp()
    assert denominators.std(0).min() > 0
    torch.testing.assert_close(denominators.mean(0), logits.exp().sum(-1), rtol=0.02, atol=0)


def test_no_data_token_is_drawn_and_a_head_that_sees_all_is_exact():
    full = _head()
    every = SampledHead(full, TOKENS, sampled=1000).train()
    expected = F.cross_entropy(full(_hidden()), TARGETS, reduction="sum")
    torch.testing.assert_close(every.loss_sum(_hidden(), TARGETS), expected)
    others = SampledHead(full, TOKENS, sampled=30)._others_O.tolist()
    assert sorted(others + sorted(set(TOKENS))) == list(range(160))


def test_the_same_seed_draws_the_same():
    head = SampledHead(_head(), TOKENS, sampled=20).train()
    torch.manual_seed(5)
    first = head.loss_sum(_hidden(), TARGETS)
    assert not torch.equal(head.loss_sum(_hidden(), TARGETS), first)
    torch.manual_seed(5)
    assert torch.equal(head.loss_sum(_hidden(), TARGETS), first)


@pytest.mark.parametrize("tokens", [None, TOKENS])
def test_it_stands_in_for_a_model_s_layer_and_adds_no_parameters(tiny_model, tokens):
    model, untouched = tiny_model("gemma3"), tiny_model("gemma3")
    model.requires_grad_(False)
    head = loss_head(model, sampled_beside=tokens)
    assert model.get_output_embeddings() is head
    assert not list(head.parameters())
    ids = torch.arange(6)[None]
    with torch.no_grad():
        hidden, logits = model(input_ids=ids).logits[0], untouched(input_ids=ids).logits[0]
        expected = F.cross_entropy(logits, TARGETS[:6], reduction="sum")
        torch.testing.assert_close(head.loss_sum(hidden, TARGETS[:6]), expected)
    assert torch.equal(model.get_input_embeddings().weight, untouched.get_input_embeddings().weight)


def test_models_it_cannot_serve_keep_their_layer(tiny_model):
    model = tiny_model("llama")
    layer = model.get_output_embeddings()
    with pytest.raises(InputError, match="trains its output layer"):
        loss_head(model, sampled_beside=TOKENS)
    assert loss_head(model) is None
    model.requires_grad_(False)
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(InputError, match="soft-caps"):
        loss_head(model, sampled_beside=TOKENS)
    assert loss_head(model) is None
    assert model.get_output_embeddings() is layer
