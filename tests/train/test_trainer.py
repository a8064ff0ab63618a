"""The trainer: one optimizer step means the same however its samples are dealt out, and evaluation is per token."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback, TrainingArguments

from nertune.errors import TrainingError
from nertune.models.attention import can_share_prefix
from nertune.prompt import Row
from nertune.train.batches import collate_packed, collate_padded
from nertune.train.callbacks import Progress, ProgressCallback
from nertune.train.objective import padded_loss_sum
from nertune.train.trainer import NerTrainer


def _rows(count: int) -> list[Row]:
    """Rows of different lengths, with different numbers of trained tokens, after a common start."""
    draw = random.Random(2)
    common = [draw.randrange(3, 160) for _ in range(8)]
    rows = []
    for _ in range(count):
        prompt, trained = draw.randrange(1, 6), draw.randrange(1, 12)
        own = [draw.randrange(3, 160) for _ in range(prompt + trained)]
        rows.append(Row(common + own, [0] * (8 + prompt) + [1] * trained))
    return rows


def _with_lora(model):
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model, config)


class _Gradients(TrainerCallback):
    """Keeps the gradients of the last optimizer step."""

    def __init__(self) -> None:
        self.kept: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.kept = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def trainer_of(tiny_model, tmp_path):
    """A function that builds a trainer of 8 rows and tells the gradients of its last step."""

    def build(*, packed: bool = True, family: str = "qwen2", **settings) -> tuple[NerTrainer, _Gradients]:
        model, gradients = tiny_model(family), _Gradients()
        if packed:
            assert can_share_prefix(model)
        if settings.get("activation_checkpointing"):
            model.enable_input_require_grads()
        arguments = {
            "output_dir": str(tmp_path),
            "max_steps": 1,
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "prediction_loss_only": True,
            "seed": 5,
            "dataloader_pin_memory": False,
            **settings,
        }
        trainer = NerTrainer(
            model=_with_lora(model),
            args=TrainingArguments(**arguments),
            train_dataset=_rows(8),
            eval_dataset=_rows(7),
            data_collator=collate_packed if packed else partial(collate_padded, pad_id=0),
            callbacks=[gradients],
            packed=packed,
        )
        return trainer, gradients

    return build


def _one_step(built) -> tuple[float, dict[str, torch.Tensor]]:
    trainer, gradients = built
    trainer.train()
    loss = next(line["loss"] for line in trainer.state.log_history if "loss" in line)
    return loss, gradients.kept


def _assert_equal(found, expected) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    assert len(found[1]) == 3 * 7 * 2
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).norm()) <= 1e-4 * float(gradient.norm()), name


@pytest.mark.parametrize(
    "settings",
    [
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        {"per_device_train_batch_size": 8, "packed": False},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "packed": False},
        {
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": {"use_reentrant": False},
        },
    ],
    ids=["2 x 4", "3 x 3", "8 x 1", "padded", "padded 4 x 2", "checkpointing 2 x 4"],
)
@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_a_step_does_not_depend_on_how_its_samples_are_dealt_out(trainer_of, family, settings):
    expected = _one_step(trainer_of(family=family, per_device_train_batch_size=8))
    _assert_equal(_one_step(trainer_of(family=family, **settings)), expected)


def test_the_logged_loss_is_the_mean_over_trained_tokens(trainer_of, tiny_model):
    loss, _ = _one_step(trainer_of(per_device_train_batch_size=2, gradient_accumulation_steps=4))
    with torch.no_grad():
        total = padded_loss_sum(_with_lora(tiny_model("qwen2")), collate_padded(_rows(8), pad_id=0)).item()
    assert loss == pytest.approx(total / sum(sum(row.loss_mask_T) for row in _rows(8)), rel=1e-5)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_evaluation_loss_is_the_mean_over_all_trained_tokens(trainer_of, tiny_model, packed, batch_size):
    """Whatever the batches: a short last batch, or one with few tokens, weighs what it holds."""
    trainer, _ = trainer_of(packed=packed, per_device_eval_batch_size=batch_size)
    found = trainer.evaluate()["eval_loss"]
    with torch.no_grad():
        total = padded_loss_sum(_with_lora(tiny_model("qwen2")), collate_padded(_rows(7), pad_id=0)).item()
    assert found == pytest.approx(total / sum(sum(row.loss_mask_T) for row in _rows(7)), rel=1e-5)


def test_weights_that_are_not_finite_stop_training_untouched(trainer_of):
    trainer, gradients = trainer_of()
    poisoned = next(p for name, p in trainer.model.named_parameters() if "layers.1.mlp.up_proj.lora_B" in name)
    poisoned.data[0, 0] = float("nan")
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        trainer.train()
    assert gradients.kept == {}
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0, equal_nan=True)


def test_progress_tells_every_step_and_the_last_losses(trainer_of):
    told: list[Progress] = []
    trainer, _ = trainer_of(
        max_steps=4, per_device_train_batch_size=2, eval_strategy="steps", eval_steps=2, learning_rate=0.01
    )
    trainer.add_callback(ProgressCallback(told.append, 2))
    trainer.train()
    assert sorted({progress.step for progress in told}) == [0, 1, 2, 3, 4]
    assert [progress.step for progress in told] == sorted(progress.step for progress in told)
    assert {progress.steps for progress in told} == {4}
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    evals = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert (told[0].loss, told[0].eval_loss) == (None, None)
    assert (told[-1].loss, told[-1].eval_loss) == (losses[-1], evals[-1])
    assert told[-1].samples_per_second > 0
