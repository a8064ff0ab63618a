"""Training, from a recipe to a run directory. The one flat path through this room: read it top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nertune.atomic import write_text
from nertune.models import add_rows, add_tokens, load_tokenizer
from nertune.train import ranks
from nertune.train.adapter import inner_model, load_base, prepare_model
from nertune.train.arguments import training_arguments
from nertune.train.batches import collate_numbered, collate_packed, collate_padded, trained_tokens
from nertune.train.callbacks import MetricsFile, Progress, ProgressCallback
from nertune.train.checkpoints import remove_run, starting_point
from nertune.train.failures import explained
from nertune.train.finish import (
    Trained,
    figures,
    readable_parts,
    report_of,
    sample,
    write_card,
    write_report,
    write_run,
)
from nertune.train.measure import F1Measure, Patience, Reader
from nertune.train.recipe import Recipe
from nertune.train.sampler import TaskBatches
from nertune.train.sharded import adapter_weights, check_engine, engine
from nertune.train.start import fill_in
from nertune.train.stopping import StopSignals
from nertune.train.task import PreparedTask, load_tasks, prepare_task
from nertune.train.track.trackers import Tracker, check_ready
from nertune.train.track.tracking import Tracking, TrackingCallback
from nertune.train.trainer import NerTrainer, TaskRows
from nertune.train.verify import difference

__all__ = ["Trained", "train"]


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
    note: Callable[[str], None] | None = None,
    model_report: Callable[[str, int, int], None] | None = None,
    reader: Reader | None = None,
    trackers: Mapping[str, Tracker] | None = None,
) -> Trained:
    """Fine-tune as the recipe says and write a run directory.

    `report` hears of every step, `note` of decisions worth a line, `model_report` of the built-in model's conversion.
    `reader` reads validation documents with the model in training, for F1 and for samples in the report; without it the
    best checkpoint is judged by its loss. `trackers` hear of the training besides those that the recipe names.
    Raises InputError before anything is written when recipe, data or output folder cannot be used, TrainingError where
    going on would do harm or room is lacking, and TrainingInterrupted when SIGINT or SIGTERM came and a checkpoint is saved.
    """
    from transformers import set_seed

    from nertune.train.heads import SAMPLED, loss_head

    say = note or (lambda line: None)
    recipe = fill_in(recipe)
    if recipe.method == "full" and "lora" in recipe.model_fields_set:
        say("method: full trains every weight; the section lora is not used")
    ranks.part_at_exit()
    folder = Path(recipe.output)
    check_engine(loss_vocabulary=recipe.training.loss_vocabulary)
    checkpoint = starting_point(folder, resume=resume or recipe.resume, overwrite=recipe.overwrite, note=say)
    for item in recipe.trackers():
        check_ready(item)
    tasks = load_tasks(recipe)
    for line in [note for task in tasks for note in task.notes]:
        say(line)
    settings = recipe.training
    tokenizer = load_tokenizer(recipe.model, report=model_report)
    pieces = add_tokens(tokenizer, recipe.tokens)
    prepared = tuple(prepare_task(task, tokenizer, recipe, say=say) for task in tasks)
    rows = [row for task in prepared for row in task.rows]
    eval_rows = [row for task in prepared for row in task.validation_rows]

    set_seed(settings.seed)
    model = load_base(recipe)
    model, packed = prepare_model(model, recipe, token_ids=add_rows(model, pieces))
    own_tokens = None
    if settings.loss_vocabulary == "sampled":
        own_tokens = trained_tokens([*rows, *eval_rows])
        say(f"loss over the data's own {len(own_tokens):,} tokens and {SAMPLED:,} sampled ones a step")
    head = loss_head(inner_model(model), sampled_beside=own_tokens)
    differing = None
    if packed:
        with explained(recipe, folder / "checkpoints"):
            differing = difference(model, rows, head=head, pad_id=_pad_id(tokenizer))
    if differing:
        model.set_attn_implementation(model.nertune_plain_attention)
        packed = False
        say(f"warning: packed rows are not exact on this model ({differing})")
    if not packed:
        say(f"{recipe.model} cannot share a prompt prefix: training on padded batches, several times slower")

    measure = None
    if reader and settings.f1_documents and readable_parts(prepared):
        if found := engine():
            say(f"no F1 while training: {found} has taken the model apart. The best checkpoint is judged by its loss")
        else:
            measure = F1Measure(reader, readable_parts(prepared), count=settings.f1_documents, seed=settings.seed)
    best_by = "f1" if settings.best_by == "f1" and measure else "loss"

    first = ranks.is_first()
    if first:
        if recipe.overwrite and not checkpoint and remove_run(folder):
            say(f"overwrite: the run that was in {folder} is deleted")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "recipe.yaml", recipe.to_yaml())
    callbacks: list[Any] = [MetricsFile(folder / "metrics.jsonl")]
    if report:
        callbacks.append(ProgressCallback(report, settings.batch_size * settings.accumulation * ranks.world_size()))
    if settings.patience and eval_rows:
        callbacks.append(Patience(settings.patience, f"eval_{best_by}", greater_is_better=best_by == "f1"))
    arguments = training_arguments(recipe, folder, evaluates=bool(eval_rows), best_by=best_by)
    signals = StopSignals()
    collate = collate_packed if packed else partial(collate_padded, pad_id=_pad_id(tokenizer))
    trainer = NerTrainer(
        model=model,
        args=arguments,
        train_dataset=list(enumerate(rows)),
        eval_dataset=list(enumerate(eval_rows)) or None,
        data_collator=partial(collate_numbered, collate=collate),
        callbacks=callbacks,
        packed=packed,
        head=head,
        plus_ratio=recipe.lora.plus_ratio if recipe.method == "lora" else None,
        measure=measure,
        batches=_batches(prepared, recipe, processes=arguments.world_size),
        evaluated=_evaluated(prepared),
        names=[name for task in prepared for name in task.names],
        signals=signals,
        note=say,
    )
    trainer.remove_callback(_printer())
    _say_how_to_use_all(say)
    with Tracking.start(
        recipe.trackers() if first else (),
        run=folder,
        config=recipe.model_dump(mode="json"),
        note=say,
        trackers=trackers if first else None,
    ) as tracking:
        trainer.add_callback(TrackingCallback(tracking))
        with signals, explained(recipe, folder / "checkpoints"):
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        left_out = tuple(item for task in prepared for item in task.left_out)
        trained = figures(trainer, result, folder, left_out, shares_prefix=packed)
        weights = adapter_weights(trainer.model)
        if first:
            write_run(trainer, recipe, prepared, folder, weights)
            shown = sample(reader, trainer, prepared, say)
            reported = report_of(measure, trainer, recipe, prepared, trained, say)
            write_report(trained, recipe, shown, tracking, reported)
            write_card(trained, recipe, prepared, reported)
    return trained


def _batches(tasks: Sequence[PreparedTask], recipe: Recipe, *, processes: int) -> TaskBatches | None:
    """Micro-batches of one task or of rows of like length; None where transformers' plain shuffle does."""
    settings = recipe.training
    if recipe.tasks is None and not settings.bucket:
        return None
    return TaskBatches(
        [len(task.rows) for task in tasks],
        batch_size=settings.batch_size,
        seed=settings.seed,
        weights=[task.task.weight for task in tasks],
        lengths=[len(row.ids_T) for task in tasks for row in task.rows] if settings.bucket else None,
        processes=processes,
    )


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _say_how_to_use_all(say: Callable[[str], None]) -> None:
    count = _gpus()
    if count > 1 and ranks.world_size() == 1:
        say(f"training on 1 of {count} GPUs; on all: torchrun --nproc-per-node {count} -m nertune train …")


def _evaluated(tasks: Sequence[PreparedTask]) -> TaskRows | None:
    """Where in the evaluation rows the tasks are; None where there is one without a name."""
    measured = [task for task in tasks if task.name and task.validation_rows]
    if not measured:
        return None
    return TaskRows(tuple(task.name for task in measured), tuple(len(task.validation_rows) for task in measured))


def _pad_id(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
