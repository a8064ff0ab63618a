"""What a run knows of its scores: the calibration that `nertune calibrate` fits and every Recognizer of the run applies.

RUN/calibration.json holds it: under `calibration`, or, for a run trained on several tasks, under `tasks` by their names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nertune.atomic import write_text
from nertune.errors import InputError, RunError
from nertune.files import parse_json
from nertune.schema import Prediction, written_score

__all__ = [
    "CALIBRATED",
    "CALIBRATION",
    "CLIP",
    "Calibration",
    "MinScore",
    "check_min_score",
    "settle",
    "write_calibration",
]

CALIBRATION = "calibration.json"
CALIBRATED: Literal["calibrated"] = "calibrated"
MinScore: TypeAlias = float | Literal["calibrated"]
"""The least score of an entity that is kept: one for all labels, or the calibration's own for each."""

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1, where their logit is endless: about a single-precision number's step."""

_FORMAT = 1
_LARGEST = 700.0  # whose exponential is still a number


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a run's probabilities become scores that can be trusted as frequencies, and which scores are worth keeping.

    `temperature`: above 0; a probability p becomes sigmoid(logit(p) / temperature), as Guo et al. 2017 (On Calibration of
    Modern Neural Networks) do with a classifier's logits. `thresholds`: the least score by label; `threshold`: that of all
    other labels. `constrained`: whether answers were held to the grammar when it was fitted: probabilities differ without.
    """

    temperature: float
    threshold: float
    thresholds: Mapping[str, float]
    constrained: bool = False

    def score(self, probability: float) -> float:
        """The calibrated score of a probability in [0, 1]."""
        p = min(max(probability, CLIP), 1 - CLIP)
        against = (math.log1p(-p) - math.log(p)) / self.temperature
        return 1 / (1 + math.exp(min(against, _LARGEST)))

    def threshold_of(self, label: str) -> float:
        return self.thresholds.get(label, self.threshold)

    @classmethod
    def read(cls, folder: Path, task: str | None = None) -> Calibration | None:
        """A run's calibration, or a task's; None where none was fitted. Raises RunError where it cannot be used."""
        path = folder / CALIBRATION
        found = _open(path)
        try:
            value = found.get("calibration") if task is None else found.get("tasks", {}).get(task)
            if value is None:
                return None
            return cls(
                temperature=_number(value["temperature"], "temperature", above=0.0),
                threshold=_number(value["threshold"], "threshold", most=1.0),
                thresholds={
                    str(label): _number(least, f"thresholds.{label}", most=1.0)
                    for label, least in value["thresholds"].items()
                },
                constrained=bool(value["constrained"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from error


def write_calibration(folder: Path, value: Mapping[str, Any], task: str | None = None) -> None:
    """Write a run's calibration, or a task's beside those of the others, whole or not at all.

    Raises RunError where there is one for tasks already that cannot be read.
    """
    path = folder / CALIBRATION
    found = {"calibration": value} if task is None else {"tasks": {**_open(path).get("tasks", {}), task: value}}
    write_text(path, json.dumps({"format": _FORMAT, **found}, ensure_ascii=False, indent=2) + "\n")


def check_min_score(min_score: MinScore | None, calibration: Calibration | None) -> None:
    """Raises InputError for a least score that is no probability, or a calibrated one where there is no calibration."""
    if min_score is not None:
        _least("", min_score, calibration)


def settle(prediction: Prediction, calibration: Calibration | None, min_score: MinScore | None) -> Prediction:
    """The prediction with calibrated scores, without the entities that score below `min_score` or have no score.

    `span_score` and `label_score` stay the model's own. Scores are compared as they are written, with six digits.
    Raises InputError as `check_min_score` does.
    """
    entities = prediction.entities
    if calibration is not None:
        entities = tuple(
            entity if entity.score is None else replace(entity, score=calibration.score(entity.score))
            for entity in entities
        )
    if min_score is not None:
        entities = tuple(
            entity
            for entity in entities
            if entity.score is not None
            and written_score(entity.score) >= written_score(_least(entity.label, min_score, calibration))
        )
    return replace(prediction, entities=entities)


def _least(label: str, min_score: MinScore, calibration: Calibration | None) -> float:
    if min_score == CALIBRATED:
        if calibration is None:
            raise InputError(
                "min_score is 'calibrated', but no thresholds were fitted for this run, or for answers made in another way: "
                "run nertune calibrate RUN --data FILE first, or give a number from 0 to 1"
            )
        return calibration.threshold_of(label)
    if not isinstance(min_score, int | float) or isinstance(min_score, bool) or not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score!r:.40}; it must be a number from 0 to 1, or 'calibrated'")
    return float(min_score)


def _open(path: Path) -> dict[str, Any]:
    """What a calibration file holds; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        value: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        form = value["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if form != _FORMAT:
        raise RunError(f"{path}: written in format {form}, this version reads {_FORMAT}")
    return value


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path}: damaged ({type(error).__name__}: {error}); remove it, and fit it again with nertune calibrate"
    )


def _number(found: object, key: str, *, above: float | None = None, most: float = math.inf) -> float:
    if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found):
        raise TypeError(f"{key} is {found!r:.40}, not a number")
    if found > most or (found < 0 if above is None else found <= above):
        raise ValueError(f"{key} is {found}, which cannot be")
    return float(found)
