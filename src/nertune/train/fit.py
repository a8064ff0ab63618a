"""Training, from a recipe to a run directory. The one flat path through this room: read it top to bottom."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nertune.atomic import write_text
from nertune.models import load_model, load_tokenizer
from nertune.prompt import PromptSpec, Renderer, template_hash
from nertune.run import RunManifest
from nertune.schema import Document
from nertune.train.adapter import prepare_model
from nertune.train.arguments import training_arguments
from nertune.train.batches import (
    LeftOut,
    Prepared,
    collate_numbered,
    collate_packed,
    collate_padded,
    prepare,
    trained_tokens,
)
from nertune.train.checkpoints import starting_point
from nertune.train.failures import explained
from nertune.train.recipe import Recipe
from nertune.train.report import report_page
from nertune.train.stopping import StopSignals
from nertune.train.task import load_task_data
from nertune.train.track.trackers import SampleRow, Tracker, check_ready
from nertune.train.track.tracking import Tracking, TrackingCallback
from nertune.train.trainer import MetricsFile, NerTrainer, Progress, ProgressCallback

__all__ = ["Samples", "Trained", "train"]


# From the trained model (the base with its LoRA layers, in evaluation mode), its renderer and the validation documents.
Samples = Callable[[Any, Renderer, Sequence[Document]], Sequence[SampleRow]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a finished training reports."""

    folder: Path
    steps: int
    train_loss: float
    best_eval_loss: float | None
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
    samples: Samples | None = None,
    trackers: Mapping[str, Tracker] | None = None,
) -> Trained:
    """Fine-tune as the recipe says and write a run directory.

    `report` hears of every step, `note` of decisions worth a line, `model_report` of the built-in model's conversion.
    `samples` predicts a few documents with the trained model, for the trackers and the report page. `trackers` hear of
    the training besides those that the recipe names.
    Raises InputError before anything is written when recipe, data or output folder cannot be used, TrainingError where
    going on would do harm or room is lacking, and TrainingInterrupted when SIGINT or SIGTERM came and a checkpoint is saved.
    """
    from transformers import set_seed

    from nertune.train.heads import SAMPLED, loss_head

    say = note or (lambda line: None)
    folder = Path(recipe.output)
    checkpoint = starting_point(folder, resume=resume or recipe.resume, note=say)
    for item in recipe.trackers():
        check_ready(item)
    task = load_task_data(recipe)
    for line in task.notes:
        say(line)
    settings = recipe.training
    tokenizer = load_tokenizer(recipe.model, report=model_report)
    spec = PromptSpec(recipe.prompt.load(), task.labels, recipe.answer_format())
    renderer = Renderer(tokenizer, spec)
    refuse = recipe.overlong == "refuse"
    rows = prepare(task.train, renderer, max_tokens=recipe.max_tokens, refuse=refuse, numbers=task.train_numbers)
    _say_left_out(rows, "training", say)
    eval_rows: Prepared | None = None
    if task.validation:
        eval_rows = prepare(
            task.validation, renderer, max_tokens=recipe.max_tokens, refuse=refuse, numbers=task.validation_numbers
        )
        _say_left_out(eval_rows, "validation", say)

    set_seed(settings.seed)
    model = load_model(recipe.model, dtype=settings.dtype)
    model, packed = prepare_model(model, recipe)
    own_tokens = None
    if settings.loss_vocabulary == "sampled":
        own_tokens = trained_tokens([*rows.rows, *(eval_rows.rows if eval_rows else ())])
        say(f"loss over the data's own {len(own_tokens):,} tokens and {SAMPLED:,} sampled ones a step")
    head = loss_head(model.get_base_model(), sampled_beside=own_tokens)
    if not packed:
        say(f"{recipe.model} cannot share a prompt prefix: training on padded batches, several times slower")

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.yaml", recipe.to_yaml())
    callbacks: list[Any] = [MetricsFile(folder / "metrics.jsonl")]
    if report:
        callbacks.append(ProgressCallback(report, settings.batch_size * settings.accumulation))
    signals = StopSignals()
    collate = collate_packed if packed else partial(collate_padded, pad_id=_pad_id(tokenizer))
    trainer = NerTrainer(
        model=model,
        args=training_arguments(recipe, folder, evaluates=eval_rows is not None),
        train_dataset=list(enumerate(rows.rows)),
        eval_dataset=list(enumerate(eval_rows.rows)) if eval_rows else None,
        data_collator=partial(collate_numbered, collate=collate),
        callbacks=callbacks,
        packed=packed,
        head=head,
        names=rows.names,
        signals=signals,
        note=say,
    )
    trainer.remove_callback(_printer())
    first = trainer.is_world_process_zero()
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
        trained = _trained(trainer, result, folder, rows.left_out, shares_prefix=packed)
        if first:
            _write_run(trainer, recipe, renderer, folder)
            shown = _sample(samples, trainer, renderer, task.validation, say)
            _write_report(trained, recipe, shown, tracking)
    return trained


def _trained(trainer: Any, result: Any, folder: Path, left_out: tuple[LeftOut, ...], *, shares_prefix: bool) -> Trained:
    return Trained(
        folder=folder,
        steps=trainer.state.global_step,
        train_loss=result.training_loss,
        best_eval_loss=min(
            (line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line), default=None
        ),
        samples_per_second=result.metrics["train_samples_per_second"],
        seconds=result.metrics["train_runtime"],
        left_out=left_out,
        shares_prefix=shares_prefix,
    )


def _say_left_out(prepared: Prepared, what: str, say: Callable[[str], None]) -> None:
    if prepared.left_out:
        say(f"{len(prepared.left_out)} {what} documents are left out, none is cut:")
        for item in prepared.left_out[:5]:
            say(f"  {item}")
        if len(prepared.left_out) > 5:
            say(f"  and {len(prepared.left_out) - 5} more")


def _write_run(trainer: Any, recipe: Recipe, renderer: Renderer, folder: Path) -> None:
    """Adapter, manifest and curve; the manifest last, because its presence says that the run is whole."""
    from nertune.train.curve import draw_losses

    trainer.model.save_pretrained(str(folder), safe_serialization=True)
    draw_losses(folder / "metrics.jsonl", folder / "loss.png")
    packages: Sequence[str] = ("nertune", "torch", "transformers", "peft", "tokenizers")
    RunManifest(
        base_model=recipe.model,
        prompt=renderer.spec,
        template_hash=template_hash(renderer.tokenizer),
        stop_ids=tuple(sorted(renderer.stop_ids)),
        max_tokens=recipe.max_tokens,
        versions={name: importlib.metadata.version(name) for name in packages},
    ).write(folder)


def _sample(
    samples: Samples | None, trainer: Any, renderer: Renderer, documents: Sequence[Document], say: Callable[[str], None]
) -> tuple[SampleRow, ...]:
    """Sample predictions, or none: the run is whole by now, and a failure to illustrate it is told, not raised."""
    from nertune.train.heads import whole_head

    if samples is None or not documents:
        return ()
    try:
        model = trainer.model.get_base_model().eval()
        whole_head(model)
        return tuple(samples(model, renderer, documents))
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
