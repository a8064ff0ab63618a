"""Gold and predictions as columns of numbers: what is distinct on either side, and on which sides it is.

First step of scoring. A million documents are compared in a few sorts instead of a million set operations; the claims are
those of `measures.gold_keys` and `measures.predicted_keys`.

Shapes: K distinct claims, ordered by document.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, count
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.schema import Document, Entity, Mention, Prediction

__all__ = ["Bools", "Columns", "Integers", "Names", "Spans", "columns"]

Integers: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


class Names(NamedTuple):
    """Distinct (document, label, text): the claims of the measure `text`, the ungrounded included."""

    document_K: Integers
    label_K: Integers
    gold_K: Bools
    predicted_K: Bools


class Spans(NamedTuple):
    """Distinct (document, start, end, label), in this order: the grounded claims of the measure `span`."""

    document_K: Integers
    label_K: Integers
    start_K: Integers
    end_K: Integers
    gold_K: Bools
    predicted_K: Bools


class Columns(NamedTuple):
    """Both sides. `labels`: their names in code point order, a label's number is its place among them.

    `names` for the measure `text`, `spans` for all others; `lost_document_N`, `lost_label_N`: each distinct ungrounded
    (label, text) of a document that the same prediction does not also hold grounded.
    """

    documents: int
    labels: tuple[str, ...]
    names: Names
    spans: Spans
    lost_document_N: Integers
    lost_label_N: Integers


def columns(gold: Sequence[Document], predicted: Sequence[Prediction], *, labels: Iterable[str] = ()) -> Columns:
    """The columns of documents and their predictions, which are paired by position. `labels`: names that count as known,
    whether they occur or not.
    """
    wanted, found = _flat(gold), _flat(predicted)
    lost = [
        (number, mention)
        for number, prediction in enumerate(predicted)
        if prediction.ungrounded
        for mention in dict.fromkeys(prediction.ungrounded)
    ]
    of_lost = [mention for _, mention in lost]
    entities = [*wanted, *found]
    known = sorted(set(labels).union(_all("label", entities), _all("label", of_lost)))
    label_numbers = {label: number for number, label in enumerate(known)}
    text_numbers: defaultdict[str, int] = defaultdict(count().__next__)

    document_N = np.concatenate([_documents(gold), _documents(predicted)])
    label_N = _numbered(_all("label", entities), label_numbers, len(entities))
    text_N = _numbered(_all("text", entities), text_numbers, len(entities))
    start_N = np.fromiter(_all("start", entities), np.int64, len(entities))
    end_N = np.fromiter(_all("end", entities), np.int64, len(entities))
    lost_document_N = np.array([number for number, _ in lost], dtype=np.int64)
    lost_label_N = _numbered(_all("label", of_lost), label_numbers, len(lost))
    lost_text_N = _numbered(_all("text", of_lost), text_numbers, len(lost))

    named = _Distinct(
        [
            np.concatenate([document_N, lost_document_N]),
            np.concatenate([label_N, lost_label_N]),
            np.concatenate([text_N, lost_text_N]),
        ]
    )
    placed = _Distinct([document_N, start_N, end_N, label_N])
    sides = slice(0, len(wanted)), slice(len(wanted), len(entities)), slice(len(wanted), None)
    grounded_K, lost_ids_N = named.among(sides[1]), named.ids[len(entities) :]
    documents_K, starts_K, ends_K, labels_K = placed.values
    return Columns(
        documents=len(gold),
        labels=tuple(known),
        names=Names(named.values[0], named.values[1], named.among(sides[0]), named.among(sides[2])),
        spans=Spans(documents_K, labels_K, starts_K, ends_K, placed.among(sides[0]), placed.among(sides[1])),
        lost_document_N=lost_document_N[~grounded_K[lost_ids_N]],
        lost_label_N=lost_label_N[~grounded_K[lost_ids_N]],
    )


class _Distinct:
    """The distinct rows of some columns of numbers from 0, sorted, and which of them each row is."""

    def __init__(self, rows: Sequence[Integers]) -> None:
        key_N, reach = np.zeros(len(rows[0]), dtype=np.int64), 1
        for column_N in rows:
            size = int(column_N.max(initial=0)) + 1
            if reach * size > np.iinfo(np.int64).max:
                _, key_N = np.unique(key_N, return_inverse=True)
                reach = len(key_N)
            key_N, reach = key_N * size + column_N, reach * size
        _, first_K, self.ids = np.unique(key_N, return_index=True, return_inverse=True)
        self.values = [column_N[first_K] for column_N in rows]

    def among(self, part: slice) -> Bools:
        """Which of the distinct rows occur in this part of all rows."""
        there_K = np.zeros(len(self.values[0]), dtype=np.bool_)
        there_K[self.ids[part]] = True
        return there_K


def _flat(side: Sequence[Document] | Sequence[Prediction]) -> list[Entity]:
    return list(chain.from_iterable(map(attrgetter("entities"), side)))


def _documents(side: Sequence[Document] | Sequence[Prediction]) -> Integers:
    """The number of the document of each entity."""
    sizes = np.fromiter(map(len, map(attrgetter("entities"), side)), np.int64, len(side))
    return np.repeat(np.arange(len(side)), sizes)


def _all(name: str, items: Sequence[Entity] | Sequence[Mention]) -> Iterable[Any]:
    return map(attrgetter(name), items)


def _numbered(values: Iterable[str], numbers: dict[str, int], size: int) -> Integers:
    return np.fromiter(map(numbers.__getitem__, values), np.int64, size)
