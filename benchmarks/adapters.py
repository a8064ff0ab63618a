"""What adapters cost beside the weights: extraction with one unmerged, and with several mixed, against the merged run.

    python benchmarks/adapters.py RUN --data FILE [--sentences 32] [--mixed 4] [--rounds 3]

The same sentences through engines in one process, taking turns, so that a noisy machine is noisy for all: the run merged;
its adapter beside the base model; and sentence by sentence another one of `--mixed` equal adapters, which the engine
takes for different ones. The fastest of the rounds counts. Beside the time on the clock stands the processor's, which other
programs on the machine hardly change. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nertune import assemble, data
from nertune.adapters import load_runs
from nertune.extract import Recognizer
from nertune.generate import Completion

_WARM = 8  # sentences read before the clock starts: kernels, prompt prefix, grammar tables


def main() -> int:
    options = _options()
    texts = [document.text for document in data.read(options.data, limit=options.sentences).documents]
    names = [f"adapter-{number}" for number in range(options.mixed)]
    merged = assemble.load(options.run)
    beside = load_runs(dict.fromkeys(names, options.run)).recognizers
    ways: dict[str, Callable[[list[str]], list[Completion]]] = {
        "merged": lambda texts: _answers(texts, [merged]),
        "one beside": lambda texts: _answers(texts, [beside[names[0]]]),
        f"{options.mixed} mixed": lambda texts: _answers(texts, [beside[name] for name in names]),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    answers: dict[str, list[Completion]] = {}
    for way in ways.values():
        way(texts[:_WARM])
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds} …", file=sys.stderr, flush=True)
        for name, way in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            answers[name] = way(texts)
            seconds[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return _told(len(texts), seconds, answers)


def _answers(texts: list[str], recognizers: list[Recognizer]) -> list[Completion]:
    """The answers to texts that the recognizers, all of one engine, take in turns, decoded together."""
    # One recognizer makes all requests, so that every way does the same work besides the engine's.
    requests = recognizers[0].prepare(texts).requests
    turns = (recognizers * len(texts))[: len(texts)]
    asked = [replace(request, adapter=turn.adapter) for request, turn in zip(requests, turns, strict=True)]
    return recognizers[0].engine.generate(asked)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory with an adapter")
    parser.add_argument("--data", required=True, metavar="FILE", help="annotated sentences")
    parser.add_argument("--sentences", type=int, default=32, help="the first so many (default: %(default)s)")
    parser.add_argument("--mixed", type=int, default=4, help="adapters that are mixed (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: %(default)s)")
    options = parser.parse_args()
    if not Path(options.data).is_file():
        parser.error(f"--data {options.data}: no such file")
    return options


def _told(texts: int, seconds: dict[str, list[tuple[float, float]]], answers: dict[str, list[Completion]]) -> int:
    """Print the table and the JSON line; the exit code."""
    results: dict[str, dict[str, Any]] = {}
    least = {name: [min(times) for times in zip(*rounds, strict=True)] for name, rounds in seconds.items()}
    print(f"{'':14}{'sentences/s':>12}{'time/merged':>13}{'processor/merged':>18}{'equal answers':>15}")
    for name, (clock, processor) in least.items():
        ratio, processor_ratio = clock / least["merged"][0], processor / least["merged"][1]
        equal = sum(a == b for a, b in zip(answers[name], answers["merged"], strict=True))
        results[name] = {
            "sentences_per_second": texts / clock,
            "time_ratio": ratio,
            "processor_ratio": processor_ratio,
            "equal_answers": equal,
        }
        print(f"{name:14}{texts / clock:12.2f}{ratio:13.2f}{processor_ratio:18.2f}{equal:12}/{texts}")
    print(json.dumps({"sentences": texts, "ways": results}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
