"""Training, from a recipe to a run directory. The one flat path through this room: read it top to bottom."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nertune import data
from nertune.atomic import write_text
from nertune.errors import InputError, MissingFileError
from nertune.models import load_model, load_tokenizer
from nertune.prompt import PromptSpec, Renderer, template_hash
from nertune.run import MANIFEST, RunManifest
from nertune.schema import Document, LabelSet
from nertune.train.batches import LeftOut, Prepared, collate_packed, collate_padded, prepare, trained_tokens
from nertune.train.dropout import replace_lora_dropout
from nertune.train.recipe import Recipe
from nertune.train.report import report_page
from nertune.train.track.trackers import SampleRow, Tracker, check_ready
from nertune.train.track.tracking import Tracking, TrackingCallback
from nertune.train.trainer import MetricsFile, NerTrainer, Progress, ProgressCallback

__all__ = ["Samples", "TaskData", "Trained", "load_task_data", "train"]


# From the trained model (the base with its LoRA layers, in evaluation mode), its renderer and the validation documents.
Samples = Callable[[Any, Renderer, Sequence[Document]], Sequence[SampleRow]]


@dataclass(frozen=True, slots=True)
class TaskData:
    """The documents of a recipe, their numbers (1-based) in the file each comes from, and what was said while reading."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    labels: LabelSet
    notes: tuple[str, ...]
    train_numbers: tuple[int, ...]
    validation_numbers: tuple[int, ...]


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


def load_task_data(recipe: Recipe) -> TaskData:
    """Read and split what the recipe names. Raises DataError, or InputError for a label the recipe does not know."""
    section = recipe.data
    names = recipe.labels
    columns = section.columns
    corpus = data.read(section.train, format=section.format, limit=section.limit, labels=names, columns=columns)
    notes = list(corpus.notes)
    validation: tuple[Document, ...] = ()
    train_documents = corpus.documents
    if isinstance(section.validation, str):
        held_out = data.read(section.validation, format=section.format, labels=names, columns=columns)
        validation, notes = held_out.documents, [*notes, *held_out.notes]
    elif section.validation:
        parts = data.split(corpus.documents, held_out=section.validation, seed=section.seed)
        train_documents, validation = parts.train, parts.held_out
    if not any(document.entities for document in train_documents):
        raise InputError(f"{section.train}: no document holds an entity, so there is nothing to learn from")
    found = LabelSet.from_documents([*train_documents, *validation])
    labels = LabelSet(tuple(names)) if names else found
    unknown = [name for name in found if name not in labels]
    if unknown:
        hints = [f"{name!r}" + (f" (like {near!r})" if (near := labels.nearest(name)) else "") for name in unknown]
        raise InputError(
            f"{section.train}: labels that the recipe does not list: {', '.join(hints)}. "
            f"Add them to labels, or leave labels out to take those of the data: {', '.join(found)}"
        )
    numbers = {id(document): number for number, document in enumerate(corpus.documents, 1)}
    return TaskData(
        train=train_documents,
        validation=validation,
        labels=labels,
        notes=tuple(notes),
        train_numbers=tuple(numbers[id(document)] for document in train_documents),
        validation_numbers=tuple(numbers.get(id(document), number) for number, document in enumerate(validation, 1)),
    )


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
    Raises InputError before anything is written when recipe, data or output folder cannot be used.
    """
    from transformers import set_seed

    from nertune.train.heads import SAMPLED, loss_head

    say = note or (lambda line: None)
    folder = Path(recipe.output)
    checkpoint = _check_output(folder, resume=resume or recipe.resume)
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
    model, packed = _prepare_model(model, recipe)
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
    trainer = NerTrainer(
        model=model,
        args=_arguments(recipe, folder, evaluates=eval_rows is not None),
        train_dataset=list(rows.rows),
        eval_dataset=list(eval_rows.rows) if eval_rows else None,
        data_collator=collate_packed if packed else partial(collate_padded, pad_id=_pad_id(tokenizer)),
        callbacks=callbacks,
        packed=packed,
        head=head,
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


def _check_output(folder: Path, *, resume: bool | str) -> Path | None:
    """The checkpoint to go on from, if any. Refuses to write over a run that is there."""
    if isinstance(resume, str):
        if not (Path(resume) / "trainer_state.json").is_file():
            raise MissingFileError(f"resume: {resume} is not the folder of a checkpoint: no trainer_state.json there")
        return Path(resume)
    last = _last_whole_checkpoint(folder / "checkpoints")
    if resume:
        if last is None:
            raise MissingFileError(
                f"{folder}: no checkpoint to resume from; start without --resume (or with resume: false)"
            )
        return last
    if last is not None or (folder / MANIFEST).exists():
        raise InputError(f"{folder} already holds a run. Go on with it: --resume; or write elsewhere: output=FOLDER")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file, not a folder")
    return None


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that a kill did not cut off: transformers writes its trainer_state.json last."""
    by_step = {
        int(number): path
        for path in folder.glob("checkpoint-*")
        if (number := path.name.removeprefix("checkpoint-")).isdecimal()
    }
    for step in sorted(by_step, reverse=True):
        try:
            json.loads((by_step[step] / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return by_step[step]
    return None


def _say_left_out(prepared: Prepared, what: str, say: Callable[[str], None]) -> None:
    if prepared.left_out:
        say(f"{len(prepared.left_out)} {what} documents are left out, none is cut:")
        for item in prepared.left_out[:5]:
            say(f"  {item}")
        if len(prepared.left_out) > 5:
            say(f"  and {len(prepared.left_out) - 5} more")


def _prepare_model(model: Any, recipe: Recipe) -> tuple[Any, bool]:
    """The model with LoRA layers, and whether it computes shared prefixes once."""
    from peft import LoraConfig, TaskType, get_peft_model

    from nertune.models.attention import can_share_prefix

    packed = can_share_prefix(model.train())
    lora = recipe.lora
    targets: str | list[str] = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    if not isinstance(targets, str):
        modules = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        missing = sorted(set(targets) - modules)
        if missing:
            raise InputError(f"lora.targets: {', '.join(missing)} not in {recipe.model}; use all-linear")
    if recipe.training.gradient_checkpointing:
        model.enable_input_require_grads()
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        base_model_name_or_path=recipe.model,
    )
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"lora.targets: {targets} does not fit {recipe.model}: {error}") from error
    replace_lora_dropout(model)
    return model, packed


def _arguments(recipe: Recipe, folder: Path, *, evaluates: bool) -> Any:
    """transformers' training arguments for a recipe."""
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
        metric_for_best_model="eval_loss" if keeps_best else None,
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
