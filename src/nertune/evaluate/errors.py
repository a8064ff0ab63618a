"""From gold documents and predictions to what went wrong: classes, confusions, weak spots, mistakes, doubtful gold.

The entry point of error analysis, as scoring.py is of scoring. Everything is counted on the mentions of `findings.py`;
lists of examples are bounded, in an order that equal input always gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nertune.errors import InputError
from nertune.evaluate.breakdowns import Breakdown, breakdowns, surfaces
from nertune.evaluate.findings import GOLD_ONLY, KINDS, PREDICTED_ONLY, Finding, Kind, findings
from nertune.evaluate.scoring import check_pairs
from nertune.schema import Document, Entity, Mention, Prediction, written_score

__all__ = ["HIGH_SCORE", "ErrorReport", "Mistake", "Suspect", "analyse"]

HIGH_SCORE = 0.9
"""A model that is at least so sure of something else than the gold has makes the gold doubtful."""

_EXAMPLES = 3
_MISTAKES = 40
_SUSPECTS = 100
_CONTEXT = 20  # characters shown on each side of an example
_LONGEST = 300  # of an example: what is longer is cut, so that a report stays small


@dataclass(frozen=True, slots=True)
class Suspect:
    """A place where the gold may be wrong: what stands in it, if anything does, and what the model is sure of instead."""

    document: int
    finding: Finding
    score: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """Findings that are alike: how many, and the first of them with the places (from 0) of their documents."""

    kind: Kind
    gold: tuple[str, str] | str | None
    predicted: tuple[str, str] | str | None
    count: int
    examples: tuple[tuple[int, Finding], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """What became of every mention.

    `found`: the findings of each document. `counts`: findings by class. `confusion`: findings by (gold label, predicted
    label), None for nothing on that side, correct ones included. `breakdowns`: by name, see breakdowns.py. `patterns`:
    errors of one class and labels; `mistakes`: errors of one class, labels and texts that occur more than once; of both the
    40 most frequent, these first. `suspects`: likely annotation errors, the 100 surest first, of `suspected` in all;
    `scored`: whether predictions have scores, without which there are none.
    """

    documents: tuple[Document, ...]
    found: tuple[tuple[Finding, ...], ...]
    counts: Mapping[Kind, int]
    confusion: Mapping[tuple[str | None, str | None], int]
    breakdowns: Mapping[str, Breakdown]
    patterns: tuple[Mistake, ...]
    mistakes: tuple[Mistake, ...]
    suspects: tuple[Suspect, ...]
    suspected: int
    scored: bool

    @property
    def gold(self) -> int:
        """Distinct gold mentions: the sum of the classes that have one."""
        return sum(count for kind, count in self.counts.items() if kind not in PREDICTED_ONLY)

    @property
    def predicted(self) -> int:
        """Distinct predictions: the sum of the classes that have one."""
        return sum(count for kind, count in self.counts.items() if kind not in GOLD_ONLY)

    @property
    def perfect(self) -> int:
        """Documents in which everything is right."""
        return sum(all(finding.kind == "correct" for finding in found) for found in self.found)

    def to_json(self) -> dict[str, object]:
        """The object for `json.dumps`: all but the findings themselves, which only their documents bound."""
        return {
            "documents": len(self.documents),
            "perfect": self.perfect,
            "gold": self.gold,
            "predicted": self.predicted,
            "classes": {kind: {"count": self.counts[kind], "meaning": KINDS[kind]} for kind in KINDS},
            "confusion": [
                {"gold": gold, "predicted": predicted, "count": count}
                for (gold, predicted), count in self.confusion.items()
            ],
            "breakdowns": {
                name: [{"name": row} | part.to_json() for row, part in rows.items()]
                for name, rows in self.breakdowns.items()
            },
            "patterns": [self._mistake(item) for item in self.patterns],
            "mistakes": [self._mistake(item) for item in self.mistakes],
            "suspects": [
                {"score": written_score(item.score)} | self._example(item.document, item.finding)
                for item in self.suspects
            ],
            "suspected": self.suspected,
            "scored": self.scored,
        }

    def _mistake(self, item: Mistake) -> dict[str, object]:
        return {
            "class": item.kind,
            "gold": _shown(item.gold),
            "predicted": _shown(item.predicted),
            "count": item.count,
            "examples": [self._example(place, finding) for place, finding in item.examples],
        }

    def _example(self, place: int, finding: Finding) -> dict[str, object]:
        """A finding in its surroundings; `document` counts from 1."""
        document = self.documents[place]
        spots = [mention for mention in finding[1:] if isinstance(mention, Entity)]
        low = max(0, min((spot.start for spot in spots), default=0) - _CONTEXT)
        high = max((spot.end for spot in spots), default=2 * _CONTEXT) + _CONTEXT
        return {
            "document": place + 1,
            "id": document.id,
            "class": finding.kind,
            "gold": _mention(finding.gold),
            "predicted": _mention(finding.predicted),
            "context": ("…" if low else "")
            + _cut(document.text[low:high])
            + ("…" if high < len(document.text) else ""),
        }


def analyse(
    gold: Sequence[Document],
    predicted: Sequence[Prediction],
    *,
    train: Sequence[Document] | None = None,
    high_score: float = HIGH_SCORE,
) -> ErrorReport:
    """Class everything that is annotated or predicted, pair by pair, and say where the errors are.

    `train`: what the model was trained on, for seen and unseen mentions. A gold mention, or a place without one, is suspect
    where the model gives `high_score` or more to another reading of it.

    Raises InputError where the two differ in length or in a text, as `evaluate` does, and for a score that is none.
    """
    if not 0 <= high_score <= 1:
        raise InputError(f"high_score is {high_score}; it must be from 0 to 1")
    check_pairs(gold, predicted)
    found = tuple(findings(d, p) for d, p in zip(gold, predicted, strict=True))
    counts = Counter(finding.kind for list_ in found for finding in list_)
    confusion = Counter(finding.labels for list_ in found for finding in list_)
    errors = [(place, finding) for place, list_ in enumerate(found) for finding in list_ if finding.kind != "correct"]
    suspects = _suspects(errors, high_score)
    return ErrorReport(
        documents=tuple(gold),
        found=found,
        counts={kind: counts[kind] for kind in KINDS},
        confusion=dict(sorted(confusion.items(), key=lambda item: [(name is None, name or "") for name in item[0]])),
        breakdowns=breakdowns(gold, found, seen=None if train is None else surfaces(train)),
        patterns=_grouped(errors, texts=False, least=1),
        mistakes=_grouped(errors, texts=True, least=2),
        suspects=suspects[:_SUSPECTS],
        suspected=len(suspects),
        scored=any(entity.score is not None for prediction in predicted for entity in prediction.entities),
    )


def _grouped(errors: Sequence[tuple[int, Finding]], *, texts: bool, least: int) -> tuple[Mistake, ...]:
    """Errors that are alike, the most frequent first, of equal ones the first to occur."""
    groups: dict[tuple[Kind, object, object], list[tuple[int, Finding]]] = {}
    for place, finding in errors:
        key = (finding.kind, _name(finding.gold, texts), _name(finding.predicted, texts))
        groups.setdefault(key, []).append((place, finding))
    ordered = sorted(groups.values(), key=lambda members: -len(members))
    return tuple(
        Mistake(
            members[0][1].kind,
            _name(members[0][1].gold, texts),
            _name(members[0][1].predicted, texts),
            len(members),
            tuple(_spread(members)),
        )
        for members in ordered[:_MISTAKES]
        if len(members) >= least
    )


def _spread(members: Sequence[tuple[int, Finding]]) -> Iterable[tuple[int, Finding]]:
    """The first few, each of another document where there are such."""
    by_document = {place: (place, finding) for place, finding in reversed(members)}
    return sorted(by_document.values(), key=lambda member: member[0])[:_EXAMPLES]


def _name(mention: Entity | Mention | None, texts: bool) -> tuple[str, str] | str | None:
    if mention is None:
        return None
    return (mention.label, mention.text) if texts else mention.label


def _suspects(errors: Iterable[tuple[int, Finding]], high_score: float) -> tuple[Suspect, ...]:
    """All of them, the surest first."""
    sure = [
        Suspect(place, finding, finding.predicted.score)
        for place, finding in errors
        if isinstance(finding.predicted, Entity)
        and finding.predicted.score is not None
        and finding.predicted.score >= high_score
    ]
    return tuple(sorted(sure, key=lambda item: (-item.score, item.document)))


def _mention(mention: Entity | Mention | None) -> dict[str, object] | None:
    if mention is None:
        return None
    named: dict[str, object] = {"label": mention.label, "text": _cut(mention.text)}
    if isinstance(mention, Mention):
        return named | {"start": None, "end": None, "score": None}
    return named | {"start": mention.start, "end": mention.end, "score": written_score(mention.score)}


def _shown(name: tuple[str, str] | str | None) -> tuple[str, str] | str | None:
    return (name[0], _cut(name[1])) if isinstance(name, tuple) else name


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
