"""What a recipe trains on: its tasks, each a data set with its documents, read and split, its labels and its prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nertune import data
from nertune.errors import InputError
from nertune.prompt import KNOWN_ANSWERS, PromptSpec, Renderer, Row, fitted, refuse_unwritable
from nertune.prompt.tokenizer import Tokenizer
from nertune.schema import Document, LabelSet
from nertune.train.batches import LeftOut, Prepared, prepare
from nertune.train.free import free_tokens
from nertune.train.recipe import Recipe
from nertune.train.sections import DataSection, PromptSection, TaskSection, parse_answer

__all__ = ["PreparedTask", "Task", "load_tasks", "prepare_task"]


@dataclass(frozen=True, slots=True)
class Task:
    """One data set of a recipe and what is asked about it.

    `name`: empty where the recipe has one data set and no tasks. The numbers are the documents' places (1-based) in
    `train_file` and `validation_file`, the files they come from. `weight`: how often a document is seen in an epoch.
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
        source = f"{task.name}, {file}" if task.name else ""
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
    return PreparedTask(task, renderer, rows.rows, held_out.rows if held_out else (), rows.left_out, rows.names)


def _load(name: str, section: TaskSection) -> Task:
    corpus, train, validation, notes = _documents(section.data, section.labels)
    labels = _labels(section, [*train, *validation], at=f"tasks.{name}.labels" if name else "labels")
    answer = section.answer if section.answer is not None else "inline"
    form = parse_answer(answer)
    if isinstance(answer, str) or "depth" not in answer:
        form = fitted(form, [*train, *validation])
    numbers = {id(document): number for number, document in enumerate(corpus, 1)}
    held_out = section.data.validation
    return Task(
        name=name,
        spec=PromptSpec((section.prompt or PromptSection()).load(), labels, form),
        train=train,
        validation=validation,
        train_numbers=tuple(numbers[id(document)] for document in train),
        validation_numbers=tuple(numbers.get(id(document), number) for number, document in enumerate(validation, 1)),
        train_file=section.data.train,
        validation_file=held_out if isinstance(held_out, str) else section.data.train,
        weight=section.weight,
        notes=tuple(f"{name}: {line}" for line in notes) if name else notes,
    )


def _documents(
    section: DataSection, names: tuple[str, ...] | None
) -> tuple[tuple[Document, ...], tuple[Document, ...], tuple[Document, ...], tuple[str, ...]]:
    """All documents of the training file, those to train on, those to measure on, and what was said while reading."""

    def read(path: str, limit: int | None = None) -> data.Corpus:
        form, columns = section.format, section.columns
        return data.read(path, format=form, limit=limit, labels=names, columns=columns, answers=KNOWN_ANSWERS)

    corpus = read(section.train, section.limit)
    train, notes = corpus.documents, corpus.notes
    validation: tuple[Document, ...] = ()
    if isinstance(section.validation, str):
        held_out = read(section.validation)
        validation, notes = held_out.documents, notes + held_out.notes
    elif section.validation:
        if section.hold_out == "first":
            parts = data.split_first(corpus.documents, held_out=section.validation)
        elif section.hold_out == "stratified":
            parts = data.split_stratified(corpus.documents, held_out=section.validation, seed=section.seed)
        else:
            parts = data.split(corpus.documents, held_out=section.validation, seed=section.seed)
        train, validation = parts.train, parts.held_out
        if repeated := len(corpus.documents) - len(train) - len(validation):
            notes += (f"{repeated:,} documents repeat a text that is held out: they are not trained on",)
    if not any(document.entities for document in train):
        raise InputError(f"{section.train}: no document holds an entity, so there is nothing to learn from")
    return corpus.documents, train, validation, notes


def _labels(section: TaskSection, documents: Iterable[Document], *, at: str) -> LabelSet:
    """The section's labels, or those that occur. `at`: the recipe's key for them."""
    found = LabelSet.from_documents(documents)
    labels = LabelSet(section.labels) if section.labels else found
    unknown = [name for name in found if name not in labels]
    if unknown:
        hints = [f"{name!r}" + (f" (like {near!r})" if (near := labels.nearest(name)) else "") for name in unknown]
        raise InputError(
            f"{section.data.train}: labels that the recipe does not list: {', '.join(hints)}. "
            f"Add them to {at}, or leave {at} out to take those of the data: {', '.join(found)}"
        )
    return labels


def _say_left_out(left_out: tuple[LeftOut, ...], what: str, say: Callable[[str], None]) -> None:
    if left_out:
        say(f"{len(left_out)} {what} documents are left out, none is cut:")
        for item in left_out[:5]:
            say(f"  {item}")
        if len(left_out) > 5:
            say(f"  and {len(left_out) - 5} more")
