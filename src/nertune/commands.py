"""What the larger commands do, between the command line and the rooms: evaluation and calibration."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from nertune.confidence import Calibration, write_calibration
from nertune.errors import RunError
from nertune.evaluate import CalibrationReport, Evaluation, calibrate, evaluate
from nertune.evaluate.measures import Measure
from nertune.evaluate.reliability import draw_reliability
from nertune.evaluation_folder import write_folder
from nertune.extract import Recognizer
from nertune.reporting import write_report
from nertune.run import RELIABILITY, RunManifest
from nertune.schema import Document
from nertune.terminal import Meter

__all__ = ["calibrate_on", "evaluate_on"]


def evaluate_on(
    recognizer: Recognizer,
    documents: Sequence[Document],
    *,
    out: str | None,
    source: str = "",
    model: str = "",
    run: Path | None = None,
    train: Sequence[Document] | None = None,
) -> Evaluation:
    """Predict every document and score the predictions; with `out`, write both, the gold and the report into that folder.

    `source`, `model`, `run`, `train`: what the report says of them, see `nertune.reporting`.
    """
    started = time.monotonic()
    with Meter("predicting", len(documents)) as meter:
        predictions = recognizer.extract_many([document.text for document in documents], done=meter.update)
    evaluation = evaluate(documents, predictions, seconds=time.monotonic() - started)
    if out is not None:
        write_folder(Path(out), evaluation, documents, predictions)
        write_report(
            Path(out),
            documents,
            predictions,
            evaluation,
            source=source,
            model=model,
            run=run,
            train=train,
            display=recognizer.renderer.spec.labels.display,
            min_score=recognizer.min_score,
        )
    return evaluation


def calibrate_on(
    recognizer: Recognizer,
    documents: Sequence[Document],
    *,
    run: Path,
    task: str | None,
    source: Path,
    measure: Measure,
) -> tuple[CalibrationReport, dict[str, object]]:
    """Fit a calibration to a recognizer's predictions of `source`'s documents and keep it in the run, with its picture.

    The recognizer gives the model's own scores. Returns the report, and what was written.
    """
    name = RunManifest.read(run).task_of(task)
    Calibration.read(run, name)  # one that cannot be read is told of before the work
    if not os.access(run, os.W_OK):
        raise RunError(f"{run}: cannot be written to, and a calibration is kept in its run; use a copy of the run")
    with Meter("predicting", len(documents)) as meter:
        predictions = recognizer.extract_many([document.text for document in documents], done=meter.update)
    report = calibrate(documents, predictions, measure=measure, constrained=recognizer.constrained)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    value = {"data": {"file": source.name, "sha256": digest}, **report.to_json()}
    draw_reliability(report, run / (RELIABILITY if name is None else f"reliability-{name}.png"))
    write_calibration(run, value, name)
    return report, value
