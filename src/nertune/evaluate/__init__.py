"""Scores for any tool's predictions, by measures that are never mixed up.

Stands at the end of the road: it takes gold `Document`s and `Prediction`s, wherever these come from, and knows nothing
of models, prompts or training.

    measures.py    what is compared: `text`, `span`, `partial`
    pairing.py     which prediction is of which gold document
    columns.py     both sides as columns of numbers
    semeval.py     the SemEval-2013 family: strict, exact, partial, type
    matching.py    one-to-one matching of overlapping mentions
    counts.py      what all measures count, by document and label
    bootstrap.py   resamples of documents, and the intervals they give
    evaluation.py  the result and its JSON form
    scoring.py     `evaluate`: from documents to the result
    table.py       the result as tables, for a terminal or Markdown
    compare.py     `compare`: two predictions of the same documents, with p-values; compare_table.py: for people
    calibration.py how far entities' scores can be trusted, the temperature that mends them, the best thresholds
    calibrating.py `calibrate`: from documents and scored predictions to a calibration
    reliability.py that as tables, and as a picture
    findings.py    what became of every mention of one document: its class
    breakdowns.py  precision and recall of parts, by length, place, novelty, script (scripts.py)
    errors.py      `analyse`: from documents to what went wrong
    report/        all of it for people: one page, Markdown, JSON
"""

from __future__ import annotations

from nertune.evaluate.calibrating import CalibrationReport, calibrate
from nertune.evaluate.errors import ErrorReport, analyse
from nertune.evaluate.evaluation import Evaluation, Scores
from nertune.evaluate.scoring import evaluate

__all__ = ["CalibrationReport", "ErrorReport", "Evaluation", "Scores", "analyse", "calibrate", "evaluate"]
