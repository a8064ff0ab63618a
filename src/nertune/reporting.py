"""What `nertune evaluate --out` leaves in its folder: scores, predictions, gold and the report that people read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from nertune import data
from nertune.atomic import write_text
from nertune.evaluate import Evaluation
from nertune.evaluate.report import build_report
from nertune.run import RunManifest
from nertune.schema import Document, Prediction

__all__ = ["trained_on", "write_evaluation"]


def write_evaluation(
    folder: Path,
    documents: Sequence[Document],
    predictions: Sequence[Prediction],
    evaluation: Evaluation,
    *,
    source: str,
    model: str,
    train: Sequence[Document] | None = None,
) -> None:
    """Write evaluation.json, predictions.jsonl, report.html, report.md and report.json into a folder, made where it is not.

    `source`: the annotated file; `model`: as it was named, of whose run the curves are shown where it is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "evaluation.json", json.dumps(evaluation.to_json(), ensure_ascii=False, indent=2) + "\n")
    lines = [
        json.dumps(replace(prediction, id=document.id).to_json(), ensure_ascii=False) + "\n"
        for document, prediction in zip(documents, predictions, strict=True)
    ]
    write_text(folder / "predictions.jsonl", "".join(lines))
    run = Path(model)
    facts = {"model": model, "data": source}
    if run.is_dir():
        facts["base model"] = RunManifest.read(run).base_model
    if evaluation.sentences_per_second:
        facts["speed"] = f"{evaluation.sentences_per_second:.2f} texts a second"
    report = build_report(
        documents,
        predictions,
        title=f"{run.name if run.is_dir() else model} on {Path(source).name}",
        evaluation=evaluation,
        train=train,
        facts=facts,
        metrics=_lines(run / "metrics.jsonl"),
        recipe=_text(run / "recipe.yaml"),
    )
    report.write(folder)


def trained_on(model: str, file: str | None, *, labels: Sequence[str] | None = None) -> tuple[Document, ...] | None:
    """The documents of `--train`, or of the one file that a run's recipe names where it is still there; None without.

    Raises what `nertune.data.read` raises for `--train`; a recipe's file that cannot be read any more is passed over.
    """
    if file is not None:
        return data.read(file, labels=labels).documents
    recipe = _text(Path(model) / "recipe.yaml")
    try:
        section = yaml.safe_load(recipe or "")["data"]
        # Held-out documents of the same file were not trained on, so they may not count as seen.
        if not isinstance(section["validation"], str) and section["validation"]:
            return None
        return data.read(
            section["train"],
            format=section.get("format"),
            limit=section.get("limit"),
            labels=labels,
            columns=section.get("columns"),
        ).documents
    except (yaml.YAMLError, KeyError, TypeError, ValueError, OSError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _lines(path: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; none where it is not there or damaged."""
    try:
        return [json.loads(line) for line in (_text(path) or "").splitlines()]
    except ValueError:
        return []
