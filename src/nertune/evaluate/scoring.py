"""From gold documents and predictions to an `Evaluation`.

The room's one entry point: pairs by position, counts by each measure, then micro, macro and labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from statistics import fmean

from nertune.errors import InputError
from nertune.evaluate.bootstrap import f1_interval
from nertune.evaluate.evaluation import Evaluation, LabelScore, MicroScore, Score, Scores
from nertune.evaluate.measures import MEASURES, Measure, Tally, gold_keys, predicted_keys
from nertune.schema import Document, ParseOutcome, Prediction

__all__ = ["check_pairs", "evaluate"]


def evaluate(
    gold: Sequence[Document], predicted: Sequence[Prediction], *, seconds: float | None = None, seed: int = 0
) -> Evaluation:
    """Scores `predicted` against `gold`, pair by pair, by every measure.

    `text` compares sets of (label, text) per document, `span` sets of (label, start, end); what the model named and
    the text does not hold counts as predicted in both (`measures.predicted_keys` says why). Every document counts,
    also one without entities, and also one whose answer was invalid or cut off: it has predicted what could be read.

    0/0 is 0 throughout: with nothing predicted precision is 0; with nothing gold recall is 0; with neither, all
    values are 0 and the support is 0, also the macro, which then has no labels to average.

    `seconds` is the time that the predictions took; `seed` (from 0) fixes the resamples of `ci95`, see
    `bootstrap.f1_interval`.

    Raises InputError when the two differ in length or in a text, naming the first such document (counted from 1),
    and when `seconds` is not above 0 or `seed` is below 0.
    """
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds is {seconds}; give the time that the predictions took, above 0, or None")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    check_pairs(gold, predicted)
    return Evaluation(
        documents=len(gold),
        metrics={measure: _scores(gold, predicted, measure=measure, seed=seed) for measure in MEASURES},
        ungrounded=sum(len(p.ungrounded) for p in predicted),
        invalid_answers=sum(p.outcome is ParseOutcome.INVALID for p in predicted),
        truncated=sum(p.cut for p in predicted),
        sentences_per_second=None if seconds is None else len(gold) / seconds,
    )


def _scores(gold: Sequence[Document], predicted: Sequence[Prediction], *, measure: Measure, seed: int) -> Scores:
    tally = Tally()
    for document, prediction in zip(gold, predicted, strict=True):
        tally.add(predicted_keys(prediction, measure=measure), gold_keys(document, measure=measure))
    labels = {
        name: LabelScore(**_ratios(tally.hits[name], tally.predicted[name], tally.gold[name]), support=tally.gold[name])
        for name in tally.labels()
    }
    micro = _ratios(tally.hits.total(), tally.predicted.total(), tally.gold.total())
    return Scores(
        micro=MicroScore(**micro, ci95=f1_interval(tally.rows, seed=seed)),
        macro=_mean([score for score in labels.values() if score.support]),
        labels=labels,
    )


def _ratios(hits: int, predicted: int, gold: int) -> dict[str, float]:
    return {
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / gold if gold else 0.0,
        "f1": 2 * hits / (predicted + gold) if predicted + gold else 0.0,
    }


def _mean(scores: Sequence[Score]) -> Score:
    if not scores:
        return Score(precision=0.0, recall=0.0, f1=0.0)
    return Score(
        precision=fmean(s.precision for s in scores),
        recall=fmean(s.recall for s in scores),
        f1=fmean(s.f1 for s in scores),
    )


def check_pairs(gold: Sequence[Document], predicted: Sequence[Prediction]) -> None:
    """Raises InputError, naming the first such document (counted from 1), when the two differ in length or in a text."""
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
