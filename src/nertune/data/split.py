"""Splits that no text straddles: what was held out has never been trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from nertune.errors import InputError
from nertune.schema import Document

__all__ = ["Split", "split", "split_first"]


class Split(NamedTuple):
    """Documents to train on, and documents to measure on."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]


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
