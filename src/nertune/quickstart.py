"""`nertune quickstart`: an LLM becomes a named-entity recognizer before your eyes, on data that comes with the package."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.rule import Rule
from rich.text import Text

from nertune import data
from nertune.assemble import load, untrained
from nertune.data.samples import HELDOUT, TRAIN
from nertune.evaluate import Evaluation, evaluate
from nertune.evaluate.table import comparison_table, score_table
from nertune.extract import Recognizer
from nertune.models import BUILTIN, ensure_builtin
from nertune.prompt import PromptSpec
from nertune.schema import Document, Prediction
from nertune.terminal import Meter, conversion_meter, highlight, line, quiet_libraries, stderr, stdout
from nertune.train.fit import train
from nertune.train.recipe import DataSection, LoraSection, Recipe, TrainingSection
from nertune.watch import TrainingView

__all__ = ["quickstart"]

# Held-out sentences shown at the end, chosen before any model saw them: plain, nested, repeated, Latin, none.
_SHOWN = 5


def quickstart(*, output: str = "runs/quickstart", documents: int | None = None, epochs: float = 2.0) -> Path:
    """Convert, score, train, score again, and show. Returns the run directory.

    `documents`: use only so many of the sample sentences (for a fast look); None for all.
    """
    started = time.monotonic()
    quiet_libraries()
    recipe = _recipe(_free_folder(output), documents, epochs)
    corpus = data.read(TRAIN, limit=documents)
    held_out = data.read(HELDOUT, limit=documents).documents
    spec = PromptSpec(recipe.prompt.load(), corpus.labels, recipe.answer_format())
    stderr.print(
        Text.assemble(
            ("nertune quickstart", "bold"),
            f": Gemma 3 270M learns {len(corpus.labels)} labels from {len(corpus.documents)} sentences; "
            f"{len(held_out)} others measure it.",
        ),
        soft_wrap=True,
    )

    stderr.print(Rule("1  the model", align="left", style="dim"))
    with Meter("preparing the built-in model, once", 1) as meter:
        stderr.print(
            f"{BUILTIN} in {ensure_builtin(conversion_meter(meter))} (Gemma Terms of Use apply)", soft_wrap=True
        )

    stderr.print(Rule("2  before: the untrained model on the held-out sentences", align="left", style="dim"))
    before = _score(untrained(BUILTIN, spec), held_out)[0]
    stderr.print(
        f"micro-F1 {before.metrics['text'].micro.f1:.4f} (text), {before.metrics['span'].micro.f1:.4f} (span)",
        soft_wrap=True,
    )

    stderr.print(Rule("3  training: LoRA", align="left", style="dim"))
    with TrainingView() as view:
        trained = train(recipe, report=view.update, note=line)

    stderr.print(Rule("4  after", align="left", style="dim"))
    recognizer = load(trained.folder)
    after, predictions = _score(recognizer, held_out)
    _show(before, after, held_out, predictions, recognizer)
    stdout.print(
        Text.assemble(
            "\nRun directory: ",
            (str(trained.folder), "bold"),
            f"   (everything took {(time.monotonic() - started) / 60:.1f} min)",
        )
    )
    stdout.print("Next, type:")
    for command in (
        f"nertune extract {trained.folder} --text '下周三，方鹏将在杭州第二中学介绍他的新书《山海之间》。'",
        f"nertune evaluate {trained.folder} --data YOUR_FILE.jsonl --out evaluation",
        "nertune train recipes/cluener-gemma3-270m.yaml data.train=YOUR_FILE.jsonl",
    ):
        stdout.print(f"  {command}", soft_wrap=True)
    return trained.folder


def _recipe(output: str, documents: int | None, epochs: float) -> Recipe:
    return Recipe(
        model=BUILTIN,
        data=DataSection(train=str(TRAIN), validation=0, limit=documents),
        output=output,
        answer="inline",
        lora=LoraSection(rank=16, alpha=32, dropout=0.0),
        training=TrainingSection(
            epochs=epochs,
            batch_size=10,
            learning_rate=1e-3,
            scheduler="cosine",
            warmup=0.05,
            loss_vocabulary="sampled",
            eval_steps=10_000,
        ),
    )


def _free_folder(output: str) -> str:
    """The folder asked for, or the first numbered one beside it that is free: a quickstart never overwrites."""
    folder, number = output, 2
    while Path(folder).exists():
        folder, number = f"{output}-{number}", number + 1
    return folder


def _score(recognizer: Recognizer, held_out: Sequence[Document]) -> tuple[Evaluation, list[Prediction]]:
    started = time.monotonic()
    with Meter("reading the held-out sentences", len(held_out)) as meter:
        predictions = recognizer.extract_many([document.text for document in held_out], done=meter.update)
    return evaluate(held_out, predictions, seconds=time.monotonic() - started), predictions


def _show(
    before: Evaluation,
    after: Evaluation,
    held_out: Sequence[Document],
    predictions: Sequence[Prediction],
    recognizer: Recognizer,
) -> None:
    stdout.print(score_table(before, measure="text", title="Before training"))
    stdout.print(comparison_table(before, after, measure="text"))
    stdout.print(comparison_table(before, after, measure="span"))
    stdout.print("\nFive held-out sentences as the trained model reads them:")
    labels = recognizer.renderer.spec.labels.names
    for document, prediction in list(zip(held_out, predictions, strict=True))[:_SHOWN]:
        stdout.print("  ", highlight(prediction.text, prediction.entities, labels), soft_wrap=True, sep="")
        if set(document.entities) != set(prediction.entities):
            stdout.print("   annotated: ", highlight(document.text, document.entities, labels), soft_wrap=True, sep="")
