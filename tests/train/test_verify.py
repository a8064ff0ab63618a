"""The check before the first step: both layouts agree on models that share a prefix, and a model that lies is found out."""

from __future__ import annotations

import pytest
import torch

from nertune.models import load_model, load_tokenizer
from nertune.models.ragged import RaggedLayout
from nertune.train.adapter import prepare_model
from nertune.train.fit import train
from nertune.train.heads import loss_head
from nertune.train.task import load_tasks, prepare_task
from nertune.train.verify import difference

PADDED = "cannot share a prompt prefix"


def _prepared(recipe):
    (task,) = load_tasks(recipe)
    rows = prepare_task(task, load_tokenizer(recipe.model), recipe, say=lambda line: None).rows
    model, packed = prepare_model(load_model(recipe.model), recipe)
    assert packed
    return model, rows


def test_an_exact_model_passes_and_is_left_as_it_was(recipe):
    model, rows = _prepared(recipe())
    head = loss_head(model.get_base_model())
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.train()
    state = torch.get_rng_state()
    assert difference(model, rows, head=head, pad_id=0) is None
    assert model.training
    assert model.config._attn_implementation == "nertune"
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_layout_that_lets_tokens_see_too_much_is_told_and_not_used(recipe, monkeypatch):
    init = RaggedLayout.__init__

    def lying(self, *given, **named):
        init(self, *given, **named)
        self.mask_SC = self.mask_SC.clamp(min=-3)  # the future, faintly

    monkeypatch.setattr(RaggedLayout, "__init__", lying)
    monkeypatch.setattr(
        "nertune.models.attention.torch.allclose", lambda *given, **named: True
    )  # the first trial passes
    said: list[str] = []
    trained = train(recipe(training={"max_steps": 1}), note=said.append)
    assert not trained.shares_prefix
    assert any("packed rows are not exact on this model (loss" in line for line in said), said
    assert any(PADDED in line for line in said)


@pytest.mark.parametrize("vocabulary", ["full", "sampled"])
def test_a_training_that_passes_says_nothing(recipe, vocabulary):
    said: list[str] = []
    assert train(recipe(training={"max_steps": 1, "loss_vocabulary": vocabulary}), note=said.append).shares_prefix
    assert not any(PADDED in line or "exact" in line for line in said)
