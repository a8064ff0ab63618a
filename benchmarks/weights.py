"""What lower precision brings on a processor: speed and F1 of one run in several forms, in one call.

    python benchmarks/weights.py RUN DATA --limit 500 --threads 2

The texts are cut into parts. Each part is read in every form before the next part is, and a form's ratio is the median
over the parts of single precision's time by its own: in time by the clock, and in the process's processor time, which other
work on the machine disturbs less. Forms: `float32`; `bfloat16`, the whole model (`--dtype bfloat16`); `int8`, weights of the
linear layers in eight bits by channel and their inputs in eight bits by token (weights_int8.py); `bfloat16+int8`, both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from weights_int8 import quantize_int8

from nertune import assemble, load
from nertune.data import read
from nertune.evaluate import evaluate

FORMS = ("float32", "bfloat16", "int8", "bfloat16+int8")


def load_form(run: Path, form: str) -> Any:
    load_weights = assemble.load_weights

    def rounded(*arguments: Any, **options: Any) -> Any:
        model = load_weights(*arguments, **options)
        quantize_int8(model)
        return model

    if form.endswith("int8"):
        assemble.load_weights = rounded
    try:
        return load(run, dtype="bfloat16" if form.startswith("bfloat16") else "float32", device="cpu")
    finally:
        assemble.load_weights = load_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--part", type=int, default=64, help="texts read in one form before the next form's turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    documents = read(options.data, format=None, limit=options.limit).documents
    texts = [document.text for document in documents]
    forms = {form: load_form(options.run, form) for form in options.forms}
    for recognizer in forms.values():
        recognizer.extract_many(texts[: options.part])  # kernels by shape, the shared prefix
    base = next(iter(forms))
    clock: dict[str, list[float]] = {form: [] for form in forms}
    used: dict[str, list[float]] = {form: [] for form in forms}
    predictions: dict[str, list[Any]] = {form: [] for form in forms}
    for start in range(0, len(texts), options.part):
        for form, recognizer in forms.items():
            began, began_used = time.perf_counter(), time.process_time()
            predictions[form] += recognizer.extract_many(texts[start : start + options.part])
            clock[form].append(time.perf_counter() - began)
            used[form].append(time.process_time() - began_used)
        print(f"{len(predictions[base])} texts: " + ", ".join(f"{f} {used[f][-1]:.1f} s" for f in forms), flush=True)
    print("| form | texts/s | ratio, clock | ratio, processor time | F1 text | F1 span | texts that differ |")
    print("|---|---|---|---|---|---|---|")
    for form in forms:
        metrics = evaluate(documents, predictions[form]).metrics
        text, span = metrics["text"].micro.f1, metrics["span"].micro.f1
        differ = sum(_found(a) != _found(b) for a, b in zip(predictions[form], predictions[base], strict=True))
        print(
            f"| {form} | {len(texts) / sum(clock[form]):.2f} | {_ratio(clock[base], clock[form]):.2f} | "
            f"{_ratio(used[base], used[form]):.2f} | {text:.4f} | {span:.4f} | {differ} |"
        )


def _ratio(base: list[float], own: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(base, own, strict=True))


def _found(prediction: Any) -> list[tuple[str, int, int]]:
    return [(entity.label, entity.start, entity.end) for entity in prediction.entities]


if __name__ == "__main__":
    main()
