"""What a recipe trains on: its documents, read, split and labelled."""

from __future__ import annotations

from dataclasses import dataclass

from nertune import data
from nertune.errors import InputError
from nertune.schema import Document, LabelSet
from nertune.train.recipe import Recipe

__all__ = ["TaskData", "load_task_data"]


@dataclass(frozen=True, slots=True)
class TaskData:
    """The documents of a recipe, their numbers (1-based) in the file each comes from, and what was said while reading."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    labels: LabelSet
    notes: tuple[str, ...]
    train_numbers: tuple[int, ...]
    validation_numbers: tuple[int, ...]


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
        if section.hold_out == "first":
            parts = data.split_first(corpus.documents, held_out=section.validation)
        else:
            parts = data.split(corpus.documents, held_out=section.validation, seed=section.seed)
        train_documents, validation = parts.train, parts.held_out
        if repeated := len(corpus.documents) - len(train_documents) - len(validation):
            notes.append(f"{repeated:,} documents repeat a text that is held out: they are not trained on")
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
