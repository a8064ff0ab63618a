"""Training, from a recipe to a run directory. The one flat path through this room: read it top to bottom."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nertune.atomic import write_text
from nertune.models import add_rows, add_tokens, load_tokenizer
from nertune.prompt import template_hash
from nertune.run import RunManifest
from nertune.train import ranks
from nertune.train.adapter import inner_model, load_base, prepare_model, save_weights
from nertune.train.arguments import training_arguments
from nertune.train.batches import LeftOut, collate_numbered, collate_packed, collate_padded, trained_tokens
from nertune.train.checkpoints import starting_point
from nertune.train.failures import explained
from nertune.train.measure import F1Measure, Part, Patience, Reader, sample_rows
from nertune.train.recipe import Recipe
from nertune.train.report import report_page
from nertune.train.sampler import TaskBatches
from nertune.train.sharded import adapter_weights, check_engine, engine
from nertune.train.start import fill_in
from nertune.train.stopping import StopSignals
from nertune.train.task import PreparedTask, load_tasks, prepare_task
from nertune.train.track.trackers import SampleRow, Tracker, check_ready
from nertune.train.track.tracking import Tracking, TrackingCallback
from nertune.train.trainer import MetricsFile, NerTrainer, Progress, ProgressCallback, TaskRows
from nertune.train.verify import difference

__all__ = ["Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a finished training reports."""

    folder: Path
    steps: int
    train_loss: float
    best_eval_loss: float | None
    best_f1: float | None
    samples_per_second: float
    seconds: float
    left_out: tuple[LeftOut, ...]
    shares_prefix: bool


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
    folder = Path(recipe.output)
    check_engine(loss_vocabulary=recipe.training.loss_vocabulary)
    checkpoint = starting_point(folder, resume=resume or recipe.resume, note=say)
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
    if packed and (differing := difference(model, rows, head=head, pad_id=_pad_id(tokenizer))):
        model.set_attn_implementation(model.nertune_plain_attention)
        packed = False
        say(f"warning: packed rows are not exact on this model ({differing})")
    if not packed:
        say(f"{recipe.model} cannot share a prompt prefix: training on padded batches, several times slower")

    measure = None
    if reader and settings.f1_documents and _parts(prepared):
        if found := engine():
            say(f"no F1 while training: {found} has taken the model apart. The best checkpoint is judged by its loss")
        else:
            measure = F1Measure(reader, _parts(prepared), count=settings.f1_documents, seed=settings.seed)
    best_by = "f1" if settings.best_by == "f1" and measure else "loss"

    first = ranks.is_first()
    if first:
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
        trained = _trained(trainer, result, folder, left_out, shares_prefix=packed)
        weights = adapter_weights(trainer.model)
        if first:
            _write_run(trainer, recipe, prepared, folder, weights)
            shown = _sample(reader, trainer, prepared, say)
            _write_report(trained, recipe, shown, tracking)
    return trained


def _trained(trainer: Any, result: Any, folder: Path, left_out: tuple[LeftOut, ...], *, shares_prefix: bool) -> Trained:
    log = trainer.state.log_history
    return Trained(
        folder=folder,
        steps=trainer.state.global_step,
        train_loss=result.training_loss,
        best_eval_loss=min((line["eval_loss"] for line in log if "eval_loss" in line), default=None),
        best_f1=max((line["eval_f1"] for line in log if "eval_f1" in line), default=None),
        samples_per_second=result.metrics["train_samples_per_second"],
        seconds=result.metrics["train_runtime"],
        left_out=left_out,
        shares_prefix=shares_prefix,
    )


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


def _parts(tasks: Sequence[PreparedTask]) -> tuple[Part, ...]:
    """What can be read with the model in training: each task's validation documents, where it has some."""
    return tuple(Part(task.name, task.renderer, task.task.validation) for task in tasks if task.task.validation)


def _write_run(
    trainer: Any,
    recipe: Recipe,
    tasks: Sequence[PreparedTask],
    folder: Path,
    weights: dict[str, Any] | None = None,
) -> None:
    """Weights, manifest and curve; the manifest last, because its presence says that the run is whole."""
    from nertune.train.curve import draw_losses

    save_weights(trainer.model, recipe, folder, weights)
    draw_losses(folder / "metrics.jsonl", folder / "loss.png")
    packages: Sequence[str] = ("nertune", "torch", "transformers", "peft", "tokenizers")
    manifest = RunManifest(
        base_model=recipe.model,
        prompt=None if recipe.tasks else tasks[0].task.spec,
        template_hash=template_hash(tasks[0].renderer.tokenizer),
        stop_ids=tuple(sorted(frozenset().union(*(task.renderer.stop_ids for task in tasks)))),
        max_tokens=recipe.max_tokens,
        versions={name: importlib.metadata.version(name) for name in packages},
        tasks={task.name: task.task.spec for task in tasks} if recipe.tasks else {},
        kind="model" if recipe.method == "full" else "adapter",
        tokens=recipe.tokens,
        quantize=recipe.training.quantize,
    )
    if manifest.has_tokenizer:
        tokenizer: Any = tasks[0].renderer.tokenizer
        tokenizer.save_pretrained(str(folder))
    manifest.write(folder)


def _sample(
    reader: Reader | None, trainer: Any, tasks: Sequence[PreparedTask], say: Callable[[str], None]
) -> tuple[SampleRow, ...]:
    """Sample predictions, or none: the run is whole by now, and a failure to illustrate it is told, not raised."""
    if reader is None:
        return ()
    if found := engine():
        say(f"no sample predictions: {found} has taken the model apart")
        return ()
    try:
        return sample_rows(trainer.model, reader, _parts(tasks))
    except Exception as error:
        say(f"no sample predictions: {type(error).__name__}: {error}")
        return ()


def _write_report(trained: Trained, recipe: Recipe, samples: Sequence[SampleRow], tracking: Tracking) -> None:
    """report.html in the run directory, handed to the trackers too."""
    from nertune.train.curve import read_metrics

    folder = trained.folder
    best = trained.best_eval_loss
    numbers = {
        "optimizer steps": str(trained.steps),
        "training loss": f"{trained.train_loss:.4f} nats a token",
        "best validation loss": "not measured" if best is None else f"{best:.4f} nats a token",
        "speed": f"{trained.samples_per_second:.2f} samples a second",
        "time": f"{trained.seconds:.0f} s",
        "documents left out": str(len(trained.left_out)),
    }
    metrics = read_metrics(folder / "metrics.jsonl")
    if measured := [line["eval_f1"] for line in metrics if "eval_f1" in line]:
        numbers["entity F1 (micro), last and best"] = f"{measured[-1]:.4f}, {max(measured):.4f}"
    page = report_page(
        name=folder.name,
        numbers=numbers,
        metrics=metrics,
        picture=(folder / "loss.png").read_bytes(),
        recipe=recipe.to_yaml(),
        samples=samples,
    )
    write_text(folder / "report.html", page)
    if samples:
        tracking.samples(samples, trained.steps)
    tracking.page(page, trained.steps)


def _pad_id(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
