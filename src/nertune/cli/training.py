"""`nertune quickstart`, `preview` and `train`."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from nertune.cli.messages import rank, say
from nertune.cli.options import Commands, above_zero, positive

__all__ = ["add_preview", "add_quickstart", "add_train"]


def add_quickstart(commands: Commands) -> None:
    quickstart = commands.add_parser(
        "quickstart", help="the main job, end to end, on the built-in model and sample data"
    )
    quickstart.add_argument(
        "--output", default="runs/quickstart", metavar="DIR", help="run directory (default: %(default)s)"
    )
    quickstart.add_argument(
        "--documents", type=positive, metavar="N", help="only the first N sample sentences: a fast look"
    )
    quickstart.add_argument(
        "--epochs", type=above_zero, default=2.0, metavar="E", help="passes over the data (default: %(default)s)"
    )
    quickstart.set_defaults(run=_quickstart)


def add_preview(commands: Commands) -> None:
    preview = commands.add_parser("preview", help="text, tokens, ids, attention mask and labels of training rows")
    preview.add_argument("recipe", metavar="RECIPE")
    preview.add_argument("overrides", nargs="*", metavar="key=value")
    preview.add_argument("-n", type=positive, default=1, metavar="N", help="how many samples (default: 1)")
    preview.set_defaults(run=_preview)


def add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="fine-tune as a recipe says")
    train.add_argument("recipe", metavar="RECIPE", help="nertune's own, or LLaMA-Factory's YAML")
    train.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change, such as training.epochs=3"
    )
    train.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint of the recipe's output folder"
    )
    train.set_defaults(run=_train)


def _quickstart(options: argparse.Namespace) -> int:
    from nertune.quickstart import quickstart

    quickstart(output=options.output, documents=options.documents, epochs=options.epochs)
    return 0


def _preview(options: argparse.Namespace) -> int:
    from nertune.models import add_tokens, load_tokenizer
    from nertune.prompt import Renderer
    from nertune.terminal import Meter, conversion_meter, quiet_libraries, stdout
    from nertune.train.llamafactory import open_recipe
    from nertune.train.start import fill_in
    from nertune.train.task import load_tasks

    recipe, notes = open_recipe(options.recipe, options.overrides)
    for line in notes:
        say(line)
    recipe = fill_in(recipe)
    tasks = load_tasks(recipe)
    for line in (note for task in tasks for note in task.notes):
        say(line)
    quiet_libraries()
    with Meter("loading the tokenizer") as meter:
        tokenizer = load_tokenizer(recipe.model, report=conversion_meter(meter))
    add_tokens(tokenizer, recipe.tokens)
    for task in tasks:
        if task.name:
            stdout.print(f"task {task.name}: {len(task.train)} documents, weight {task.weight:g}", style="bold")
        _preview_rows(recipe, Renderer(tokenizer, task.spec), task.train[: max(options.n, 2)], options.n)
    return 0


def _preview_rows(recipe: Any, renderer: Any, documents: Sequence[Any], shown: int) -> None:
    """Print the first rows of a task as training sees them: what people read, and what the model is given."""
    from nertune.prompt import TokenPlaces
    from nertune.terminal import in_colour, stdout
    from nertune.train.batches import shared_prefix_length
    from nertune.train.free import free_tokens

    max_tokens = recipe.max_tokens
    rows = [renderer.row(document) for document in documents]
    if free := free_tokens(recipe, renderer):
        rows = [free.row(row, document.text) for row, document in zip(rows, documents, strict=True)]
    shared = shared_prefix_length(rows)
    places = TokenPlaces(renderer.tokenizer)
    for number, row in enumerate(rows[:shown], 1):
        cut = "" if len(row.ids_T) <= max_tokens else f" - longer than max_tokens={max_tokens}: left out"
        stdout.print(
            f"sample {number}: {len(row.ids_T)} tokens, {sum(row.loss_mask_T)} trained "
            f"({'green' if in_colour(stdout) else 'in ⟦ ⟧'}), the first {shared} shared by all prompts{cut}",
            style="bold",
            soft_wrap=True,
        )
        for heading, content in _parts_of_row(row, places):
            stdout.print(heading, style="bold", soft_wrap=True)
            stdout.print(
                content, style="bright_black" if isinstance(content, str) else None, markup=False, soft_wrap=True
            )


def _parts_of_row(row: Any, places: Any) -> Iterator[tuple[str, Any]]:
    """Headings, and what stands under each: the text, and the lists that a training script prints."""
    from nertune.console import visible
    from nertune.prompt import IGNORED
    from nertune.terminal import in_colour, stdout, token_strip

    # Tokens that share a character are shown together: one of them alone is no text.
    groups = places.whole(row.ids_T)
    starts = itertools.accumulate((count for count, _ in groups), initial=0)
    trained = [any(row.loss_mask_T[start : start + count]) for start, (count, _) in zip(starts, groups, strict=False)]
    yield "text", token_strip([word for _, word in groups], trained, colour=in_colour(stdout))
    words = (visible(json.dumps(word, ensure_ascii=False)) + f"×{count}" * (count > 1) for count, word in groups)
    yield "tokens (×2: two that share a character)", f"[{', '.join(words)}]"
    yield "input_ids", str(row.ids_T)
    yield "attention_mask", str([1] * len(row.ids_T))
    yield f"labels ({IGNORED}: not trained)", str(row.labels())


def _train(options: argparse.Namespace) -> int:
    from nertune.terminal import line, quiet_libraries, silence, stderr, stdout
    from nertune.train.llamafactory import open_recipe

    recipe, notes = open_recipe(options.recipe, options.overrides)
    if rank():
        silence()
    else:
        for said in notes:
            say(said)
    quiet_libraries()
    from nertune.assemble import f1_reader
    from nertune.train.fit import train
    from nertune.watch import TrainingView

    with TrainingView() as view:
        trained = train(
            recipe,
            resume=options.resume,
            report=view.update,
            note=line,
            model_report=view.preparing,
            reader=f1_reader(done=view.reading),
        )
    best = "" if trained.best_eval_loss is None else f", best eval loss {trained.best_eval_loss:.4f}"
    f1 = "" if trained.best_f1 is None else f", best F1 {trained.best_f1:.4f}"
    stderr.print(
        f"{trained.steps} steps in {trained.seconds / 60:.1f} min, {trained.samples_per_second:.2f} samples/s, "
        f"train loss {trained.train_loss:.4f}{best}{f1}"
    )
    if trained.best_checkpoint is not None:
        stderr.print(f"the best checkpoint, which is the run: {trained.best_checkpoint}", markup=False, soft_wrap=True)
    stdout.print(str(trained.folder), soft_wrap=True)
    run = f"{trained.folder} --task NAME" if recipe.tasks and len(recipe.tasks) > 1 else str(trained.folder)
    stderr.print(f"Next: nertune evaluate {run} --data FILE   or   nertune extract {run} --text '…'")
    return 0
