"""Added tokens: ids, rows and where the rows start."""

from __future__ import annotations

import copy

import pytest
import torch

from nertune.models import add_rows, add_tokens, make_room


def test_a_token_is_matched_where_it_stands_and_steers_no_chat(family_of):
    tokenizer = copy.deepcopy(family_of("qwen2").tokenizer)
    before = len(tokenizer)
    pieces = add_tokens(tokenizer, ["<ent>", "</ent>"])
    assert list(pieces) == [before, before + 1]
    assert all(len(own) > 1 and max(own) < before for own in pieces.values())
    ids = tokenizer.encode("甲<ent>乙</ent>", add_special_tokens=False)
    assert [token for token in ids if token >= before] == [before, before + 1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "甲<ent>乙</ent>"
    assert not any(tokenizer.added_tokens_decoder[token].special for token in pieces)
    assert add_tokens(tokenizer, ["<ent>"]) == {before: [before]}
    assert add_tokens(tokenizer, []) == {}


@pytest.mark.parametrize("name", ["qwen2", "gemma3-tied"])
def test_rows_start_as_the_mean_of_their_pieces(tiny_model, other_model, name):
    build = tiny_model if name == "qwen2" else other_model
    model, plain = build(name), build(name)
    # 160 has no token of its own: a tokenizer may be longer than the model.
    assert add_rows(model, {161: [3, 5, 7], 12: [12], 30: [31, 33]}) == (12, 30, 160, 161)
    for layer in ("get_input_embeddings", "get_output_embeddings"):
        found, old = getattr(model, layer)().weight, getattr(plain, layer)().weight
        assert found.shape == (162, 32)
        torch.testing.assert_close(found[161], old[[3, 5, 7]].mean(0))
        torch.testing.assert_close(found[160], old.mean(0))
        torch.testing.assert_close(found[30], old[[31, 33]].mean(0))
        kept = [row for row in range(160) if row != 30]
        assert torch.equal(found[kept], old[kept])
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == (name != "qwen2")
    assert model.config.vocab_size == 162


def test_no_token_changes_nothing(tiny_model):
    model = tiny_model("qwen2")
    assert add_rows(model, {}) == ()
    assert not make_room(model, [3, 159])
    assert model.get_input_embeddings().num_embeddings == 160
