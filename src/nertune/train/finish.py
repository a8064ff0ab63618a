"""What a finished training leaves: weights and manifest, sample predictions, the report, the card, and its figures."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.atomic import sync_folder, write_text
from nertune.prompt import template_hash
from nertune.run import RunManifest
from nertune.train.adapter import save_weights
from nertune.train.batches import LeftOut
from nertune.train.card import model_card
from nertune.train.curve import draw_losses, read_metrics
from nertune.train.measure import About, F1Measure, Part, Reader, Reported, sample_rows
from nertune.train.recipe import Recipe
from nertune.train.report import report_page
from nertune.train.sharded import engine
from nertune.train.task import PreparedTask
from nertune.train.track.trackers import SampleRow
from nertune.train.track.tracking import Tracking

__all__ = ["Trained", "figures", "readable_parts", "report_of", "sample", "write_card", "write_report", "write_run"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a finished training reports. `best_checkpoint`: the one whose state the run is; None where it is the last state."""

    folder: Path
    steps: int
    train_loss: float
    best_eval_loss: float | None
    best_f1: float | None
    best_checkpoint: Path | None
    samples_per_second: float
    seconds: float
    left_out: tuple[LeftOut, ...]
    shares_prefix: bool


def figures(trainer: Any, result: Any, folder: Path, left_out: tuple[LeftOut, ...], *, shares_prefix: bool) -> Trained:
    log = trainer.state.log_history
    return Trained(
        folder=folder,
        steps=trainer.state.global_step,
        train_loss=result.training_loss,
        best_eval_loss=min((line["eval_loss"] for line in log if "eval_loss" in line), default=None),
        best_f1=max((line["eval_f1"] for line in log if "eval_f1" in line), default=None),
        best_checkpoint=Path(best) if (best := trainer.state.best_model_checkpoint) else None,
        samples_per_second=result.metrics["train_samples_per_second"],
        seconds=result.metrics["train_runtime"],
        left_out=left_out,
        shares_prefix=shares_prefix,
    )


def readable_parts(tasks: Sequence[PreparedTask]) -> tuple[Part, ...]:
    """What can be read with the model in training: each task's validation documents, where it has some."""
    return tuple(Part(task.name, task.renderer, task.task.validation) for task in tasks if task.task.validation)


def write_run(
    trainer: Any,
    recipe: Recipe,
    tasks: Sequence[PreparedTask],
    folder: Path,
    weights: dict[str, Any] | None = None,
) -> None:
    """Weights, manifest and curve; the manifest last, because its presence says that the run is whole."""
    save_weights(trainer.model, recipe, folder, weights)
    draw_losses(folder / "metrics.jsonl", folder / "loss.png")
    packages: Sequence[str] = ("nertune", "torch", "transformers", "peft", "tokenizers")
    manifest = RunManifest(
        base_model=recipe.model,
        prompt=None if recipe.tasks else tasks[0].task.spec,
        template_hash=template_hash(tasks[0].renderer.tokenizer),
        stop_ids=tuple(sorted(frozenset().union(*(task.renderer.stop_ids for task in tasks)))),
        max_tokens=max(len(row.ids_T) for task in tasks for row in task.rows),
        versions={name: importlib.metadata.version(name) for name in packages},
        tasks={task.name: task.task.spec for task in tasks} if recipe.tasks else {},
        kind="model" if recipe.method == "full" else "adapter",
        tokens=recipe.tokens,
        quantize=recipe.training.quantize,
        loss_tokens=recipe.training.loss_tokens,
    )
    if manifest.has_tokenizer:
        tokenizer: Any = tasks[0].renderer.tokenizer
        tokenizer.save_pretrained(str(folder))
    sync_folder(folder)  # or a power cut could leave a manifest beside weights that never came onto the disk
    manifest.write(folder)


def sample(
    reader: Reader | None, trainer: Any, tasks: Sequence[PreparedTask], say: Callable[[str], None]
) -> tuple[SampleRow, ...]:
    """Sample predictions, or none: the run is whole by now, and a failure to illustrate it is told, not raised."""
    if reader is None:
        return ()
    if found := engine():
        say(f"no sample predictions: {found} has taken the model apart")
        return ()
    try:
        return sample_rows(trainer.model, reader, readable_parts(tasks))
    except Exception as error:
        say(f"no sample predictions: {type(error).__name__}: {error}")
        return ()


def report_of(
    measure: F1Measure | None,
    trainer: Any,
    recipe: Recipe,
    tasks: Sequence[PreparedTask],
    trained: Trained,
    say: Callable[[str], None],
) -> Reported | None:
    """The report on the validation documents by which F1 was measured; None where it was not, or where the report fails."""
    if measure is None:
        return None
    names = {part.task for part in measure.parts}
    facts = {"base model": recipe.model, **_numbers(trained)}
    about = About(trained.folder.name, (), facts, read_metrics(trained.folder / "metrics.jsonl"), recipe.to_yaml())
    try:
        return measure.report(trainer.model, about, [task.task.train for task in tasks if task.name in names])
    except Exception as error:
        say(f"no report on the validation documents: {type(error).__name__}: {error}")
        return None


def write_report(
    trained: Trained,
    recipe: Recipe,
    samples: Sequence[SampleRow],
    tracking: Tracking,
    reported: Reported | None = None,
) -> None:
    """report.html in the run directory, handed to the trackers too: `reported` with its other files, or the plain page."""
    folder = trained.folder
    if reported is None:
        page = _plain_page(trained, recipe, samples)
        write_text(folder / "report.html", page)
    else:
        page = reported.files["report.html"]
        for name, text in reported.files.items():
            write_text(folder / name, text)
    if samples:
        tracking.samples(samples, trained.steps)
    tracking.page(page, trained.steps)


def _plain_page(trained: Trained, recipe: Recipe, samples: Sequence[SampleRow]) -> str:
    """Numbers, curves, samples and the recipe, without an evaluation."""
    metrics = read_metrics(trained.folder / "metrics.jsonl")
    numbers = _numbers(trained)
    if measured := [line["eval_f1"] for line in metrics if "eval_f1" in line]:
        numbers["entity F1 (micro), last and best"] = f"{measured[-1]:.4f}, {max(measured):.4f}"
    return report_page(
        name=trained.folder.name,
        numbers=numbers,
        metrics=metrics,
        picture=(trained.folder / "loss.png").read_bytes(),
        recipe=recipe.to_yaml(),
        samples=samples,
    )


def _numbers(trained: Trained) -> dict[str, str]:
    best, kept = trained.best_eval_loss, trained.best_checkpoint
    return {
        "optimizer steps": str(trained.steps),
        "training loss": f"{trained.train_loss:.4f} nats a token",
        "best validation loss": "not measured" if best is None else f"{best:.4f} nats a token",
        "best checkpoint": "none: the run is the last state" if kept is None else kept.name,
        "speed": f"{trained.samples_per_second:.2f} samples a second",
        "time": f"{trained.seconds:.0f} s",
        "documents left out": str(len(trained.left_out)),
    }


def write_card(trained: Trained, recipe: Recipe, tasks: Sequence[PreparedTask], reported: Reported | None) -> None:
    """README.md in the run directory, in place of PEFT's empty form."""
    card = model_card(
        recipe,
        [task.task for task in tasks],
        name=trained.folder.name,
        evaluation=reported.evaluation if reported else None,
        seconds=trained.seconds,
    )
    write_text(trained.folder / "README.md", card)
