"""The fused LoRA layer is PEFT's layer: values, gradients, dropout, and everything that only PEFT's own forward does."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from nertune.models.linear import quicken
from nertune.train.dropout import replace_lora_dropout
from nertune.train.lora import FusedLoraLinear, fuse_lora


def _layer(*, bias=False, dropout=0.0, quick=False, **options):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(12, 8, bias=bias))
    if quick:
        quicken(base)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=["0"], **options))
    layer = model.base_model.model[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    return model, layer


def _values(layer, x):
    out = layer(x)
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    return out, *torch.autograd.grad(out.sin().sum(), [x, *trained])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}])
def test_values_and_gradients_are_peft_s(bias, quick, options):
    model, layer = _layer(bias=bias, quick=quick, **options)
    x = torch.randn(2, 5, 12, requires_grad=True)
    expected = _values(layer, x)
    fuse_lora(model)
    assert type(layer) is FusedLoraLinear
    for found, wanted in zip(_values(layer, x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_same_draws_drop_the_same_elements_as_the_layer_of_its_own():
    """LaneDropout in PEFT's forward and the mask in the fused one use the generator alike."""
    model, layer = _layer(dropout=0.4)
    replace_lora_dropout(model)
    model.train()
    x = torch.randn(3, 12, requires_grad=True)
    torch.manual_seed(5)
    expected = _values(layer, x)
    fuse_lora(model)
    torch.manual_seed(5)
    for found, wanted in zip(_values(layer, x), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not torch.equal(layer(x), layer(x))
    model.eval()
    assert torch.equal(layer(x), layer(x))


def test_what_is_not_plain_lora_goes_peft_s_way():
    x = torch.randn(3, 12)
    for options in ({"use_dora": True}, {"lora_bias": True}):
        model, layer = _layer(bias=True, **options)
        expected = layer(x)
        fuse_lora(model)
        torch.testing.assert_close(layer(x), expected)
    model, layer = _layer()
    fuse_lora(model)
    adapted = layer(x)
    with model.disable_adapter():
        torch.testing.assert_close(layer(x), layer.get_base_layer()(x))
    model.merge_adapter()
    torch.testing.assert_close(layer(x), adapted)
    model.unmerge_adapter()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["0"]))
    model.base_model.set_adapter(["default", "second"])
    torch.testing.assert_close(layer(x), adapted)  # a fresh adapter adds nothing
    assert layer(x.bfloat16().float()).dtype == torch.float32


def test_merging_gives_a_plain_layer():
    model, layer = _layer()
    fuse_lora(model)
    x = torch.randn(3, 12)
    expected = layer(x)
    merged = model.merge_and_unload()
    assert type(merged[0]) is nn.Linear
    torch.testing.assert_close(merged(x), expected)
