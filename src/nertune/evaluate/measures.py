"""What is compared: the measures' names, and the keys that `text` and `span` compare in one document.

Gold and prediction of one document are two sets of keys; hits are their intersection. Scoring counts them for all documents
at once (`columns.py`); calibration asks for those of one.

Both are sets, so whatever is annotated or predicted twice counts once. Both are exact: no case folding, no
Unicode normalisation, no credit for overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from nertune.errors import InputError
from nertune.schema import Document, Prediction

__all__ = [
    "MEASURES",
    "METRICS",
    "Key",
    "Measure",
    "Metric",
    "describe",
    "gold_keys",
    "known_measure",
    "predicted_keys",
]

Measure = Literal["text", "span"]
Metric = Literal["text", "span", "partial"]

# The label, then what is compared: a text, or (start, end). An ungrounded text never equals a place.
Key: TypeAlias = tuple[str, str | tuple[int, int]]

MEASURES: Mapping[Measure, str] = {
    "text": "sets of (label, text) per document, the measure of published LLM-NER tables",
    "span": "sets of (label, start, end) per document, the measure of sequence-labelling papers",
}

METRICS: Mapping[Metric, str] = {
    "text": MEASURES["text"],
    "span": MEASURES["span"],
    "partial": "mentions that overlap, labels not looked at, a half where the places differ (SemEval-2013)",
}

_DESCRIBED: Mapping[str, str] = {
    **{str(name): phrase for name, phrase in METRICS.items()},
    "strict": "mentions that overlap, right where label and place are equal (SemEval-2013)",
    "exact": "mentions that overlap, right where the places are equal, labels not looked at (SemEval-2013)",
    "type": "mentions that overlap, right where the labels are equal (SemEval-2013)",
}


def describe(measure: str) -> str:
    """One phrase that says what the measure compares, for the heads of tables."""
    return _DESCRIBED.get(measure, measure)


def known_measure(name: str, known: Iterable[str]) -> None:
    """Raises InputError, listing the known names, when `name` is not among them."""
    if name not in known:
        raise InputError(f"measure {name!r} is not there; use one of: {', '.join(known)}")


def gold_keys(document: Document, *, measure: Measure) -> frozenset[Key]:
    """What a perfect prediction of this document would hold. Gold duplicates collapse.

    Under `text`, two mentions of one name under one label are one key; under `span` they are two.
    """
    if measure == "text":
        return frozenset((e.label, e.text) for e in document.entities)
    return frozenset((e.label, (e.start, e.end)) for e in document.entities)


def predicted_keys(prediction: Prediction, *, measure: Measure) -> frozenset[Key]:
    """What the model claimed of this document, the ungrounded included.

    `text`: entities and ungrounded mentions alike. Published tables compare the model's answer, as parsed, with the
    gold pairs and never look whether a name stands in the source text, so an invented name is a false positive
    there. Leaving it out here would report a precision that those tables cannot have.

    `span`: each entity by its place. Each distinct (label, text) among the ungrounded is one more prediction, which
    no gold entity can match: dropping it would reward a model for inventing. The exception is a (label, text) that
    the same prediction also holds grounded: naming one thing more often than the text does is a repetition, and
    repetitions collapse here as everywhere.
    """
    named: frozenset[Key] = frozenset((e.label, e.text) for e in prediction.entities)
    ungrounded: frozenset[Key] = frozenset((m.label, m.text) for m in prediction.ungrounded)
    if measure == "text":
        return named | ungrounded
    return frozenset((e.label, (e.start, e.end)) for e in prediction.entities) | (ungrounded - named)
