"""What a recipe trains on: its tasks, each a data set with its documents, read and split, its labels and its prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from nertune import data
from nertune.data.wording import counted
from nertune.errors import DataError, InputError
from nertune.prompt import KNOWN_ANSWERS, PromptSpec, Renderer, Row, fitted, refuse_unwritable
from nertune.prompt.tokenizer import Tokenizer
from nertune.schema import Document, LabelSet
from nertune.train.batches import LeftOut, Prepared, prepare
from nertune.train.free import free_tokens
from nertune.train.recipe import Recipe
from nertune.train.sections import DataSection, PromptSection, TaskSection, parse_answer, parse_labels

__all__ = ["PreparedTask", "Task", "load_tasks", "prepare_task"]


@dataclass(frozen=True, slots=True)
class Task:
    """One data set of a recipe and what is asked about it.

    `name`: empty where the recipe has one data set and no tasks. The numbers are the documents' places (1-based) in
    `train_file` and `validation_file`, the files they come from. `weight`: how often a document is seen in an epoch.
    `left_out`: training documents of which nothing remains but the text, because their mentions were not found in it.
    `notes`: what was said while reading.
    """

    name: str
    spec: PromptSpec
    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    train_numbers: tuple[int, ...]
    validation_numbers: tuple[int, ...]
    train_file: str
    validation_file: str
    weight: float = 1.0
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> LabelSet:
        """The labels that the prompt names."""
        return self.spec.labels


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task as one model's tokens: `renderer` writes its prompts, `rows` and `validation_rows` are trained and measured.

    `names`: what to call the document of each of `rows` in a message.
    """

    task: Task
    renderer: Renderer
    rows: tuple[Row, ...]
    validation_rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The task's name, empty for a recipe's only one."""
        return self.task.name


def load_tasks(recipe: Recipe) -> tuple[Task, ...]:
    """Read and split what the recipe names.

    Raises DataError, InputError for a label the recipe does not know, and InputError for documents that the answer format
    cannot write, counted over all tasks.
    """
    tasks = tuple(_load(name, section) for name, section in recipe.by_task().items())
    refuse_unwritable(
        (
            f"{task.name}: {file}: document {number}" if task.name else f"{file}: document {number}",
            task.spec.answer,
            document,
        )
        for task in tasks
        for file, numbers, documents in (
            (task.train_file, task.train_numbers, task.train),
            (task.validation_file, task.validation_numbers, task.validation),
        )
        for number, document in zip(numbers, documents, strict=True)
    )
    return tasks


def prepare_task(task: Task, tokenizer: Tokenizer, recipe: Recipe, *, say: Callable[[str], None]) -> PreparedTask:
    """Render a task's documents; `say` hears of every kind of document that is left out, by name.

    Raises as `prepare` does.
    """
    renderer = Renderer(tokenizer, task.spec)
    refuse = recipe.overlong == "refuse"
    free = free_tokens(recipe, renderer)

    def prepared(documents: tuple[Document, ...], numbers: tuple[int, ...], file: str, what: str) -> Prepared:
        source = _source(task.name, file)
        found = prepare(
            documents, renderer, max_tokens=recipe.max_tokens, refuse=refuse, numbers=numbers, source=source, free=free
        )
        _say_left_out(found.left_out, f"{task.name} {what}".strip(), say)
        return found

    rows = prepared(task.train, task.train_numbers, task.train_file, "training")
    held_out = None
    if task.validation:
        held_out = prepared(task.validation, task.validation_numbers, task.validation_file, "validation")
    if free:
        say(f"{task.name}: {free.said()}" if task.name else free.said())
    left_out = (*task.left_out, *rows.left_out)
    return PreparedTask(task, renderer, rows.rows, held_out.rows if held_out else (), left_out, rows.names)


def _load(name: str, section: TaskSection) -> Task:
    listed = parse_labels(section.labels) if section.labels else None
    at = f"tasks.{name}." if name else ""
    parts = _documents(section.data, listed.names if listed else None, name=name, at=at)
    train, validation, notes = parts.train, parts.validation, parts.notes
    labels = _checked(listed, [*train, *validation], file=section.data.train, at=at)
    warned: list[str] = []
    template = (section.prompt or PromptSection()).load(warned)
    notes += tuple(f"{at}{note}" if note.startswith("prompt.") else note for note in warned)
    if labels.descriptions and not template.has_descriptions:
        notes += (
            f"{at}labels: the model does not see the descriptions, as the prompt has no {{descriptions}} for them",
        )
    answer = section.answer if section.answer is not None else "inline"
    form = parse_answer(answer)
    if isinstance(answer, str) or "depth" not in answer:
        form = fitted(form, [*train, *validation])
    held_out = section.data.validation
    return Task(
        name=name,
        spec=PromptSpec(template, labels, form),
        train=train,
        validation=validation,
        train_numbers=tuple(parts.numbers[id(document)] for document in train),
        validation_numbers=tuple(parts.numbers[id(document)] for document in validation),
        train_file=section.data.train,
        validation_file=held_out if isinstance(held_out, str) else section.data.train,
        weight=section.weight,
        left_out=parts.left_out,
        notes=tuple(f"{name}: {line}" for line in notes) if name else notes,
    )


class _Read(NamedTuple):
    """A file's documents but those in `emptied`, which lost mentions and hold none; `numbers`: by `id()`, from 1."""

    documents: tuple[Document, ...]
    numbers: dict[int, int]
    emptied: tuple[LeftOut, ...]
    notes: tuple[str, ...]


class _Parts(NamedTuple):
    """The documents to train on and those to measure on, and the training documents that are left out."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    numbers: dict[int, int]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def _documents(section: DataSection, names: tuple[str, ...] | None, *, name: str, at: str) -> _Parts:
    """Read and split what a data section names. `name`: the task's; `at`: where the recipe's keys for it stand."""
    read = _read(section, section.train, names, limit=section.limit, name=name, at=at)
    train, numbers, notes = read.documents, read.numbers, read.notes
    validation: tuple[Document, ...] = ()
    if isinstance(section.validation, str):
        held_out = _read(section, section.validation, names, limit=None, name=name, at=at)
        validation, numbers, notes = held_out.documents, numbers | held_out.numbers, notes + held_out.notes
    elif section.validation:
        if section.hold_out == "first":
            parts = data.split_first(train, held_out=section.validation)
        elif section.hold_out == "stratified":
            parts = data.split_stratified(train, held_out=section.validation, seed=section.seed)
        else:
            parts = data.split(train, held_out=section.validation, seed=section.seed)
        train, validation = parts.train, parts.held_out
        if repeated := len(read.documents) - len(train) - len(validation):
            notes += (f"{repeated:,} documents repeat a text that is held out: they are not trained on",)
    if not any(document.entities for document in train):
        raise InputError(f"{section.train}: no document holds an entity, so there is nothing to learn from")
    return _Parts(train, validation, numbers, read.emptied, notes)


def _read(
    section: DataSection, file: str, names: tuple[str, ...] | None, *, limit: int | None, name: str, at: str
) -> _Read:
    """Read a file's documents under the labels that the section's map gives them.

    Raises DataError for a file that is doubtful, unless the section accepts it.
    """
    label_map = section.mapping()
    wanted = label_map.wanted(names)
    corpus = data.read(
        file, format=section.format, limit=limit, labels=wanted, columns=section.columns, answers=KNOWN_ANSWERS
    )
    if corpus.doubts and section.doubtful == "refuse":
        raise DataError(
            f"{'; '.join(corpus.doubts)}. Mend the file (nertune data audit lists what is wrong), or set "
            f"{at}data.doubtful: accept to train on what was read all the same",
            path=file,
        )
    documents, notes = corpus.documents, corpus.notes
    if label_map:
        documents, changes = label_map.apply(documents)
        notes += tuple(f"{file}: {note}" for note in label_map.notes(changes))
    emptied = {
        number: f"not found in its text: {counted(len(lost), 'mention')}, and it holds no other"
        for number, labels in corpus.lost.items()
        if not documents[number].entities and (lost := [one for one in labels if label_map.targets.get(one, one)])
    }
    source = _source(name, file)
    left_out = tuple(LeftOut(n + 1, why, documents[n].text, source) for n, why in emptied.items())
    if left_out:
        shown = ", ".join(str(one.number) for one in left_out[:10]) + (", …" if len(left_out) > 10 else "")
        those = counted(len(left_out), "document", "documents")
        notes += (f"{file}: left out, not taken for empty, {those} without a mention that was found: {shown}",)
    kept = {number: document for number, document in enumerate(documents, 1) if number - 1 not in emptied}
    return _Read(tuple(kept.values()), {id(one): number for number, one in kept.items()}, left_out, notes)


def _source(name: str, file: str) -> str:
    """What documents' numbers are of, in a message of a run with several tasks."""
    return f"{name}, {file}" if name else ""


def _checked(listed: LabelSet | None, documents: Iterable[Document], *, file: str, at: str) -> LabelSet:
    """The labels that the recipe lists, or those that occur. `at`: where the recipe's keys for the data set stand."""
    found = LabelSet.from_documents(documents)
    if listed is None:
        return found
    unknown = [name for name in found if name not in listed]
    if unknown:
        shown = [name for name in unknown if listed.label_of(name) != name]
        hints = [f"{name!r}" + (f" (like {near!r})" if (near := listed.nearest(name)) else "") for name in unknown]
        advice = f"{{{', '.join(f'{name}: {listed.label_of(name)}' for name in shown)}}}" if shown else "{OLD: NEW}"
        raise InputError(
            f"{file}: labels that the recipe does not list: {', '.join(hints)}. Add them to {at}labels, leave {at}labels out "
            f"to take those of the data ({', '.join(found)}), or give them others with {at}data.label_map: {advice}"
        )
    return listed


def _say_left_out(left_out: tuple[LeftOut, ...], what: str, say: Callable[[str], None]) -> None:
    if left_out:
        say(f"{len(left_out)} {what} documents are left out, none is cut:")
        for item in left_out[:5]:
            say(f"  {item}")
        if len(left_out) > 5:
            say(f"  and {len(left_out) - 5} more")
