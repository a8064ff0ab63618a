"""The result of scoring, and its JSON form.

Made by `scoring.evaluate`, read by tables, by `compare` and by whatever keeps results on disk. Reading checks every
value it uses and names the key that is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from nertune.errors import InputError

__all__ = ["Evaluation", "LabelScore", "Outcomes", "Score", "Scores"]

_Object: TypeAlias = Mapping[str, object]

# The largest finite float: no limit, but infinity is refused.
_UNBOUNDED = sys.float_info.max


class Outcomes(NamedTuple):
    """What became of the mentions of both sides; the words of SemEval-2013 Task 9 (Segura-Bedmar et al. 2013)."""

    correct: int
    incorrect: int
    partial: int
    missed: int
    spurious: int

    @property
    def possible(self) -> int:
        """Gold mentions."""
        return self.correct + self.incorrect + self.partial + self.missed

    @property
    def actual(self) -> int:
        """Predicted mentions."""
        return self.correct + self.incorrect + self.partial + self.spurious

    def to_json(self) -> dict[str, object]:
        """The counts, and possible and actual after them."""
        return self._asdict() | {"possible": self.possible, "actual": self.actual}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Precision, recall and F1, each in [0, 1]; 0/0 is 0.

    `ci95` is the (low, high) of the F1; None of fewer than two documents, or where it was not computed. `outcomes`: what
    they were computed from, for the SemEval family, but for a mean.
    """

    precision: float
    recall: float
    f1: float
    ci95: tuple[float, float] | None = None
    outcomes: Outcomes | None = None

    def to_json(self) -> dict[str, object]:
        """The object with the keys precision, recall, f1."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore(Score):
    """The score of one label; `support` counts its distinct gold entities."""

    support: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All scores by one measure.

    `micro` pools all entities. `macro` is the plain mean over the labels of the gold, value by value: its F1 is the mean
    of the labels' F1, not the F1 of the mean precision and recall (the two differ: Opitz & Burst 2019, Macro F1 and
    Macro F1). `labels` holds each label that occurs in gold or in a prediction; one that only predictions use counts as
    wrong in the micro and is no part of the macro, which a single invented mention would else divide by one more.
    """

    micro: Score
    macro: Score
    labels: Mapping[str, LabelScore]

    @property
    def support(self) -> int:
        """Distinct gold entities over all labels."""
        return sum(score.support for score in self.labels.values())

    def to_json(self) -> dict[str, object]:
        """The object with the keys micro, macro, labels."""
        return {
            "micro": _score_json(self.micro),
            "macro": _score_json(self.macro),
            "labels": {name: _score_json(score) for name, score in self.labels.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What scoring found.

    `metrics` holds the `Scores` by measure: text, span and partial. `semeval`: those of the four schemes of the SemEval
    family, with their counts; `partial` is one of them. `ungrounded` counts mentions that were named and stand nowhere,
    repetitions included; `invalid_answers` counts answers of which nothing could be read; `truncated` documents of
    which something was cut: an answer by the length limit, or a sentence too long for a window.
    `sentences_per_second` is documents by seconds, None where no time was measured.
    """

    documents: int
    metrics: Mapping[str, Scores]
    ungrounded: int
    invalid_answers: int
    truncated: int
    sentences_per_second: float | None
    semeval: Mapping[str, Scores] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The evaluation JSON, ready for `json.dumps`; nothing is rounded."""
        return {
            "documents": self.documents,
            "metrics": {measure: scores.to_json() for measure, scores in self.metrics.items()},
            "semeval": {scheme: scores.to_json() for scheme, scores in self.semeval.items()},
            "ungrounded": self.ungrounded,
            "invalid_answers": self.invalid_answers,
            "truncated": self.truncated,
            "sentences_per_second": self.sentences_per_second,
        }

    @classmethod
    def from_json(cls, value: object) -> Evaluation:
        """The evaluation that `to_json` wrote, as `json.loads` gives it. Unknown keys are passed over.

        Files of earlier versions have no `semeval` and fewer intervals: both are empty then.

        Raises InputError, naming the key, what was found and what belongs there.
        """
        top = _object(value, "evaluation")
        measures = _object(_get(top, "metrics", ""), "metrics")
        schemes = _object(top.get("semeval", {}), "semeval")
        speed = _get(top, "sentences_per_second", "")
        return cls(
            documents=_count(top, "documents", ""),
            metrics={name: _scores(scores, f"metrics.{name}") for name, scores in measures.items()},
            ungrounded=_count(top, "ungrounded", ""),
            invalid_answers=_count(top, "invalid_answers", ""),
            truncated=_count(top, "truncated", ""),
            sentences_per_second=None if speed is None else _real(speed, "sentences_per_second", most=_UNBOUNDED),
            semeval={name: _scores(scores, f"semeval.{name}") for name, scores in schemes.items()},
        )


def _score_json(score: Score) -> dict[str, object]:
    counts = {} if score.outcomes is None else score.outcomes.to_json()
    support = {"support": score.support} if isinstance(score, LabelScore) else {}
    return counts | score.to_json() | support | {"ci95": None if score.ci95 is None else list(score.ci95)}


def _scores(value: object, where: str) -> Scores:
    scores = _object(value, where)
    micro = _object(_get(scores, "micro", where), f"{where}.micro")
    _get(micro, "ci95", f"{where}.micro")
    labels = _object(_get(scores, "labels", where), f"{where}.labels")
    read = {name: _object(score, f"{where}.labels.{name}") for name, score in labels.items()}
    return Scores(
        micro=_score(micro, f"{where}.micro"),
        macro=_score(_object(_get(scores, "macro", where), f"{where}.macro"), f"{where}.macro"),
        labels={name: _label_score(score, f"{where}.labels.{name}") for name, score in read.items()},
    )


def _score(score: _Object, where: str) -> Score:
    return Score(
        precision=_ratio(score, "precision", where),
        recall=_ratio(score, "recall", where),
        f1=_ratio(score, "f1", where),
        ci95=_interval(score, where),
        outcomes=_outcomes(score, where),
    )


def _label_score(score: _Object, where: str) -> LabelScore:
    read = _score(score, where)
    return LabelScore(
        precision=read.precision,
        recall=read.recall,
        f1=read.f1,
        ci95=read.ci95,
        outcomes=read.outcomes,
        support=_count(score, "support", where),
    )


def _ratio(score: _Object, key: str, where: str) -> float:
    return _real(_get(score, key, where), f"{where}.{key}", most=1)


def _interval(score: _Object, where: str) -> tuple[float, float] | None:
    found = score.get("ci95")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != 2:
        raise _wrong(f"{where}.ci95", found, "[low, high] or null")
    return _real(found[0], f"{where}.ci95[0]", most=1), _real(found[1], f"{where}.ci95[1]", most=1)


def _outcomes(score: _Object, where: str) -> Outcomes | None:
    if "correct" not in score:
        return None
    return Outcomes(*(_count(score, name, where) for name in Outcomes._fields))


def _object(value: object, where: str) -> _Object:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    return value


def _get(value: _Object, key: str, where: str) -> object:
    if key not in value:
        raise InputError(f"not an evaluation: the key {f'{where}.{key}' if where else key} is missing")
    return value[key]


def _count(value: _Object, key: str, where: str) -> int:
    found = _get(value, key, where)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise _wrong(f"{where}.{key}" if where else key, found, "a whole number from 0")
    return found


def _real(found: object, where: str, *, most: float) -> float:
    # NaN fails the comparison, as it should.
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found <= most:
        raise _wrong(where, found, f"a number from 0 to {most}" if most < _UNBOUNDED else "a number from 0")
    return float(found)


def _wrong(where: str, found: object, wanted: str) -> InputError:
    shown = repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:59]}…"
    return InputError(f"not an evaluation: {where} is {shown}; it must be {wanted}")
