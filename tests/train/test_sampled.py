"""The sampled output layer: exact where it sees all, unbiased where it samples, and nothing but a stand-in."""

from __future__ import annotations

import pytest
import torch

from nertune.errors import InputError
from nertune.train.sampled import SampledHead, sample_head

TOKENS = [77, 3, 159, 3, 40, 0]


def _hidden() -> torch.Tensor:
    return torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(4))


def _head(bias: bool = False) -> torch.nn.Linear:
    torch.manual_seed(2)
    return torch.nn.Linear(32, 160, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
def test_in_evaluation_it_is_the_whole_layer_in_another_order(bias):
    full = _head(bias)
    head = SampledHead(full, TOKENS, sampled=10).eval()
    assert head.rows == {0: 0, 3: 1, 40: 2, 77: 3, 159: 4}
    expected, found = full(_hidden()), head(_hidden())
    assert found.shape == expected.shape
    torch.testing.assert_close(found[..., :5], expected[..., sorted(set(TOKENS))])
    torch.testing.assert_close(found.sort(-1).values, expected.sort(-1).values)


def test_in_training_the_denominator_is_unbiased():
    full = _head()
    head = SampledHead(full, TOKENS, sampled=20).train()
    exact = full(_hidden()).exp().sum(-1)
    torch.manual_seed(0)
    draws = torch.stack([head(_hidden()).exp().sum(-1) for _ in range(2000)])
    assert draws.std(0).min() > 0
    torch.testing.assert_close(draws.mean(0), exact, rtol=0.02, atol=0)


def test_every_other_token_is_drawn_and_no_data_token_twice():
    head = SampledHead(_head(), TOKENS, sampled=30)
    weight = head.weight
    torch.manual_seed(0)
    drawn = set()
    for _ in range(60):
        logits = head(torch.eye(32)) - torch.tensor([0.0] * 5 + [float(torch.tensor(155 / 30).log())] * 30)
        drawn |= {int((weight - row).abs().sum(-1).argmin()) for row in logits.T[5:]}
    assert drawn == set(range(160)) - set(TOKENS)


def test_the_same_seed_draws_the_same(tiny_model):
    head = SampledHead(_head(), TOKENS, sampled=20)
    torch.manual_seed(5)
    first = head(_hidden())
    assert not torch.equal(head(_hidden()), first)
    torch.manual_seed(5)
    assert torch.equal(head(_hidden()), first)


def test_it_stands_in_for_a_model_s_layer_and_adds_no_parameters(tiny_model):
    model, untouched = tiny_model("gemma3"), tiny_model("gemma3")
    model.requires_grad_(False)
    rows = sample_head(model, TOKENS)
    ids = torch.arange(6)[None]
    with torch.no_grad():
        found, expected = model(input_ids=ids).logits, untouched(input_ids=ids).logits
    torch.testing.assert_close(found[..., : len(rows)], expected[..., list(rows)])
    assert not list(model.get_output_embeddings().parameters())
    assert torch.equal(model.get_input_embeddings().weight, untouched.get_input_embeddings().weight)


def test_models_it_cannot_serve_are_refused(tiny_model):
    model = tiny_model("llama")
    with pytest.raises(InputError, match="trains its output layer"):
        sample_head(model, TOKENS)
    model.requires_grad_(False)
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(InputError, match="soft-caps"):
        sample_head(model, TOKENS)
