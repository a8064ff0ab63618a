"""Everything that a report shows, as one JSON value, and the three forms that are made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nertune.atomic import write_text
from nertune.evaluate.breakdowns import BREAKDOWNS
from nertune.evaluate.errors import analyse
from nertune.evaluate.evaluation import Evaluation
from nertune.evaluate.findings import KINDS
from nertune.evaluate.measures import describe
from nertune.evaluate.report.curves import calibration_curve, threshold_curve
from nertune.evaluate.report.markdown import markdown
from nertune.evaluate.report.rows import document_rows
from nertune.evaluate.report.summary import summary
from nertune.evaluate.scoring import evaluate
from nertune.pages import page
from nertune.schema import Document, Prediction

__all__ = ["Report", "build_report"]

_FORMAT = 1
_SCRIPT = Path(__file__).with_name("page.js")
_SCHEMES = ("exact", "type")  # strict is span, and partial is among the metrics
_MOST_POINTS = 400  # of a training curve


@dataclass(frozen=True, slots=True)
class Report:
    """The JSON value of a report. Text in it that is no Unicode, lone surrogates, is replaced when it is written."""

    value: Mapping[str, Any]

    def files(self) -> dict[str, str]:
        """The content of `report.html`, `report.md` and `report.json`, by name."""
        made = {
            "report.html": page(
                self.value, script=_SCRIPT, without_script="report.md beside it says the same without one."
            ),
            "report.md": markdown(self.value),
            "report.json": json.dumps(self.value, ensure_ascii=False, separators=(",", ":")) + "\n",
        }
        return {name: text.encode("utf-8", "replace").decode("utf-8") for name, text in made.items()}

    def write(self, folder: Path) -> None:
        """Write the three files. Raises what `nertune.atomic.write_text` raises."""
        for name, text in self.files().items():
            write_text(folder / name, text)


def build_report(
    gold: Sequence[Document],
    predicted: Sequence[Prediction],
    *,
    title: str,
    evaluation: Evaluation | None = None,
    train: Sequence[Document] | None = None,
    facts: Mapping[str, str] | None = None,
    metrics: Sequence[Mapping[str, Any]] = (),
    recipe: str | None = None,
    display: Mapping[str, str] | None = None,
) -> Report:
    """The report on `predicted` against `gold`, pair by pair.

    `evaluation`: where it was scored already. `train`: what the model was trained on, to tell seen from unseen mentions.
    `facts`: what else is worth knowing, by name. `metrics`: the lines of a run's metrics.jsonl; `recipe`: its YAML.
    `display`: of labels that a model sees under another name, that name; such a label is shown as `LOC (地点)`.
    Raises InputError as `evaluate` does.
    """
    evaluation = evaluation or evaluate(gold, predicted)
    errors = analyse(gold, predicted, train=train)
    calibration = calibration_curve(gold, predicted)
    display = dict(display or {})
    return Report(
        {
            "format": _FORMAT,
            "title": title,
            "facts": dict(facts or {}),
            "summary": summary(evaluation, errors, calibration, display),
            "evaluation": evaluation.to_json(),
            "measures": {name: describe(name) for name in (*evaluation.metrics, *_SCHEMES)},
            "errors": errors.to_json(),
            "classes": dict(KINDS),
            **({"display": display} if display else {}),
            "breakdowns": {name: text for name, text in BREAKDOWNS.items() if name in errors.breakdowns},
            "thresholds": threshold_curve(gold, predicted),
            "calibration": calibration,
            "training": _training(metrics),
            "recipe": recipe,
            **document_rows(errors, predicted),
        }
    )


def _training(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The curves of a training over its steps; of long ones every so many points."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for key in ("loss", "eval_loss", "eval_f1"):
        points = [(int(line["step"]), float(line[key])) for line in metrics if "step" in line and key in line]
        points = [(step, value) for step, value in points if value == value and abs(value) != float("inf")]
        stride = -(-len(points) // _MOST_POINTS) or 1
        if points:
            curves[key] = points[::stride] + ([points[-1]] if (len(points) - 1) % stride else [])
    return curves
