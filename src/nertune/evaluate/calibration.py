"""How far scores can be trusted, the temperature that mends them, and the thresholds that serve F1 best.

Takes gold documents and predictions whose entities carry scores. An entity is right when the gold holds its label at its
very place; a calibrated score of 0.8 is right in 80 of 100 cases. Numbers only: `calibrating.py` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.confidence import CLIP
from nertune.evaluate.measures import Key, Measure, gold_keys
from nertune.schema import Document, Prediction

__all__ = [
    "BINS",
    "FEWEST",
    "Bin",
    "Sweep",
    "calibration_error",
    "fit_temperature",
    "judged",
    "negative_log_likelihood",
    "reliability",
    "rescaled",
    "sweeps",
]

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

BINS = 15
FEWEST = 20
"""A label with fewer scored predictions has no threshold of its own."""

_COLDEST, _HOTTEST = 0.05, 20.0


class Bin(NamedTuple):
    """Scores in (low, high]: how many, their mean, and the share of them that is right; both 0 where there are none."""

    low: float
    high: float
    size: int
    score: float
    right: float


def judged(gold: Sequence[Document], predicted: Sequence[Prediction]) -> tuple[Floats, Bools]:
    """The scores of all entities that have one, and whether each is right; shapes (N,), (N,)."""
    scores, right = [], []
    for document, prediction in zip(gold, predicted, strict=True):
        known = {(e.label, e.start, e.end) for e in document.entities}
        for entity in prediction.entities:
            if entity.score is not None:
                scores.append(entity.score)
                right.append((entity.label, entity.start, entity.end) in known)
    return np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.bool_)


def reliability(scores_N: Floats, right_N: Bools, *, bins: int = BINS) -> tuple[Bin, ...]:
    """Scores in bins of equal width (Guo et al. 2017, On Calibration of Modern Neural Networks, section 2)."""
    edges = np.linspace(0, 1, bins + 1)
    place_N = np.clip(np.ceil(scores_N * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place_N, minlength=bins)
    most = np.maximum(count, 1)
    score = np.bincount(place_N, weights=scores_N, minlength=bins) / most
    right = np.bincount(place_N, weights=right_N.astype(np.float64), minlength=bins) / most
    return tuple(
        Bin(float(edges[b]), float(edges[b + 1]), int(count[b]), float(score[b]), float(right[b])) for b in range(bins)
    )


def calibration_error(scores_N: Floats, right_N: Bools, *, bins: int = BINS) -> float:
    """The expected calibration error: the mean gap of score and share of right ones over the bins, by their counts.

    Naeini et al. 2015 (Obtaining Well Calibrated Probabilities Using Bayesian Binning), with 15 bins of equal width as Guo
    et al. 2017. 0 without scores.
    """
    found = reliability(scores_N, right_N, bins=bins)
    return sum(b.size * abs(b.score - b.right) for b in found) / max(len(scores_N), 1)


def fit_temperature(scores_N: Floats, right_N: Bools) -> float:
    """The T in [0.05, 20] for which sigmoid(logit(score) / T) is the likeliest to give rise to what was right.

    Temperature scaling (Guo et al. 2017) of one logit. The negative log-likelihood is convex in 1 / T, so its slope there,
    mean((sigmoid(logit / T) - right) * logit), is 0 at one place, which bisection finds. 1 without scores; a bound where
    the slope has one sign throughout, as where everything is right.
    """
    if not len(scores_N):
        return 1.0
    logit_N = _logit(scores_N)
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    for _ in range(100):
        middle = (low + high) / 2
        slope = float(np.mean((_sigmoid(middle * logit_N) - right_N) * logit_N))
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 2 / (low + high)


def rescaled(scores_N: Floats, temperature: float) -> Floats:
    """sigmoid(logit(score) / temperature), as `nertune.confidence.Calibration.score` has it for one."""
    return _sigmoid(_logit(scores_N) / temperature)


def negative_log_likelihood(scores_N: Floats, right_N: Bools) -> float:
    """The mean over the entities, in nats; 0 without any."""
    if not len(scores_N):
        return 0.0
    clipped_N = np.clip(scores_N, CLIP, 1 - CLIP)
    return float(-np.mean(np.where(right_N, np.log(clipped_N), np.log1p(-clipped_N))))


def _logit(scores_N: Floats) -> Floats:
    clipped_N = np.clip(scores_N, CLIP, 1 - CLIP)
    return np.log(clipped_N) - np.log1p(-clipped_N)


def _sigmoid(logit_N: Floats) -> Floats:
    return 1 / (1 + np.exp(np.clip(-logit_N, -700, 700)))


@dataclass(slots=True)
class Sweep:
    """What a rising threshold does to the counts of a measure, for one label or for all together.

    `changes`: (score, predicted, hits) that count while the threshold is not above the score. `predicted` and `hits`:
    what counts whatever the threshold; `gold`: the distinct gold entities. `scored`: predictions that have a score.
    """

    gold: int = 0
    predicted: int = 0
    hits: int = 0
    scored: int = 0
    changes: list[tuple[float, int, int]] = field(default_factory=list)

    def best(self) -> float:
        """The threshold with the highest F1, the lowest of equals: 0 or one of the scores. Time: n log n."""
        ordered = sorted(self.changes, reverse=True)
        predicted, hits = self.predicted, self.hits
        best, best_f1 = 1.0, -1.0
        for number, (score, more, found) in enumerate(ordered):
            predicted, hits = predicted + more, hits + found
            if number + 1 < len(ordered) and ordered[number + 1][0] == score:
                continue
            f1 = 2 * hits / (predicted + self.gold) if predicted + self.gold else 0.0
            if f1 >= best_f1:
                best, best_f1 = score, f1
        lowest = not ordered or best == ordered[-1][0]
        return 0.0 if lowest else best

    def __add__(self, other: Sweep) -> Sweep:
        return Sweep(
            self.gold + other.gold,
            self.predicted + other.predicted,
            self.hits + other.hits,
            self.scored + other.scored,
            self.changes + other.changes,
        )


def sweeps(gold: Sequence[Document], predicted: Sequence[Prediction], *, measure: Measure) -> dict[str, Sweep]:
    """By label, the counts of `measures.predicted_keys` for predictions of which a threshold leaves out entities.

    An entity without a score is left out by any threshold. What is ungrounded has no score and stays.
    """
    by_label: dict[str, Sweep] = {}
    for document, prediction in zip(gold, predicted, strict=True):
        right = gold_keys(document, measure=measure)
        for label, _ in right:
            by_label.setdefault(label, Sweep()).gold += 1
        named = _highest((e.label, e.text, e.score) for e in prediction.entities)
        ungrounded = {(m.label, m.text) for m in prediction.ungrounded}
        keyed: Any = (
            {key: score for key, score in named.items() if key not in ungrounded}
            if measure == "text"
            else _highest((e.label, (e.start, e.end), e.score) for e in prediction.entities)
        )
        for key, score in keyed.items():
            sweep = by_label.setdefault(key[0], Sweep())
            sweep.scored += 1
            sweep.changes.append((score, 1, int(key in right)))
        for key in ungrounded:
            sweep = by_label.setdefault(key[0], Sweep())
            sweep.predicted += 1
            sweep.hits += measure == "text" and key in right
            if measure == "span" and key in named:
                # A mention that only repeats an entity is no further prediction as long as the entity is there.
                sweep.changes.append((named[key], -1, 0))
    return by_label


def _highest(found: Iterable[tuple[str, Any, float | None]]) -> dict[Key, float]:
    """The highest score of each (label, what is compared); those without a score are left out."""
    scores: dict[Key, float] = {}
    for label, compared, score in found:
        if score is not None:
            scores[label, compared] = max(score, scores.get((label, compared), 0.0))
    return scores
