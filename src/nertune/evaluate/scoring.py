"""From gold documents and predictions to an `Evaluation`.

The room's one entry point: pairs by position, counts by each measure, then micro, macro, labels, and their intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import fmean
from typing import TypedDict

from nertune.errors import InputError
from nertune.evaluate.bootstrap import RESAMPLES, Interval, interval, intervals, units
from nertune.evaluate.columns import Integers, columns
from nertune.evaluate.counts import ResampledF1, count, resampled_f1
from nertune.evaluate.evaluation import Evaluation, LabelScore, Outcomes, Score, Scores
from nertune.evaluate.measures import METRICS
from nertune.evaluate.semeval import SCHEMES
from nertune.schema import Document, ParseOutcome, Prediction

__all__ = ["check_pairs", "evaluate"]


def evaluate(
    gold: Sequence[Document],
    predicted: Sequence[Prediction],
    *,
    seconds: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Scores `predicted` against `gold`, pair by pair, by every measure.

    `text` compares sets of (label, text) per document, `span` sets of (label, start, end); `partial` and the rest of the
    SemEval family match mentions that overlap (`semeval.py`). What the model named and the text does not hold counts as
    predicted in all (`measures.predicted_keys` says why). Every document counts, also one without entities, and one whose
    answer was invalid or cut off: it has predicted what could be read.

    0/0 is 0 throughout: with nothing predicted precision is 0; with nothing gold recall is 0; with neither, all
    values are 0 and the support is 0, also the macro, which then has no labels to average.

    `seconds` is the time that the predictions took. `seed` (from 0) fixes the `resamples` that the intervals are of, the
    same documents for all measures; with 0 resamples there are no intervals, nor of a single document, from which nothing
    can be drawn but itself. The interval of a label leaves out resamples in which it is neither gold nor predicted.

    Raises InputError when the two differ in length or in a text, naming the first such document (counted from 1),
    and when `seconds` is not above 0 or `seed` is below 0.
    """
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds is {seconds}; give the time that the predictions took, above 0, or None")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    check_pairs(gold, predicted)
    found = columns(gold, predicted)
    unit_D, size = units(len(gold), len(found.labels), seed=seed)
    counts = count(found, unit_D, size)
    drawn: list[ResampledF1 | None] = [None] * len(counts.by_measure)
    if resamples and len(gold) > 1:
        drawn = [*resampled_f1(list(counts.by_measure.values()), seed=seed, resamples=resamples)]
    scores = {
        measure: _scores(counts.labels, table.sum(axis=0), moved)
        for (measure, table), moved in zip(counts.by_measure.items(), drawn, strict=True)
    }
    return Evaluation(
        documents=len(gold),
        metrics={measure: _without_counts(scores[measure]) for measure in METRICS},
        semeval={scheme: scores[scheme] for scheme in SCHEMES},
        ungrounded=sum(len(p.ungrounded) for p in predicted),
        invalid_answers=sum(p.outcome is ParseOutcome.INVALID for p in predicted),
        truncated=sum(p.cut for p in predicted),
        sentences_per_second=None if seconds is None else len(gold) / seconds,
    )


def _scores(labels: Sequence[str], counts: Integers, drawn: ResampledF1 | None) -> Scores:
    """`counts` has the shape (labels + 1, 5): the outcomes of each label, and of all together."""
    outcomes = [Outcomes(*row) for row in counts.tolist()]
    by_label = {}
    known = [None] * len(labels) if drawn is None else intervals(drawn.labels_RL)
    for name, found, ci95 in zip(labels, outcomes[:-1], known, strict=True):
        by_label[name] = LabelScore(**_ratios(found), ci95=ci95, outcomes=found, support=found.possible)
    micro = None if drawn is None else interval(drawn.micro_R)
    macro = None if drawn is None else interval(drawn.macro_R)
    return Scores(
        micro=Score(**_ratios(outcomes[-1]), ci95=micro, outcomes=outcomes[-1]),
        macro=_mean([score for score in by_label.values() if score.support], macro),
        labels=by_label,
    )


class _Ratios(TypedDict):
    precision: float
    recall: float
    f1: float


def _ratios(found: Outcomes) -> _Ratios:
    """A partial match is worth a half; F1 is 2 PR / (P + R), written as one quotient."""
    credit, claimed = found.correct + found.partial / 2, found.actual + found.possible
    return {
        "precision": credit / found.actual if found.actual else 0.0,
        "recall": credit / found.possible if found.possible else 0.0,
        "f1": 2 * credit / claimed if claimed else 0.0,
    }


def _mean(scores: Sequence[Score], ci95: Interval | None) -> Score:
    if not scores:
        return Score(precision=0.0, recall=0.0, f1=0.0, ci95=ci95)
    return Score(
        precision=fmean(s.precision for s in scores),
        recall=fmean(s.recall for s in scores),
        f1=fmean(s.f1 for s in scores),
        ci95=ci95,
    )


def _without_counts(scores: Scores) -> Scores:
    return replace(
        scores,
        micro=replace(scores.micro, outcomes=None),
        labels={name: replace(score, outcomes=None) for name, score in scores.labels.items()},
    )


def check_pairs(gold: Sequence[Document], predicted: Sequence[Prediction]) -> None:
    """Raises InputError where the two differ in length or in a text, naming the first such document, counted from 1."""
    # A text that differs is looked for before the end of the shorter side: it shows where the two lost step.
    for index, (document, prediction) in enumerate(zip_longest(gold, predicted), start=1):
        left = None if document is None else document.text
        right = None if prediction is None else prediction.text
        if left != right:
            raise InputError(
                f"document {index}: gold and prediction are not of the same text. Gold: {_shown(left, right)}; "
                f"predicted: {_shown(right, left)} ({len(gold)} gold, {len(predicted)} predicted). "
                "Give one prediction for each gold document, in the same order"
            )


def _shown(text: str | None, other: str | None, *, width: int = 40) -> str:
    """`text` cut to `width` characters that include the first one in which it differs from `other`."""
    if text is None:
        return "nothing"
    shared = 0
    for a, b in zip(text, other or "", strict=False):
        if a != b:
            break
        shared += 1
    start = max(0, shared - width // 2)
    head, tail = "…" if start else "", "…" if start + width < len(text) else ""
    return f"{head}{text[start : start + width]!r}{tail}"
