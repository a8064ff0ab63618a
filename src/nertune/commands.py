"""What the larger commands do, between the command line and the rooms: evaluation, calibration, conversion of whole files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nertune import data
from nertune.confidence import Calibration, write_calibration
from nertune.errors import InputError, RunError
from nertune.evaluate import CalibrationReport, Evaluation, calibrate, evaluate
from nertune.evaluate.measures import Measure
from nertune.evaluate.reliability import draw_reliability
from nertune.evaluation_folder import write_folder
from nertune.extract import Recognizer, ground
from nertune.prompt import PromptSpec, answer_format, fitted, load_template, refuse_unwritable
from nertune.reporting import write_report
from nertune.run import RELIABILITY, RunManifest
from nertune.schema import Document, Entity
from nertune.terminal import Meter

__all__ = ["calibrate_on", "convert", "evaluate_on"]

_READ_BACK = ("json", "jsonl")  # answers that the reader of alpaca rows knows


def evaluate_on(
    recognizer: Recognizer,
    documents: Sequence[Document],
    *,
    out: str | None,
    source: str = "",
    model: str = "",
    train: Sequence[Document] | None = None,
) -> Evaluation:
    """Predict every document and score the predictions; with `out`, write both, the gold and the report into that folder.

    `source`, `model`, `train`: what the report says of them, see `nertune.reporting`.
    """
    started = time.monotonic()
    with Meter("predicting", len(documents)) as meter:
        predictions = recognizer.extract_many([document.text for document in documents], done=meter.update)
    evaluation = evaluate(documents, predictions, seconds=time.monotonic() - started)
    if out is not None:
        write_folder(Path(out), evaluation, documents, predictions)
        display = recognizer.renderer.spec.labels.display
        write_report(
            Path(out), documents, predictions, evaluation, source=source, model=model, train=train, display=display
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


def convert(
    source: str,
    target: str,
    *,
    source_format: str | None,
    target_format: str,
    template: str,
    answer: str,
    label_map: data.LabelMap | None = None,
) -> list[str]:
    """Convert an annotated file, read the result back, and return what is to be said about both.

    `label_map`: other labels for those of the file.
    """
    if Path(source).exists() and Path(target).exists() and Path(source).samefile(target):
        raise InputError(f"{target}: source and target are the same file")
    corpus = data.read(source, format=source_format)
    said = [f"{source}: {corpus.format}, {len(corpus.documents)} documents", *corpus.notes]
    if label_map:
        mapped = label_map.apply(corpus.documents)
        corpus = replace(corpus, documents=mapped.documents)
        said += label_map.notes(mapped.changes)
    if target_format == "alpaca":
        rows = _alpaca_rows(corpus, source, template, answer)
        data.write_alpaca(rows, Path(target))
        said.append(f"{Path(target).parent / 'dataset_info.json'}: entry {Path(target).stem!r}")
    else:
        data.write(corpus.documents, target, format=target_format)
    if target_format == "alpaca" and answer not in _READ_BACK:
        again = _answered(corpus, rows, answer)
        said.append(
            f"alpaca rows with {answer} answers are for training elsewhere: nertune reads those with json and jsonl"
        )
    else:
        again = data.read(target, format=target_format).documents
    lost = [
        number
        for number, (before, after) in enumerate(zip(corpus.documents, again, strict=True), 1)
        if before.text != after.text or _scored(before) != _scored(after)
    ]
    if lost:
        first = ", ".join(map(str, lost[:5]))
        said.append(
            f"{len(lost)} documents do not come back alike: {target_format} cannot hold their entities ({first}, …)"
        )
    said.append(f"{target}: {len(again)} documents written as {target_format}")
    return said


def _scored(document: Document) -> set[tuple[Entity, float | None]]:
    return {(entity, entity.score) for entity in document.entities}


def _alpaca_rows(corpus: data.Corpus, source: str, template: str, answer: str) -> list[data.AlpacaRow]:
    spec = PromptSpec(load_template(template), corpus.labels, fitted(answer_format(answer), corpus.documents))
    refuse_unwritable(
        (f"{source}: document {number}", spec.answer, document) for number, document in enumerate(corpus.documents, 1)
    )
    filled = spec.filled()
    before, after = filled.around_text()
    return [
        data.AlpacaRow(filled.system or "", before + document.text + after, spec.write(document))
        for document in corpus.documents
    ]


def _answered(corpus: data.Corpus, rows: Sequence[data.AlpacaRow], answer: str) -> tuple[Document, ...]:
    """The documents that the answers of rows speak of, read and placed as a model's answers are."""
    form = answer_format(answer)
    return tuple(
        Document(document.text, ground(document.text, form.parse(row.output), corpus.labels).entities)
        for document, row in zip(corpus.documents, rows, strict=True)
    )
