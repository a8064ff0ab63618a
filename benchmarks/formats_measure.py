"""What formats.py measures of trained runs: scores, length of the answers, sentences/s and training samples/s."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bounded import run_json
from formats_runs import run_of
from formats_table import Row

import nertune
from nertune import data
from nertune.atomic import write_text
from nertune.errors import InputError, MissingFileError
from nertune.evaluate import Evaluation, evaluate
from nertune.evaluate.measures import MEASURES, gold_keys, predicted_keys
from nertune.run import RunManifest
from nertune.schema import Document
from nertune.train import load_recipe

__all__ = ["gold_documents", "in_turn", "kept_speeds", "measured", "speeds", "with_speeds"]

HERE = Path(__file__).resolve().parent
SPEEDS = "speeds.json"
BUSY = 0.5  # load average above which a time says more about the machine's other work


def gold_documents(recipe: Path, out: Path, name: str, *, test: str, limit: int | None) -> tuple[Document, ...]:
    """The sentences to measure on. Raises InputError where some of them were trained on."""
    prompt = RunManifest.read(run_of(out, name)).prompt_of()
    documents = data.read(test, limit=limit, labels=prompt.labels.names).documents
    source = load_recipe(recipe).data
    assert source is not None
    trained = {document.text for document in data.read(source.train, limit=source.limit).documents}
    if both := sum(document.text in trained for document in documents):
        raise InputError(f"{both} of the {len(documents)} sentences of {test} were trained on; measure on others")
    return documents


def measured(out: Path, name: str, documents: Sequence[Document], test: str) -> Row:
    """The format's scores, from DIR/measured-NAME.json where that is of the same weights and sentences."""
    kept = out / f"measured-{name}.json"
    weights = run_of(out, name) / "adapter_model.safetensors"
    measured_on = {"weights": _digest(weights), "test": _digest(Path(test)), "documents": len(documents)}
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if {key: found.get(key) for key in measured_on} != measured_on:
        print(f"predicting {len(documents)} sentences, twice: {name} …", file=sys.stderr, flush=True)
        found = measured_on | _measure(run_of(out, name), documents)
        write_text(kept, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    return Row(
        name=name,
        held=Evaluation.from_json(found["held"]),
        free=Evaluation.from_json(found["free"]),
        tokens=found["tokens"],
        counts=found["counts"],
    )


def _measure(run: Path, documents: Sequence[Document]) -> dict[str, Any]:
    texts = [document.text for document in documents]
    recognizer = nertune.load(run)
    tokens: list[int] = []
    held = recognizer.extract_many(texts, trace=lambda trace: tokens.append(len(trace.new_ids)))
    free = dataclasses.replace(recognizer, constrained=False, calibration=None).extract_many(texts)
    counts = {}
    for measure in MEASURES:
        keys = [
            (predicted_keys(prediction, measure=measure), gold_keys(document, measure=measure))
            for document, prediction in zip(documents, held, strict=True)
        ]
        counts[measure] = [(len(found & gold), len(found), len(gold)) for found, gold in keys]
    return {
        "held": evaluate(documents, held).to_json(),
        "free": evaluate(documents, free).to_json(),
        "tokens": sum(tokens) / len(documents),
        "counts": counts,
    }


def _digest(path: Path) -> str:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def speeds(
    recipe: Path, out: Path, names: Sequence[str], test: str, *, sentences: int, rounds: int, steps: int, minutes: float
) -> dict[str, Any]:
    """Sentences/s and training samples/s of each format, every round's, with what they were measured on; kept in `out`.

    Each measurement is a process of its own, ended after `minutes`.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY:
        print(f"other work is running (load {load:.1f}): do not quote these speeds", file=sys.stderr)

    def extraction(name: str) -> float:
        way = ["extract_run.py", "nertune", str(run_of(out, name)), test, "--sentences", str(sentences)]
        return float(_run(way, minutes)["sentences_per_second"])

    def training(name: str) -> float:
        return float(
            _run(["formats_step.py", str(recipe), str(steps), f"answer={name}"], minutes)["samples_per_second"]
        )

    found = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": _machine(),
        "load": load,
        "sentences": sentences,
        "steps": steps,
        "rounds": rounds,
        "extraction": in_turn(names, rounds, extraction),
        "training": in_turn(names, rounds, training),
    }
    write_text(out / SPEEDS, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    return found


def _run(script: Sequence[str], minutes: float) -> dict[str, Any]:
    return run_json([sys.executable, str(HERE / script[0]), *script[1:]], minutes=minutes)


def kept_speeds(out: Path) -> dict[str, Any]:
    """What `speeds` found last; empty where it was never called."""
    path = out / SPEEDS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def in_turn(names: Sequence[str], rounds: int, measure: Callable[[str], float]) -> dict[str, list[float]]:
    """What is measured of each, `rounds` times; every round takes all of them and begins with another one."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            print(f"timing {name}, {number + 1} of {rounds} …", file=sys.stderr, flush=True)
            found[name].append(measure(name))
    return found


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.is_file() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{cores} cores of {name}"


def with_speeds(row: Row, found: Mapping[str, Any]) -> Row:
    """The row with its medians of what `speeds` found."""
    extraction, training = (found.get(kind, {}).get(row.name) for kind in ("extraction", "training"))
    return row._replace(
        sentences_per_second=statistics.median(extraction) if extraction else None,
        samples_per_second=statistics.median(training) if training else None,
    )
