"""What a reader should know first, in words: how good, what works, what does not, and what to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nertune.evaluate.errors import ErrorReport
from nertune.evaluate.evaluation import Evaluation, LabelScore
from nertune.evaluate.findings import Kind
from nertune.schema import label_title

__all__ = ["summary"]

_FEW = 10  # mentions below which a label's figures are chance
_ERRORS: dict[Kind, str] = {
    "longer": "marks more text than is annotated",
    "shorter": "marks less text than is annotated",
    "overlapping": "marks a shifted place",
    "type": "finds the right place and gives it the wrong label",
    "mixed": "is wrong in place and label at once",
    "missed": "does not see an annotated mention",
    "truncated": "loses mentions because something was cut off",
    "unparsable": "gives an answer that cannot be read",
    "spurious": "marks something that is not annotated",
    "hallucinated": "names something that is not in the text",
}


def summary(
    evaluation: Evaluation,
    errors: ErrorReport,
    calibration: Mapping[str, Any] | None,
    display: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`headline`: one sentence; `good`, `bad`, `look`: sentences, each worth one's time; any may be empty.

    The figures are those of the measure `span`. `display`: as `label_title` has it.
    """
    display = display or {}
    micro = evaluation.metrics["span"].micro
    sentences = f"{evaluation.documents:,} text{'' if evaluation.documents == 1 else 's'}"
    if not errors.gold:
        headline = f"Nothing is annotated in these {sentences}, so there is nothing to find and F1 says nothing."
    else:
        headline = (
            f"Of 100 entities that the model names, {100 * micro.precision:.0f} are right; of 100 that are annotated, it "
            f"finds {100 * micro.recall:.0f}. Measured on {sentences}."
        )
    return {
        "headline": headline,
        "good": _good(evaluation, errors, calibration, display),
        "bad": _bad(evaluation, errors, display),
        "look": _look(evaluation, errors, display),
    }


def _ranked(evaluation: Evaluation) -> list[tuple[str, LabelScore]]:
    """Labels with enough mentions to judge by, the best first."""
    labels = evaluation.metrics["span"].labels
    enough = [(name, score) for name, score in labels.items() if score.support >= _FEW]
    return sorted(enough, key=lambda item: (-item[1].f1, item[0]))


def _good(
    evaluation: Evaluation, errors: ErrorReport, calibration: Mapping[str, Any] | None, display: Mapping[str, str]
) -> list[str]:
    said = []
    micro, total = evaluation.metrics["span"].micro.f1, evaluation.documents
    best = [(name, score) for name, score in _ranked(evaluation)[:3] if score.f1 >= max(micro, 0.5)]
    if best:
        said.append(f"Best at {_list(_with_f1(item, display) for item in best)}.")
    if errors.gold and errors.perfect >= total / 2:
        said.append(f"{_percent(errors.perfect / total)} of the texts are entirely right.")
    if errors.predicted and not errors.counts["hallucinated"]:
        said.append("Everything that it names stands in the text.")
    if total and not evaluation.invalid_answers and not evaluation.truncated:
        said.append("Every answer could be read to its end.")
    if calibration and calibration["entities"] >= 100 and calibration["ece"] <= 0.05:
        said.append(f"Scores can be taken at their word: they are off by {_percent(calibration['ece'])} on average.")
    return said


def _bad(evaluation: Evaluation, errors: ErrorReport, display: Mapping[str, str]) -> list[str]:
    said = []
    micro = evaluation.metrics["span"].micro.f1
    worst = [(name, score) for name, score in reversed(_ranked(evaluation)[-3:]) if score.f1 < min(micro, 0.95)]
    if worst:
        said.append(f"Worst at {_list(_with_f1(item, display) for item in worst)}.")
    wrong = {kind: count for kind, count in errors.counts.items() if kind != "correct" and count}
    total = sum(wrong.values())
    for kind, count in sorted(wrong.items(), key=lambda item: -item[1])[:2]:
        said.append(f"In {_percent(count / total)} of its {total:,} errors it {_ERRORS[kind]}.")
    confused = {
        labels: count for labels, count in errors.confusion.items() if None not in labels and labels[0] != labels[1]
    }
    if confused:
        (gold, named), count = max(confused.items(), key=lambda item: (item[1], item[0]))
        gold, named = (label_title(str(label), display) for label in (gold, named))
        said.append(f"Most often confused: {gold}, taken for {named}, {count} time{'' if count == 1 else 's'}.")
    if count := errors.counts["hallucinated"]:
        said.append(f"{count} of the things it names are not in the text.")
    if evaluation.truncated:
        said.append(f"{_texts(evaluation.truncated)} cut off, so that mentions may be missing.")
    if evaluation.invalid_answers:
        said.append(f"The answers to {evaluation.invalid_answers} of the texts could not be read.")
    return said


def _look(evaluation: Evaluation, errors: ErrorReport, display: Mapping[str, str]) -> list[str]:
    said = []
    if rows := errors.breakdowns.get("seen in training"):
        seen, new = rows.get("seen with this label"), rows.get("not seen")
        if seen and new and min(seen.gold, new.gold) >= _FEW:
            known, unknown = (part.hits / part.gold for part in (seen, new))
            said.append(
                f"Of the mentions that the training data hold it finds {_percent(known)}, of new ones {_percent(unknown)}."
            )
    if errors.suspected:
        said.append(
            f"{_places(errors.suspected)} where the model is sure of something else than the annotation: these may be "
            "errors of the annotation."
        )
    few = sorted(
        label_title(name, display)
        for name, score in evaluation.metrics["span"].labels.items()
        if 0 < score.support < _FEW
    )
    if few:
        said.append(f"Too few mentions to judge by: {', '.join(few[:5])}{', …' if len(few) > 5 else ''}.")
    return said


def _with_f1(item: tuple[str, LabelScore], display: Mapping[str, str]) -> str:
    name, score = item
    return f"{label_title(name, display)} (F1 {_percent(score.f1)})"


def _places(count: int) -> str:
    return f"{count:,} place{'' if count == 1 else 's'}"


def _texts(count: int) -> str:
    return "One text was" if count == 1 else f"{count} texts were"


def _list(items: Any) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if 0.01 <= share <= 0.99 or share in (0, 1) else f"{100 * share:.1f}%"
