"""Attention without padding equals the general padded form, forward and backward."""

from __future__ import annotations

import pytest
import torch

from nertune.models.attention import PackedRow


def _both(prefix, lengths, heads, kv_heads, window, padding):
    torch.manual_seed(prefix + sum(lengths))
    real = prefix + sum(lengths)
    tokens = real + padding
    states = [
        torch.randn(1, n, tokens, 8, dtype=torch.float64, requires_grad=True) for n in (heads, kv_heads, kv_heads)
    ]
    weight = torch.randn(1, tokens, heads, 8)
    weight[:, real:] = 0  # nobody asks for the outputs of padding
    found = []
    # The ragged form is for float32 on a processor; float64 takes the padded one and is the reference.
    for dtype in (torch.float64, torch.float32):
        row = PackedRow(prefix, lengths, device="cpu", padding=padding)
        query, key, value = (state.to(dtype) for state in states)
        out = row.attend(query, key, value, layer=0, scale=0.3, window=window)
        assert out.shape == weight.shape
        assert torch.isfinite(out).all()
        found.append((out[:, :real], *torch.autograd.grad((out * weight).sum(), states)))
    return found


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("window", [None, 4, 100])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 1), (4, 2), (3, 3)])
@pytest.mark.parametrize(("prefix", "lengths"), [(5, (3, 7, 1)), (1, (4,)), (6, (2, 2, 2, 2)), (0, (5, 3))])
def test_ragged_is_padded(prefix, lengths, heads, kv_heads, window, padding):
    padded, ragged = _both(prefix, lengths, heads, kv_heads, window, padding)
    for found, expected in zip(ragged, padded, strict=True):
        torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-5)
