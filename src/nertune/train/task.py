"""What a recipe trains on: its tasks, each a data set with its documents, read and split, its labels and its prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nertune import data
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
    listed = parse_labels(section.labels) if section.labels else None
    corpus, train, validation, notes = _documents(section.data, listed.names if listed else None)
    at = f"tasks.{name}." if name else ""
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
    numbers = {id(document): number for number, document in enumerate(corpus, 1)}
    held_out = section.data.validation
    return Task(
        name=name,
        spec=PromptSpec(template, labels, form),
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
    documents, emptied, notes = _read(section, section.train, names, limit=section.limit)
    train = documents
    validation: tuple[Document, ...] = ()
    if isinstance(section.validation, str):
        validation, lost, said = _read(section, section.validation, names)
        emptied |= lost
        notes += said
    elif section.validation:
        if section.hold_out == "first":
            parts = data.split_first(documents, held_out=section.validation)
        elif section.hold_out == "stratified":
            parts = data.split_stratified(documents, held_out=section.validation, seed=section.seed)
        else:
            parts = data.split(documents, held_out=section.validation, seed=section.seed)
        train, validation = parts.train, parts.held_out
        if repeated := len(documents) - len(train) - len(validation):
            notes += (f"{repeated:,} documents repeat a text that is held out: they are not trained on",)
    train, validation = (tuple(one for one in part if id(one) not in emptied) for part in (train, validation))
    if emptied:
        notes += (
            f"{len(emptied):,} documents lost all of their mentions: they are left out, not taken for empty ones",
        )
    if not any(document.entities for document in train):
        raise InputError(f"{section.train}: no document holds an entity, so there is nothing to learn from")
    return documents, train, validation, notes


def _read(
    section: DataSection, file: str, names: tuple[str, ...] | None, *, limit: int | None = None
) -> tuple[tuple[Document, ...], set[int], tuple[str, ...]]:
    """A file's documents under the labels that the section's map gives them, the `id()`s of those that lost all of their
    mentions, and notes on both. Raises DataError for a file that is doubtful, unless the section accepts it."""
    label_map = section.mapping()
    wanted = label_map.wanted(names)
    corpus = data.read(
        file, format=section.format, limit=limit, labels=wanted, columns=section.columns, answers=KNOWN_ANSWERS
    )
    if corpus.doubts and section.doubtful == "refuse":
        raise DataError(
            f"{'; '.join(corpus.doubts)}. Mend the file (nertune data audit lists what is wrong), or set "
            "data.doubtful: accept to train on what was read all the same",
            path=file,
        )
    if not label_map:
        emptied = {id(corpus.documents[number]) for number in corpus.emptied}
        return corpus.documents, emptied, corpus.notes
    mapped = label_map.apply(corpus.documents)
    emptied = {id(mapped.documents[number]) for number in corpus.emptied}
    return mapped.documents, emptied, (*corpus.notes, *(f"{file}: {note}" for note in label_map.notes(mapped.changes)))


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
