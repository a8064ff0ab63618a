"""The output layer cut down to the tokens of the data."""

from __future__ import annotations

import pytest
import torch

from nertune.train.objective import narrow_head

TOKENS = [77, 3, 159, 3, 40, 0]


def _hidden() -> torch.Tensor:
    return torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("bias", [False, True])
def test_rows_are_those_of_the_full_layer(tiny_model, bias):
    model = tiny_model("llama")
    full = torch.nn.Linear(32, 160, bias=bias)
    model.set_output_embeddings(full)
    rows = narrow_head(model, TOKENS)
    assert rows == {0: 0, 3: 1, 40: 2, 77: 3, 159: 4}
    narrow = model.get_output_embeddings()
    assert (narrow.in_features, narrow.out_features) == (32, 5)
    torch.testing.assert_close(narrow(_hidden()), full(_hidden())[..., list(rows)])
    assert not any(parameter.requires_grad for parameter in narrow.parameters())


def test_tied_input_embeddings_stay_whole(other_model):
    model, untouched = other_model("gemma3-tied"), other_model("gemma3-tied")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = torch.arange(6)[None]
    rows = narrow_head(model, TOKENS)
    with torch.no_grad():
        narrow, full = model(input_ids=ids).logits, untouched(input_ids=ids).logits
    torch.testing.assert_close(narrow, full[..., list(rows)])
    assert torch.equal(model.get_input_embeddings().weight, untouched.get_input_embeddings().weight)
