"""Scoring a million documents beside reading them: what `nertune score` spends its time on.

python benchmarks/score.py [--documents 1000000] [--data FILE]

Sentences are those of FILE (default: the sample data of the package), repeated; predictions are the gold with mentions lost,
moved, renamed and invented, a tenth of each. Prints seconds of processor time, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nertune import data
from nertune.evaluate import evaluate
from nertune.evaluate.compare import compare
from nertune.evaluate.pairing import pair
from nertune.schema import Document, Prediction

SAMPLES = Path(data.__file__).parent / "samples" / "train.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, default=SAMPLES)
    options = parser.parse_args()
    sentences = data.read(options.data).documents
    with tempfile.TemporaryDirectory() as folder:
        gold, predicted = Path(folder) / "gold.jsonl", Path(folder) / "predicted.jsonl"
        _write(gold, predicted, sentences, options.documents)
        wanted, reading = _timed(lambda: data.read(gold).documents)
        found, reading_too = _timed(lambda: data.read_predictions(predicted).predictions)
    pairing, pairs = _timed(lambda: pair(wanted, found))
    _, counting = _timed(lambda: evaluate(wanted, pairing.predictions, resamples=0))
    evaluation, scoring = _timed(lambda: evaluate(wanted, pairing.predictions))
    entities = sum(len(d.entities) for d in wanted) + sum(len(p.entities) for p in found)
    span = evaluation.metrics["span"].micro
    print(
        f"{len(wanted):,} documents, {entities:,} gold and predicted entities; span F1 {span.f1:.4f}, 95% {span.ci95}"
    )
    print(f"reading both files  {reading + reading_too:7.1f} s")
    print(f"pairing             {pairs:7.1f} s")
    print(f"scoring             {scoring:7.1f} s with 1,000 resamples for the intervals, {counting:.1f} s without")
    print(f"scoring / reading   {(pairs + scoring) / (reading + reading_too):7.2f}")
    few = slice(0, 10_000)
    _, small = _timed(lambda: evaluate(wanted[few], pairing.predictions[few]))
    half = [p if n % 2 else Prediction(d.text, d.entities) for n, (d, p) in enumerate(zip(wanted, found, strict=True))][
        few
    ]
    _, both = _timed(lambda: compare(wanted[few], pairing.predictions[few], half))
    print(f"10,000 documents: scored with 1,000 resamples in {small:.2f} s, compared in {both:.2f} s")
    print(f"memory at most      {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:7.1f} GiB")


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    result = work()
    return result, time.process_time() - begun


def _write(gold: Path, predicted: Path, sentences: tuple[Document, ...], count: int) -> None:
    dice = random.Random(0)
    labels = sorted({entity.label for document in sentences for entity in document.entities})
    with gold.open("w", encoding="utf-8") as left, predicted.open("w", encoding="utf-8") as right:
        for number in range(count):
            document = sentences[number % len(sentences)]
            spans = [(e.label, e.start, e.end) for e in document.entities]
            for file, found in ((left, spans), (right, list(_perturbed(document.text, spans, labels, dice)))):
                entities = [{"start": s, "end": e, "label": n, "text": document.text[s:e]} for n, s, e in found]
                row = {"id": str(number), "text": document.text, "entities": entities}
                print(json.dumps(row, ensure_ascii=False), file=file)


def _perturbed(
    text: str, spans: list[tuple[str, int, int]], labels: list[str], dice: random.Random
) -> Iterator[tuple[str, int, int]]:
    for label, start, end in spans:
        fate = dice.random()
        if fate < 0.1:
            continue
        if fate < 0.2:
            yield label, start, max(start + 1, min(len(text), end + dice.choice((-1, 1))))
        else:
            yield (dice.choice(labels) if fate < 0.3 else label), start, end
    if dice.random() < 0.1:
        start = dice.randrange(len(text))
        yield dice.choice(labels), start, start + 1


if __name__ == "__main__":
    main()
