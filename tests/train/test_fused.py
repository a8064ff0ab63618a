"""The cross-entropy without logits equals the one with them, to rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nertune.train import fused
from nertune.train.fused import cross_entropy_sum


def _case(places: int, size: int, *, dtype: torch.dtype = torch.float32, large: float = 1.0):
    generator = torch.Generator().manual_seed(places + size)
    hidden = (torch.randn(places, 24, generator=generator) * large).to(dtype).requires_grad_()
    weight = torch.randn(size, 24, generator=generator).to(dtype)
    return hidden, weight, torch.randint(size, (places,), generator=generator), torch.randn(size, generator=generator)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("block", [1 << 22, 2048 * 7, 1])
@pytest.mark.parametrize(("places", "size"), [(7, 5000), (1, 3), (7, 2048), (300, 1025)])
@pytest.mark.parametrize("large", [1.0, 40.0])
def test_loss_and_gradient_are_those_of_the_logits(monkeypatch, places, size, block, with_bias, large):
    """`large` makes logits whose exponentials overflow fp32."""
    monkeypatch.setitem(fused._BLOCK, "cpu", block)
    hidden, weight, targets, bias = _case(places, size, large=large)
    chosen = bias if with_bias else None
    expected = F.cross_entropy(hidden @ weight.T + (bias if with_bias else 0), targets, reduction="sum")
    (wanted,) = torch.autograd.grad(expected * 0.5, hidden)
    found = cross_entropy_sum(hidden, weight, targets, bias_V=chosen)
    (got,) = torch.autograd.grad(found * 0.5, hidden)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_agrees_with_double_precision_as_well_as_the_logits_do():
    hidden, weight, targets, _ = _case(50, 20_000)
    exact = F.cross_entropy(hidden.double() @ weight.double().T, targets, reduction="sum").item()
    assert cross_entropy_sum(hidden, weight, targets).item() == pytest.approx(exact, rel=1e-6)


def test_half_precision_is_as_near_as_logits_in_half_precision():
    hidden, weight, targets, _ = _case(40, 3000, dtype=torch.bfloat16)
    expected = F.cross_entropy((hidden @ weight.T).float(), targets, reduction="sum")
    (wanted,) = torch.autograd.grad(expected, hidden)
    found = cross_entropy_sum(hidden, weight, targets)
    (got,) = torch.autograd.grad(found, hidden)
    assert got.dtype == torch.bfloat16
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    assert float((got - wanted).float().norm()) <= 2e-2 * float(wanted.float().norm())


def test_without_a_gradient_nothing_is_kept():
    hidden, weight, targets, _ = _case(5, 2000)
    with torch.no_grad():
        loss = cross_entropy_sum(hidden, weight, targets)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(cross_entropy_sum(hidden, weight, targets).item(), rel=1e-6)
