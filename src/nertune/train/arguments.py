"""transformers' training arguments for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nertune.train.recipe import Recipe

__all__ = ["training_arguments"]


def training_arguments(recipe: Recipe, folder: Path, *, evaluates: bool, best_by: str) -> Any:
    """transformers' training arguments for a recipe. `best_by`: "f1" or "loss", what the best checkpoint is judged by."""
    import torch
    from transformers import TrainingArguments

    settings = recipe.training
    evaluation, eval_steps = _rhythm(settings.eval_steps if evaluates else "never")
    saving, save_steps = _rhythm(settings.eval_steps if settings.save_steps is None else settings.save_steps)
    keeps_best = evaluation != "no" and saving != "no" and settings.keep_best
    limit = settings.keep_checkpoints
    on_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=settings.log_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy=evaluation,
        eval_steps=eval_steps,
        save_strategy=saving,
        save_steps=save_steps,
        # A limit of 1 would delete the last checkpoint, which resuming needs, where another is the best.
        save_total_limit=max(limit, 2) if limit and keeps_best else limit,
        load_best_model_at_end=keeps_best,
        metric_for_best_model=f"eval_{best_by}" if keeps_best else None,
        greater_is_better=best_by == "f1" if keeps_best else None,
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        use_cpu=on_cpu,
        seed=settings.seed,
        data_seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
    )


def _rhythm(steps: int | str) -> tuple[str, int]:
    """transformers' strategy and number of steps for one of ours."""
    if isinstance(steps, int):
        return "steps", steps
    return ("no" if steps == "never" else steps), 1
