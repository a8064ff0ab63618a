"""From gold documents and scored predictions to a calibration, and to what it does to scores and to F1.

What is fitted and what is shown are of the same documents: for a figure to be quoted, evaluate on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nertune.confidence import CALIBRATED, Calibration, MinScore, settle
from nertune.errors import InputError
from nertune.evaluate.calibration import (
    BINS,
    FEWEST,
    Bin,
    Sweep,
    calibration_error,
    fit_temperature,
    judged,
    negative_log_likelihood,
    reliability,
    rescaled,
    sweeps,
)
from nertune.evaluate.evaluation import Scores
from nertune.evaluate.measures import MEASURES, Measure, known_measure
from nertune.evaluate.scoring import evaluate
from nertune.schema import Document, Prediction

__all__ = ["CalibrationReport", "Quality", "calibrate"]

_THRESHOLDS = tuple(tenth / 10 for tenth in range(10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well scores tell right from wrong: `ece` in 15 bins of equal width, `nll` in nats, both 0 at best."""

    ece: float
    nll: float
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, object]:
        return {"ece": self.ece, "nll": self.nll, "bins": [b._asdict() for b in self.bins]}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """A calibration and what it was fitted on.

    `scored`: predicted entities with a score, of which `right` have a gold entity's label and place; `unscored`: without
    one. `raw`, `calibrated`: the scores' quality before and after. Precision, recall and F1: `everything` without a
    threshold, `micro` by threshold on calibrated scores, `at_best` at the one that is best for all labels together,
    `at_thresholds` at each label's. `own`: labels with a threshold of their own, the others had too few predictions.
    """

    calibration: Calibration
    measure: Measure
    documents: int
    scored: int
    right: int
    unscored: int
    raw: Quality
    calibrated: Quality
    everything: Scores
    micro: Mapping[float, Scores]
    at_best: Scores
    at_thresholds: Scores
    own: frozenset[str]

    def to_json(self) -> dict[str, object]:
        """What `calibration.json` holds of it; nothing is rounded."""
        fitted = self.calibration
        return {
            "temperature": fitted.temperature,
            "threshold": fitted.threshold,
            "thresholds": dict(fitted.thresholds),
            "constrained": fitted.constrained,
            "measure": self.measure,
            "documents": self.documents,
            "entities": {"scored": self.scored, "right": self.right, "unscored": self.unscored},
            "before": self.raw.to_json(),
            "after": self.calibrated.to_json(),
            "micro": [{"min_score": least, **scores.micro.to_json()} for least, scores in self._by_threshold()],
            "labels": {
                label: {
                    "threshold": fitted.threshold_of(label),
                    "own": label in self.own,
                    "before": score.to_json() | {"support": score.support},
                    "after": after.to_json() if (after := self.at_thresholds.labels.get(label)) else None,
                }
                for label, score in self.everything.labels.items()
            },
        }

    def _by_threshold(self) -> list[tuple[MinScore, Scores]]:
        return [*self.micro.items(), (self.calibration.threshold, self.at_best), (CALIBRATED, self.at_thresholds)]


def calibrate(
    gold: Sequence[Document], predicted: Sequence[Prediction], *, measure: Measure = "span", constrained: bool = False
) -> CalibrationReport:
    """Fit temperature and thresholds to predictions with the model's own scores.

    The temperature makes a score the share of right entities, label and place. Then each label gets the threshold on
    calibrated scores at which its F1 by `measure` is highest, the lowest of equals; labels with fewer than 20 scored
    predictions get the one at which the micro F1 is highest. Raises InputError where no entity has a score.
    """
    known_measure(measure, MEASURES)
    metrics = evaluate(gold, predicted, resamples=0).metrics
    scores_N, right_N = judged(gold, predicted)
    if not len(scores_N):
        found = sum(len(prediction.entities) for prediction in predicted)
        raise InputError(
            f"{found} entities were predicted in {len(gold)} documents and none has a score, so there is nothing to "
            "calibrate: give annotated texts in which the model finds entities, and an engine that gives probabilities"
        )
    temperature = fit_temperature(scores_N, right_N)
    bare = Calibration(temperature, 0.0, {}, constrained)
    settled = [settle(prediction, bare, None) for prediction in predicted]
    by_label = sweeps(gold, settled, measure=measure)
    own = frozenset(label for label, sweep in by_label.items() if sweep.scored >= FEWEST)
    calibration = Calibration(
        temperature,
        sum(by_label.values(), Sweep()).best(),
        {label: by_label[label].best() for label in sorted(own)},
        constrained,
    )
    after_N = rescaled(scores_N, temperature)

    def scored_at(min_score: MinScore) -> Scores:
        return evaluate(gold, [settle(p, calibration, min_score) for p in predicted], resamples=0).metrics[measure]

    return CalibrationReport(
        calibration=calibration,
        measure=measure,
        documents=len(gold),
        scored=len(scores_N),
        right=int(right_N.sum()),
        unscored=sum(entity.score is None for prediction in predicted for entity in prediction.entities),
        raw=Quality(
            ece=calibration_error(scores_N, right_N),
            nll=negative_log_likelihood(scores_N, right_N),
            bins=reliability(scores_N, right_N, bins=BINS),
        ),
        calibrated=Quality(
            ece=calibration_error(after_N, right_N),
            nll=negative_log_likelihood(after_N, right_N),
            bins=reliability(after_N, right_N, bins=BINS),
        ),
        everything=metrics[measure],
        micro={least: scored_at(least) for least in _THRESHOLDS},
        at_best=scored_at(calibration.threshold),
        at_thresholds=scored_at(CALIBRATED),
        own=own,
    )
