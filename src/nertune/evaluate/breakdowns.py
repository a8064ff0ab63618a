"""Where the errors are: precision, recall and F1 of parts of the documents and of the mentions.

Takes findings; every gold mention and every prediction falls into exactly one row of each breakdown.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from nertune.evaluate.findings import Finding
from nertune.evaluate.scripts import script_of
from nertune.schema import Document, Entity, Mention

__all__ = ["BREAKDOWNS", "Breakdown", "Slice", "Surfaces", "breakdowns", "surfaces"]

Surfaces: TypeAlias = Mapping[str, frozenset[str]]
"""By text, the labels that the training data give it."""

BREAKDOWNS = {
    "label": "by label",
    "entity length": "by length of the mention, in characters",
    "seen in training": "by whether the training data hold the mention",
    "position": "by place of the mention in its text",
    "sentence length": "by length of the text, in characters",
    "mentions per sentence": "by number of gold mentions in the text",
    "language": "by language, as far as the script tells it",
}

_LENGTHS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30)
_TEXTS = (1, 16, 31, 51, 101, 201, 501, 1001)
_COUNTS = (0, 1, 2, 3, 4, 5, 8, 16)
_NOWHERE = "not in the text"
_QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
_SEEN = ("seen with this label", "seen with other labels only", "not seen")


@dataclass(slots=True)
class Slice:
    """A part: its distinct gold mentions, predictions, and the hits among both. 0/0 is 0."""

    gold: int = 0
    predicted: int = 0
    hits: int = 0

    def to_json(self) -> dict[str, float]:
        """Counts and measures."""
        return {
            "gold": self.gold,
            "predicted": self.predicted,
            "hits": self.hits,
            "precision": self.hits / self.predicted if self.predicted else 0.0,
            "recall": self.hits / self.gold if self.gold else 0.0,
            "f1": 2 * self.hits / (self.predicted + self.gold) if self.predicted + self.gold else 0.0,
        }


Breakdown: TypeAlias = Mapping[str, Slice]
_Key: TypeAlias = Callable[[Entity | Mention], tuple[int, str]]


def surfaces(documents: Sequence[Document]) -> Surfaces:
    """What the training data call what."""
    found: dict[str, set[str]] = {}
    for document in documents:
        for entity in document.entities:
            found.setdefault(entity.text, set()).add(entity.label)
    return {text: frozenset(labels) for text, labels in found.items()}


def breakdowns(
    documents: Sequence[Document], found: Sequence[Sequence[Finding]], *, seen: Surfaces | None
) -> dict[str, Breakdown]:
    """Every breakdown of BREAKDOWNS by name, rows in their natural order; `seen in training` only with `seen`.

    A gold mention and a prediction count where each belongs, so a row's recall is of its gold mentions and its precision of
    its predictions; exact matches are in the same row on both sides.
    """
    rows: dict[str, dict[tuple[int, str], Slice]] = {name: {} for name in BREAKDOWNS}
    for document, list_ in zip(documents, found, strict=True):
        text = document.text
        gold = sum(finding.gold is not None for finding in list_)
        fixed = {
            "sentence length": _bucket(len(text), _TEXTS),
            "mentions per sentence": _bucket(gold, _COUNTS),
            "language": (0, script_of(text)),
        }
        keys: dict[str, _Key] = {
            "label": lambda mention: (0, mention.label),
            "entity length": lambda mention: _bucket(len(mention.text), _LENGTHS),
            "position": partial(_position, size=len(text)),
        }
        if seen is not None:
            keys["seen in training"] = partial(_seen, seen=seen)
        for name, row in fixed.items():
            _add(rows[name].setdefault(row, Slice()), list_)
        for name, key in keys.items():
            for finding in list_:
                _place(rows[name], finding, key)
    return {
        name: {row: part for (_, row), part in sorted(found_rows.items(), key=lambda item: item[0])}
        for name, found_rows in rows.items()
        if name != "seen in training" or seen is not None
    }


def _add(part: Slice, found: Sequence[Finding]) -> None:
    for finding in found:
        part.gold += finding.gold is not None
        part.predicted += finding.predicted is not None
        part.hits += finding.kind == "correct"


def _place(rows: dict[tuple[int, str], Slice], finding: Finding, key: _Key) -> None:
    if finding.gold is not None:
        part = rows.setdefault(key(finding.gold), Slice())
        part.gold += 1
        part.hits += finding.kind == "correct"
    if finding.predicted is not None:
        rows.setdefault(key(finding.predicted), Slice()).predicted += 1


def _bucket(size: int, edges: Sequence[int]) -> tuple[int, str]:
    """The row of a number: edges are where rows begin."""
    place = max(bisect_right(edges, size) - 1, 0)
    low = edges[place]
    if place + 1 == len(edges):
        return place, f"{low} and more"
    high = edges[place + 1] - 1
    return place, str(low) if high == low else f"{low} to {high}"


def _position(mention: Entity | Mention, size: int) -> tuple[int, str]:
    if not isinstance(mention, Entity):
        return len(_QUARTERS), _NOWHERE
    quarter = 4 * mention.start // size
    return quarter, _QUARTERS[quarter]


def _seen(mention: Entity | Mention, seen: Surfaces) -> tuple[int, str]:
    labels = seen.get(mention.text, ())
    place = 0 if mention.label in labels else 1 if labels else 2
    return place, _SEEN[place]
