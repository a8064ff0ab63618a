"""Splits that no text straddles: what was held out has never been trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from nertune.data.stratify import stratify
from nertune.errors import InputError
from nertune.schema import Document

__all__ = [
    "Grouping",
    "Split",
    "Three",
    "groups_of",
    "split",
    "split_first",
    "split_folds",
    "split_stratified",
    "split_three",
]

Grouping: TypeAlias = Literal["near", "exact", "none"]


class Split(NamedTuple):
    """Documents to train on, and documents to measure on."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]


class Three(NamedTuple):
    """Documents to train on, to choose by, and to measure on at the end."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]


def split(documents: Sequence[Document], *, held_out: float | int, seed: int) -> Split:
    """Shuffle by `seed` and hold out a share (a float between 0 and 1) or a number (an int) of documents.

    Documents with equal texts stay together on one side, so that a group too large for what is left to hold out goes to
    training and fewer documents may be held out than were asked for. The same documents, share and seed give the same
    split on every machine. Raises InputError when either side would be empty.
    """
    wanted = _wanted(len(documents), held_out)
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(document.text, []).append(document)
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    train: list[Document] = []
    held: list[Document] = []
    for group in shuffled:
        side = held if len(held) + len(group) <= wanted else train
        side.extend(group)
    if not held or not train:
        raise InputError(
            f"{len(documents)} documents with {len(groups)} different texts cannot be split: "
            "equal texts stay on one side, and neither side may be empty"
        )
    return Split(tuple(train), tuple(held))


def split_first(documents: Sequence[Document], *, held_out: float | int) -> Split:
    """Hold out the first documents of a file, a share (a float between 0 and 1) or a number (an int), in their order.

    Documents after them whose text was held out are on neither side: files that were collected often repeat sentences.
    Raises InputError when either side would be empty.
    """
    wanted = _wanted(len(documents), held_out)
    seen = {document.text for document in documents[:wanted]}
    train = tuple(document for document in documents[wanted:] if document.text not in seen)
    if not train:
        raise InputError(
            f"every document after the first {wanted} repeats the text of one of them: none is left to train on"
        )
    return Split(train, tuple(documents[:wanted]))


def groups_of(documents: Sequence[Document], by: Grouping, *, threshold: float = 0.8) -> list[int]:
    """A number for each document, equal for those that must not be parted.

    "near": those whose texts are alike by `threshold` (`nertune.data.similar`), "exact": those with the same text, "none":
    each document for itself. Raises InputError for a threshold that is not from 0.5 to 1.
    """
    if by == "near":
        from nertune.data.similar import similar_groups

        return similar_groups([document.text for document in documents], threshold=threshold)
    if by == "none":
        return list(range(len(documents)))
    numbers: dict[str, int] = {}
    return [numbers.setdefault(document.text, len(numbers)) for document in documents]


def split_stratified(
    documents: Sequence[Document], *, held_out: float | int, seed: int, groups: Sequence[int] | None = None
) -> Split:
    """Hold out a share (a float between 0 and 1) or a number (an int) of documents, with the same share of every label.

    `groups`: numbers, equal for documents that stay on one side (None: near-duplicates do). Both sides keep the order of
    the documents. Raises InputError when either side would be empty.
    """
    wanted = _wanted(len(documents), held_out)
    groups = groups_of(documents, "near") if groups is None else groups
    return Split(*_parts(documents, [len(documents) - wanted, wanted], seed, groups))


def split_three(
    documents: Sequence[Document],
    *,
    validation: float | int,
    test: float | int,
    seed: int,
    groups: Sequence[int] | None = None,
) -> Three:
    """As `split_stratified`, with two parts held out."""
    count = len(documents)
    sizes = [_wanted(count, validation), _wanted(count, test)]
    if sum(sizes) >= count:
        raise InputError(
            f"cannot hold out {sizes[0]} and {sizes[1]} of {count} documents: nothing would be left to train on"
        )
    groups = groups_of(documents, "near") if groups is None else groups
    return Three(*_parts(documents, [count - sum(sizes), *sizes], seed, groups))


def split_folds(
    documents: Sequence[Document], *, folds: int, seed: int, groups: Sequence[int] | None = None
) -> list[Split]:
    """Every document is held out once: `folds` splits, their held-out sides stratified parts of one size.

    Raises InputError for less than two folds, and for more than there are groups.
    """
    groups = groups_of(documents, "near") if groups is None else groups
    if not 2 <= folds <= len(set(groups)):
        raise InputError(
            f"cannot make {folds} folds of {len(documents)} documents in {len(set(groups))} groups: from 2 to as many as groups"
        )
    each, more = divmod(len(documents), folds)
    sizes = [each + (fold < more) for fold in range(folds)]
    chosen = _chosen(documents, sizes, seed, groups)
    return [
        Split(
            tuple(document for document, part in zip(documents, chosen, strict=True) if part != fold),
            tuple(document for document, part in zip(documents, chosen, strict=True) if part == fold),
        )
        for fold in range(folds)
    ]


def _parts(
    documents: Sequence[Document], sizes: Sequence[int], seed: int, groups: Sequence[int]
) -> list[tuple[Document, ...]]:
    """Stratified parts, each in the order of the documents."""
    chosen = _chosen(documents, sizes, seed, groups)
    return [
        tuple(d for d, part in zip(documents, chosen, strict=True) if part == number) for number in range(len(sizes))
    ]


def _chosen(documents: Sequence[Document], sizes: Sequence[int], seed: int, groups: Sequence[int]) -> list[int]:
    """The part of each document. Raises InputError when one part would be empty."""
    chosen = stratify(documents, sizes, seed=seed, groups=groups)
    if len(set(chosen)) < len(sizes):
        raise InputError(
            f"{len(documents)} documents in {len(set(groups))} groups cannot be split into {len(sizes)} parts: "
            "what is alike stays on one side, and no side may be empty"
        )
    return chosen


def _wanted(count: int, held_out: float | int) -> int:
    """How many of `count` documents to hold out: at least one, and never all."""
    if isinstance(held_out, float) and 0 < held_out < 1:
        wanted = max(1, round(count * held_out))
    elif isinstance(held_out, int) and not isinstance(held_out, bool) and held_out >= 1:
        wanted = held_out
    else:
        raise InputError(
            f"held_out must be a share between 0 and 1 or a number of documents from 1, found {held_out!r}"
        )
    if wanted >= count:
        raise InputError(f"cannot hold out {wanted} of {count} documents: nothing would be left to train on")
    return wanted
