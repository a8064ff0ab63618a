"""What a threshold would do, and how far scores can be trusted, as points to be drawn; None where nothing has a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nertune.evaluate.calibration import Sweep, calibration_error, judged, reliability, sweeps
from nertune.evaluate.measures import Measure
from nertune.schema import Document, Prediction

__all__ = ["calibration_curve", "threshold_curve"]

_STEPS = 50


def threshold_curve(
    gold: Sequence[Document], predicted: Sequence[Prediction], *, measure: Measure = "span"
) -> dict[str, Any] | None:
    """Micro precision, recall and F1 for thresholds from 0 to 1 in steps of 0.02, and the threshold of the best F1."""
    total = sum(sweeps(gold, predicted, measure=measure).values(), Sweep())
    if not total.scored:
        return None
    changes = sorted(total.changes, reverse=True)
    points: list[dict[str, float]] = []
    predictions, hits, place = total.predicted, total.hits, 0
    for step in range(_STEPS, -1, -1):
        threshold = step / _STEPS
        while place < len(changes) and changes[place][0] >= threshold:
            predictions, hits, place = predictions + changes[place][1], hits + changes[place][2], place + 1
        points.append(
            {
                "threshold": threshold,
                "precision": hits / predictions if predictions else 0.0,
                "recall": hits / total.gold if total.gold else 0.0,
                "f1": 2 * hits / (predictions + total.gold) if predictions + total.gold else 0.0,
            }
        )
    return {"measure": measure, "best": total.best(), "points": points[::-1]}


def calibration_curve(gold: Sequence[Document], predicted: Sequence[Prediction]) -> dict[str, Any] | None:
    """Scores in 15 bins against the share of entities that are right by label and place, and their expected error."""
    scores_N, right_N = judged(gold, predicted)
    if not len(scores_N):
        return None
    bins = [b._asdict() for b in reliability(scores_N, right_N)]
    return {"ece": calibration_error(scores_N, right_N), "entities": len(scores_N), "bins": bins}
