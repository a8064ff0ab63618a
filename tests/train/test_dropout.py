"""Dropout from 16-bit lanes: unbiased, independent, reproducible, and torch's in all else."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from nertune.train.dropout import LaneDropout, replace_lora_dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_share_dropped_and_the_mean_are_right(p):
    torch.manual_seed(0)
    out = LaneDropout(p).train()(torch.ones(1000, 1001))
    dropped = (out == 0).double().mean().item()
    # Four standard deviations of a binomial share.
    assert abs(dropped - p) < 4 * (p * (1 - p) / out.numel()) ** 0.5 + 1 / 65536
    assert out[out != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=2e-4)
    assert out.double().mean().item() == pytest.approx(1, abs=5e-3 / (1 - p))


def test_neighbours_are_independent():
    """Elements that share a 64-bit draw drop together no more often than others."""
    torch.manual_seed(1)
    dropped = (LaneDropout(0.3).train()(torch.ones(400_000)) == 0).double()
    for distance in (1, 2, 3, 4, 8):
        both = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert both == pytest.approx(0.09, abs=0.003)


def test_gradients_pass_where_values_do():
    torch.manual_seed(2)
    x = torch.randn(7, 5, 3, requires_grad=True)
    out = LaneDropout(0.4).train()(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient * x, out)
    assert 0 < int((gradient == 0).sum()) < x.numel()


def test_a_seed_gives_the_mask_again_and_evaluation_drops_nothing():
    dropout, x = LaneDropout(0.5), torch.randn(33)
    state = torch.get_rng_state()
    first = dropout.train()(x)
    assert not torch.equal(dropout(x), first)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x), first)
    assert dropout.eval()(x) is x
    assert LaneDropout(0.0).train()(x) is x
    assert LaneDropout(0.5).train()(x.to(torch.bfloat16)).dtype == torch.bfloat16


def test_every_lora_dropout_is_replaced(tiny_model):
    config = LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear")
    model = get_peft_model(tiny_model("qwen2"), config)
    replace_lora_dropout(model)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(LaneDropout) == 3 * 7
    assert torch.nn.Dropout not in kinds
