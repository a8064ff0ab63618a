"""A loss or a gradient that would ruin the weights is met before the step, and the samples are named."""

from __future__ import annotations

import math
import re

import pytest
import torch

from nertune import data
from nertune.errors import TrainingError
from nertune.models import load_tokenizer
from nertune.train import trainer as trainer_module
from nertune.train.fit import train
from nertune.train.guard import LossGuard, MicroBatch, listed

BAD = "林屿去青川"
NAMES = [f"document {number}" for number in range(1, 31)]


@pytest.mark.parametrize(
    "losses",
    [
        [11.9, 11.8, 6.0, 2.0, 1.0],  # a model that begins by guessing
        [25.0, 20.0, 4.0],  # one whose first step is worse
        [0.001] * 60 + [7.0, 0.001],  # a hard sample in a corpus learned by heart
        [1.0, 9.0, 1.0, 13.0],
    ],
)
def test_normal_losses_give_no_alarm(losses):
    guard = LossGuard(150_000)
    assert [guard.problem(loss) for loss in losses] == [None] * len(losses)


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        (math.nan, "the loss is nan"),
        (math.inf, "the loss is inf"),
        (40.0, "the loss explodes, 40 after a median of 1.2 nats"),
    ],
)
def test_a_loss_that_breaks_away_is_told(loss, problem):
    guard = LossGuard(150_000)
    assert [guard.problem(before) for before in (5.0, 1.2, 1.1)] == [None] * 3
    assert problem in guard.problem(loss)
    assert guard.problem(1.0) is None


def test_samples_without_a_finite_loss_are_named_alone_else_all():
    batches = [MicroBatch(0.5, [0, 1]), MicroBatch(math.nan, [2, 3]), MicroBatch(0.7, [4, 5])]
    assert listed(batches, NAMES).splitlines()[1:] == ["  document 3", "  document 4"]
    finite = [batches[0], batches[2]]
    assert [line.strip() for line in listed(finite, NAMES).splitlines()[1:]] == [NAMES[n] for n in (4, 5, 0, 1)]
    assert listed([MicroBatch(1.0, range(30))], NAMES).splitlines()[-1] == "  and 14 more"
    assert listed([MicroBatch(1.0, ())], NAMES) == ""


def _poison(ids: list[int], factor: float, monkeypatch, *, gradient: bool = False) -> None:
    """Multiply the loss of the training batches that hold some ids, or make their gradient NaN and leave the loss."""
    real = trainer_module.packed_loss_sum

    def loss_sum(model, batch, head=None):
        loss = real(model, batch, head=head)
        row = batch["input_ids"][0].tolist()
        held = any(row[start : start + len(ids)] == ids for start in range(len(row)))
        if model.training and held:
            return _bad_gradient(loss) if gradient else loss + (loss * factor - loss).detach()
        return loss

    monkeypatch.setattr(trainer_module, "packed_loss_sum", loss_sum)


def _bad_gradient(loss: torch.Tensor) -> torch.Tensor:
    zero = (loss * 0).clamp(min=0)
    return loss + torch.sqrt(zero) - torch.sqrt(zero).detach()


def _poisoned(recipe, corpus, monkeypatch, factor: float, **options):
    """A training in which every batch with one document is bad: the document's number in the file, and the message."""
    documents = data.read(corpus).documents
    number = next(n for n, document in enumerate(documents, 1) if document.text == BAD)
    ids = load_tokenizer(recipe.model).encode(BAD, add_special_tokens=False)
    _poison(ids, factor, monkeypatch, **options)
    with pytest.raises(TrainingError) as error:
        train(recipe)
    return number, str(error.value)


@pytest.mark.parametrize(
    ("factor", "options", "problem"),
    [
        (math.nan, {}, "the loss is nan"),
        (math.inf, {}, "the loss is inf"),
        (1.0, {"gradient": True}, "the gradient norm is nan"),
    ],
)
def test_the_step_is_refused_and_its_samples_named(recipe, corpus, tmp_path, monkeypatch, factor, options, problem):
    made = recipe(data={"validation": 0}, training={"batch_size": 2, "accumulation": 2, "eval_steps": 1})
    number, message = _poisoned(made, corpus, monkeypatch, factor, **options)
    step = int(re.search(r"at step (\d+)", message)[1])
    assert message.startswith(f"{problem} at step {step}: stopped before the weights were touched")
    assert f"document {number}: {BAD!r}" in message
    # Without a finite loss: the micro-batch alone. A gradient belongs to the whole step.
    assert len(re.findall("document ", message)) == (4 if options else 2)
    if step > 1:
        assert f"--resume goes on from {tmp_path / 'run' / 'checkpoints' / f'checkpoint-{step - 1}'}" in message


def test_a_loss_that_explodes_is_refused(recipe, corpus, monkeypatch):
    made = recipe(data={"validation": 0}, training={"batch_size": 1, "seed": 3})
    number, message = _poisoned(made, corpus, monkeypatch, 100.0)
    assert "the loss explodes" in message
    assert f"document {number}:" in message
