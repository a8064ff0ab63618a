"""Which prediction is of which gold document, where a tool's file may hold others, fewer, or another order.

Before scoring, which takes pairs by position.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from nertune.errors import InputError
from nertune.evaluate.scoring import check_pairs
from nertune.schema import Document, Prediction

__all__ = ["Pairing", "pair"]

Way = Literal["position", "id", "text"]
_Key: TypeAlias = Callable[[Document | Prediction], Hashable]


class Pairing(NamedTuple):
    """A prediction for each gold document, in its order; `way`: how they were found; notes for people."""

    predictions: tuple[Prediction, ...]
    way: Way
    notes: tuple[str, ...]


def pair(gold: Sequence[Document], predicted: Sequence[Prediction], *, missing_empty: bool = False) -> Pairing:
    """Pair by position where both hold the same texts in the same order; else by id, where all have one and none twice;
    else by text, the n-th of a text with the n-th.

    A gold document without a prediction is refused, or, with `missing_empty`, one in which nothing was predicted; a
    prediction without a gold document is left out, with a note. Raises InputError, naming documents, for what does not
    pair, and for two of one id whose texts differ.
    """
    if len(gold) == len(predicted) and all(a.text == b.text for a, b in zip(gold, predicted, strict=True)):
        return Pairing(tuple(predicted), "position", ())
    by_id = _has_ids(gold) and _has_ids(predicted) and not _ids(gold).isdisjoint(_ids(predicted))
    way: Way = "id" if by_id else "text"
    found = _found(gold, predicted, _id if by_id else _text)
    if predicted and not any(found):
        why = "no text of one is one of the other" if way == "text" else "no id of one is one of the other"
        raise InputError(
            f"nothing pairs: {why}. Gold begins with {_shown(gold[0]) if gold else 'nothing'}, the predictions with "
            f"{_shown(predicted[0])}. Give predictions of the same texts, unchanged to the last space"
        )
    absent = [number for number, prediction in enumerate(found) if prediction is None]
    notes = []
    if absent:
        listed = ", ".join(f"{number + 1} ({_shown(gold[number])})" for number in absent[:3])
        listed += ", …" if len(absent) > 3 else ""
        said = f"{len(absent)} of {len(gold)} gold documents have no prediction by {way}: {listed}"
        if not missing_empty:
            raise InputError(
                f"{said}. Give predictions of all, or --missing-empty if the tool leaves out texts in which it finds nothing"
            )
        notes.append(f"{said}; counted as documents in which nothing was predicted")
    extra = len(predicted) - (len(gold) - len(absent))
    if extra:
        notes.append(f"{extra} of {len(predicted)} predictions are of no gold document and left out")
    if way == "id":
        notes.append("paired by id")
    else:
        notes.append("paired by text")
    predictions = tuple(
        Prediction(document.text, id=document.id) if prediction is None else prediction
        for document, prediction in zip(gold, found, strict=True)
    )
    check_pairs(gold, predictions)
    return Pairing(predictions, way, tuple(notes))


def _found(gold: Sequence[Document], predicted: Sequence[Prediction], key: _Key) -> list[Prediction | None]:
    waiting: dict[Hashable, list[Prediction]] = {}
    for prediction in reversed(predicted):
        waiting.setdefault(key(prediction), []).append(prediction)
    found: list[Prediction | None] = []
    for document in gold:
        left = waiting.get(key(document))
        found.append(left.pop() if left else None)
    return found


def _has_ids(side: Sequence[Document] | Sequence[Prediction]) -> bool:
    ids = _ids(side)
    return None not in ids and len(ids) == len(side) > 0


def _ids(side: Sequence[Document] | Sequence[Prediction]) -> set[str | None]:
    return {item.id for item in side}


def _id(item: Document | Prediction) -> Hashable:
    return item.id


def _text(item: Document | Prediction) -> Hashable:
    return item.text


def _shown(item: Document | Prediction, *, width: int = 30) -> str:
    text = item.text if len(item.text) <= width else item.text[: width - 1] + "…"
    return f"{text!r}" if item.id is None else f"id {item.id}, {text!r}"
