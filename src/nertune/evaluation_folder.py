"""The folder of one evaluation: its scores, and the gold and predictions that they are of, for reports and comparisons.

Written by `nertune evaluate --out` and `nertune score --out`, read by `nertune compare`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nertune import data
from nertune.atomic import replacing, telling_failures, write_text
from nertune.errors import InputError, MissingFileError
from nertune.evaluate import Evaluation
from nertune.evaluate.compare import Comparison, compare
from nertune.evaluate.pairing import pair
from nertune.schema import Document, ParseOutcome, Prediction

__all__ = ["Scored", "compare_folders", "make_folder", "read_folder", "write_folder"]

EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.jsonl"
GOLD = "gold.jsonl"


class Scored(NamedTuple):
    """Gold documents and their predictions, paired by position."""

    gold: tuple[Document, ...]
    predictions: tuple[Prediction, ...]


def make_folder(folder: Path) -> None:
    """Make a folder where it is not there: before the work whose result goes into it. Raises InputError where it cannot be."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is there, and no folder; the results are several files, so name a folder for them")
    with telling_failures(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)


def write_folder(
    folder: Path, evaluation: Evaluation, gold: Sequence[Document], predictions: Sequence[Prediction]
) -> None:
    """Write evaluation.json, predictions.jsonl and gold.jsonl into `folder`, which is made where it is not there.

    The lines of predictions.jsonl are those of extraction, with the gold's ids, and `outcome` where an answer could not be
    read as it was.
    """
    make_folder(folder)
    write_text(
        folder / EVALUATION, json.dumps(evaluation.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    )
    with replacing(folder / PREDICTIONS) as file:
        for document, prediction in zip(gold, predictions, strict=True):
            row = replace(prediction, id=document.id).to_json()
            if prediction.outcome is not ParseOutcome.CLEAN:
                row["outcome"] = prediction.outcome.value
            if prediction.cut:
                row["cut"] = True
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    data.write(gold, folder / GOLD, format="entities")


def read_folder(folder: Path) -> Scored:
    """What `write_folder` wrote. Raises InputError for a folder that lacks a file, and what reading raises."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; give one that nertune evaluate --out or score --out wrote")
    for name in (GOLD, PREDICTIONS):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: there is no {name} in it, which nertune evaluate --out and score --out write; run one of them again"
            )
    gold = data.read(folder / GOLD, format="entities").documents
    predictions = data.read_predictions(folder / PREDICTIONS, format="entities").predictions
    return Scored(gold, pair(gold, predictions).predictions)


def compare_folders(a: Path, b: Path, *, seed: int, resamples: int, shuffles: int) -> Comparison:
    """Compare the predictions of two folders. Raises InputError where they were not scored on the same gold."""
    first, second = read_folder(a), read_folder(b)
    if len(first.gold) != len(second.gold):
        raise InputError(
            f"{a} holds {len(first.gold)} documents and {b} {len(second.gold)}: compare predictions of the same documents"
        )
    # Both lists of B are in one order with the same ids and texts, so they are paired with A's gold alike.
    others = pair(first.gold, [Prediction(d.text, d.entities, id=d.id) for d in second.gold]).predictions
    predictions = pair(first.gold, second.predictions).predictions
    for number, (document, other) in enumerate(zip(first.gold, others, strict=True), 1):
        if set(document.entities) != set(other.entities):
            raise InputError(
                f"{a} and {b} were not scored on the same gold: document {number}, {document.text[:40]!r}, has other entities"
            )
    return compare(first.gold, first.predictions, predictions, seed=seed, resamples=resamples, shuffles=shuffles)
