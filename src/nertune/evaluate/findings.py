"""What became of every gold mention and of every prediction of one document: each falls into exactly one class.

First step of error analysis. Mentions are those of the `span` measure: distinct by label and place, and of what stands
nowhere each distinct (label, text) that the same prediction does not hold grounded. So `correct` counts its hits, and
the classes of one side add up to what it counts there.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from nertune.evaluate.matching import match
from nertune.schema import Document, Entity, Mention, ParseOutcome, Prediction

__all__ = ["GOLD_ONLY", "KINDS", "PAIRED", "PREDICTED_ONLY", "Finding", "Kind", "findings"]

Kind = Literal[
    "correct",
    "longer",
    "shorter",
    "overlapping",
    "type",
    "mixed",
    "missed",
    "truncated",
    "unparsable",
    "spurious",
    "hallucinated",
]

KINDS: dict[Kind, str] = {
    "correct": "label and place are right",
    "longer": "right label, but more text than annotated",
    "shorter": "right label, but less text than annotated",
    "overlapping": "right label, but the place is shifted: it begins and ends elsewhere",
    "type": "right place, wrong label",
    "mixed": "label and place are both wrong, but the two overlap",
    "missed": "annotated, and nothing was found there",
    "truncated": "annotated, and not found in a text of which something was cut off",
    "unparsable": "annotated, and the answer could not be read",
    "spurious": "found where nothing is annotated",
    "hallucinated": "named, but it does not stand in the text",
}
"""Every class with what it means, in the order of reports."""

PAIRED: frozenset[Kind] = frozenset({"correct", "longer", "shorter", "overlapping", "type", "mixed"})
GOLD_ONLY: frozenset[Kind] = frozenset({"missed", "truncated", "unparsable"})
PREDICTED_ONLY: frozenset[Kind] = frozenset({"spurious", "hallucinated"})


class Finding(NamedTuple):
    """A gold mention, a prediction, or one of each that belong together, and their class.

    `predicted` is a `Mention` where it stands nowhere in the text.
    """

    kind: Kind
    gold: Entity | None
    predicted: Entity | Mention | None

    @property
    def labels(self) -> tuple[str | None, str | None]:
        """The label of the gold mention and of the prediction."""
        return self.gold.label if self.gold else None, self.predicted.label if self.predicted else None


def findings(document: Document, prediction: Prediction) -> tuple[Finding, ...]:
    """The findings of one document, in reading order, what stands nowhere last."""
    pairs, unseen, extra = match(document.entities, prediction.entities)
    absent = _absent(prediction)
    out = [Finding(_kind(gold, predicted), gold, predicted) for gold, predicted in pairs]
    out += [Finding(absent, gold, None) for gold in unseen]
    out += [Finding("spurious", None, predicted) for predicted in extra]
    out.sort(key=_place)
    named = {(entity.label, entity.text) for entity in prediction.entities}
    nowhere = dict.fromkeys(mention for mention in prediction.ungrounded if (mention.label, mention.text) not in named)
    return (*out, *(Finding("hallucinated", None, mention) for mention in nowhere))


def _kind(gold: Entity, predicted: Entity) -> Kind:
    same_place = (gold.start, gold.end) == (predicted.start, predicted.end)
    if gold.label != predicted.label:
        return "type" if same_place else "mixed"
    if same_place:
        return "correct"
    if predicted.start <= gold.start and gold.end <= predicted.end:
        return "longer"
    if gold.start <= predicted.start and predicted.end <= gold.end:
        return "shorter"
    return "overlapping"


def _absent(prediction: Prediction) -> Kind:
    """Why a gold mention of this document may not have been found. An answer that was cut off is the reason, also where
    nothing of it could be read."""
    if prediction.cut:
        return "truncated"
    return "unparsable" if prediction.outcome is ParseOutcome.INVALID else "missed"


def _place(finding: Finding) -> tuple[int, int, str, str]:
    entity = finding.gold or finding.predicted
    if not isinstance(entity, Entity):
        raise TypeError(f"a finding is of an entity, not of {entity!r:.60}")
    return entity.start, -entity.end, entity.label, finding.kind
