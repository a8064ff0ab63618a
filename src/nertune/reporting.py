"""The report that `nertune evaluate --out` leaves beside scores, predictions and gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nertune import data
from nertune.confidence import MinScore
from nertune.errors import NertuneError
from nertune.evaluate import Evaluation
from nertune.evaluate.report import build_report
from nertune.files import parse_json
from nertune.prompt import KNOWN_ANSWERS
from nertune.run import RunManifest
from nertune.schema import Document, Prediction

__all__ = ["trained_on", "write_report"]


def write_report(
    folder: Path,
    documents: Sequence[Document],
    predictions: Sequence[Prediction],
    evaluation: Evaluation,
    *,
    source: str,
    model: str,
    run: Path | None = None,
    train: Sequence[Document] | None = None,
    display: Mapping[str, str] | None = None,
    min_score: MinScore | None = None,
) -> None:
    """Write report.html, report.md and report.json into a folder.

    `source`: the annotated file; `model`: as it was named; `run`: that of the model, whose training is shown; `display`: what
    it sees labels as that it sees under another name; `min_score`: below which entities were left out.
    """
    facts = {"model": model, "data": source}
    if run:
        facts["base model"] = RunManifest.read(run).base_model
    if min_score is not None:
        facts["least score"] = str(min_score)
    if evaluation.sentences_per_second:
        facts["speed"] = f"{evaluation.sentences_per_second:.2f} texts a second"
    report = build_report(
        documents,
        predictions,
        title=f"{Path(model).name if model == str(run) else model} on {Path(source).name}",
        evaluation=evaluation,
        train=train,
        facts=facts,
        metrics=_lines(run / "metrics.jsonl") if run else (),
        recipe=_text(run / "recipe.yaml") if run else None,
        display=display,
    )
    report.write(folder)


def trained_on(model: str, file: str | None, *, task: str | None = None) -> tuple[Document, ...] | None:
    """The documents of `file`; without it those that a run's recipe names, without what was held out; None where neither is.

    Raises what `nertune.data.read` raises for `file`; data of a recipe that cannot be read any more are passed over.
    """
    if file is not None:
        return data.read(file, answers=KNOWN_ANSWERS).documents
    recipe = Path(model) / "recipe.yaml"
    if not recipe.is_file():
        return None
    from nertune.train.recipe import load_recipe
    from nertune.train.task import load_tasks

    try:
        tasks = load_tasks(load_recipe(recipe))
    except (NertuneError, OSError):
        return None
    return tuple(document for found in tasks if not task or found.name == task for document in found.train)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _lines(path: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; none where it is not there or damaged."""
    try:
        return [parse_json(line) for line in (_text(path) or "").splitlines()]
    except ValueError:
        return []
