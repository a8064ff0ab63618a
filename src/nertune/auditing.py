"""`nertune data audit`: the data room looks at the files, the prompt room measures them in a model's tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nertune.data import LabelMap, ReadSettings
from nertune.data.audit import NEAR, Cutoff, Repair, Report, RowLength, Setting, audit, inputs, repair
from nertune.errors import InputError
from nertune.prompt import KNOWN_ANSWERS, PromptSpec, Renderer, fitted
from nertune.schema import Document, LabelSet
from nertune.train.recipe import PromptSection, Recipe, TaskSection
from nertune.train.sections import DataSection, parse_answer, parse_labels

__all__ = ["Outcome", "Wanted", "audit_files"]

_AS_THEY_ARE = LabelMap()


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `reading`, `labels`: see `open_rows`; `label_map`: other labels for those of the files. Where a
    recipe is named, what it says of its files is taken.

    `recipe` and `task`, or `model`: whose tokens are counted, none where both are None. `max_tokens`: the cut-off, instead
    of the recipe's. `near`: see `audit`. `fix`: where the repaired file goes, which keeps the labels that it has.
    """

    reading: ReadSettings = field(default_factory=ReadSettings)
    labels: tuple[str, ...] | None = None
    label_map: LabelMap = _AS_THEY_ARE
    recipe: str | None = None
    task: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    near: float | None = NEAR
    top: int = 5
    fix: str | None = None


class Outcome(NamedTuple):
    """What was found, what was mended, and notes for people on how the files were read."""

    report: Report
    repair: Repair | None
    said: tuple[str, ...]


def audit_files(paths: Sequence[str], wanted: Wanted, *, done: Callable[[int], None] | None = None) -> Outcome:
    """Audit files together, and repair the one that there is where that is asked for.

    Without `paths` the files are the recipe's. Raises what `audit` and `repair` raise, RecipeError, UnknownModelError, and
    InputError for settings that do not go together.
    """
    _check(paths, wanted)
    notes: tuple[str, ...] = ()
    setting = None
    reading: ReadSettings = {**wanted.reading}
    names, label_map = wanted.labels, wanted.label_map
    if wanted.recipe is not None:
        recipe, section, notes = _section(wanted.recipe, wanted.task)
        paths = paths or _files(section.data)
        reading["format"] = reading.get("format") or section.data.format
        reading["columns"] = reading.get("columns") or section.data.columns
        listed = parse_labels(section.labels).names if section.labels else None
        names, label_map = names or listed, section.data.mapping()
        setting = _setting(recipe.model, section, recipe, wanted.max_tokens)
    elif wanted.model is not None:
        section = TaskSection(data=DataSection(train=""), prompt=PromptSection(), answer="inline")
        setting = _setting(wanted.model, section, None, wanted.max_tokens)
    reading["labels"] = label_map.wanted(names)
    mended = None
    if wanted.fix is not None:  # first, so that what it refuses is refused at once
        if len(paths) != 1:
            raise InputError(f"--fix repairs one file at a time, found {len(paths)}; audit them together without it")
        mended = repair(inputs(paths, answers=KNOWN_ANSWERS, **reading)[0], wanted.fix)
    files = inputs(paths, label_map=label_map, answers=KNOWN_ANSWERS, **reading)
    report = audit(files, top=wanted.top, near=wanted.near, setting=setting, done=done)
    notes += tuple(f"{file.file}: {note}" for file in report.files for note in file.notes)
    return Outcome(report, mended, notes)


def _check(paths: Sequence[str], wanted: Wanted) -> None:
    if not paths and wanted.recipe is None:
        raise InputError("there is nothing to audit: name files, or a recipe that names its own (--recipe)")
    if wanted.recipe is not None and wanted.model is not None:
        raise InputError("--recipe and --model exclude each other: a recipe names its model")
    if wanted.recipe is not None and wanted.label_map:
        raise InputError("--recipe and --map exclude each other: a recipe has a map of its own (data.label_map)")
    if wanted.max_tokens is not None and wanted.recipe is None and wanted.model is None:
        raise InputError("--max-tokens counts the tokens of a model: name one (--model or --recipe)")
    if wanted.task is not None and wanted.recipe is None:
        raise InputError("--task is one of a recipe's tasks: name the recipe (--recipe)")


def _section(path: str, task: str | None) -> tuple[Recipe, TaskSection, tuple[str, ...]]:
    """A recipe, and the data set of it that is audited, with its prompt and answer."""
    from nertune.train.llamafactory import open_recipe
    from nertune.train.start import fill_in

    opened, notes = open_recipe(path)
    recipe = fill_in(opened)
    return recipe, recipe.section(task), tuple(notes)


def _files(data: DataSection) -> list[str]:
    """The files that a recipe names itself."""
    return [data.train, *([data.validation] if isinstance(data.validation, str) else [])]


def _setting(model: str, section: TaskSection, recipe: Recipe | None, max_tokens: int | None) -> Setting:
    """What measures documents as training would: the same prompt, the same answer, the same tokens."""
    from nertune.models import add_tokens, load_tokenizer

    tokenizer = load_tokenizer(model)
    if recipe is not None:
        add_tokens(tokenizer, recipe.tokens)
        max_tokens = max_tokens or recipe.max_tokens
    answer = section.answer if section.answer is not None else "inline"
    form = parse_answer(answer)

    def cutoff(labels: Mapping[str, int], deepest: Document) -> Cutoff:
        known = parse_labels(section.labels) if section.labels else LabelSet(tuple(labels))
        nested = fitted(form, [deepest]) if isinstance(answer, str) or "depth" not in answer else form
        renderer = Renderer(tokenizer, PromptSpec((section.prompt or PromptSection()).load(), known, nested))

        def measure(document: Document) -> RowLength:
            row = renderer.row(document)
            return RowLength(row.prompt_length, len(row.ids_T))

        return Cutoff(measure, max_tokens, known.names if section.labels else None)

    return cutoff
