"""Products by oneDNN are torch's products, and a QuickLinear is the layer that it replaces."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nertune.models import matmul
from nertune.models.linear import QuickLinear, quicken
from nertune.models.matmul import add_matmul_nt, matmul_nt


@pytest.fixture(params=["onednn", "torch"], autouse=True)
def library(request, monkeypatch):
    monkeypatch.setattr(matmul, "_SMALL", 1)  # products of any size
    matmul._onednn.cache_clear()
    if request.param == "torch":
        monkeypatch.setenv("NERTUNE_ONEDNN", "0")
        assert matmul._onednn() is None
    yield
    matmul._onednn.cache_clear()


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (7, 5, 3), (64, 33, 129), (0, 5, 3), (4, 0, 3), (4, 5, 0)])
def test_products_of_plain_and_transposed_tensors(m, k, n):
    generator = torch.Generator().manual_seed(m + k + n)
    a, b = torch.randn(m, k, generator=generator), torch.randn(n, k, generator=generator)
    total = torch.randn(m, n, generator=generator)
    expected = (a.double() @ b.double().T).float()
    for left in (a, a.T.contiguous().T):
        for right in (b, b.T.contiguous().T):
            torch.testing.assert_close(matmul_nt(left, right), expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(add_matmul_nt(total, left, right), total + expected, rtol=1e-5, atol=1e-5)


def test_the_sum_is_a_new_tensor():
    total = torch.zeros(2, 2)
    add_matmul_nt(total, torch.ones(2, 2), torch.ones(2, 2))
    assert not total.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_torch_s(dtype):
    a, b = torch.randn(4, 3).to(dtype), torch.randn(5, 3).to(dtype)
    assert torch.equal(matmul_nt(a, b), a @ b.T)


def test_rows_are_rounded_up_where_kernels_are_made_by_shape():
    floats = torch.zeros(1)
    assert matmul.rounded(64, floats) == 64
    assert matmul.rounded(65, floats) == (65 if matmul._onednn() is None else 96)
    assert matmul.rounded(65, floats.double()) == 65


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_quick_linear_has_the_layer_s_values_and_gradients(bias, frozen):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=bias)
    x = torch.randn(2, 3, 6, requires_grad=True)
    layer.weight.requires_grad_(not frozen)
    wanted = [tensor for tensor in (x, layer.weight, layer.bias) if tensor is not None and tensor.requires_grad]
    plain = layer(x)
    plain_gradients = torch.autograd.grad(plain.square().sum(), wanted)
    model = nn.Sequential(layer)
    quicken(model)
    assert type(layer) is QuickLinear
    torch.testing.assert_close(layer(x), plain)
    for found, expected in zip(torch.autograd.grad(layer(x).square().sum(), wanted), plain_gradients, strict=True):
        torch.testing.assert_close(found, expected)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x.detach()), plain.detach())
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
