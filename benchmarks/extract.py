"""Extraction speed: nertune beside the tutorials' loop, transformers' batched generation and vLLM, in one call.

    python benchmarks/extract.py RUN --data FILE [--sentences 64] [--adapter DIR] [--vllm PYTHON]

All read the same sentences with the same model, adapter and prompt, in float32, and are scored on the file's own
entities: speeds are compared at the F1 beside them. Each is a process of its own; loading and a few sentences before the
clock starts are not in its time.

- The tutorials' loop: one call of `generate` for each sentence, PEFT's adapter beside the weights, at most 512 new tokens.
- transformers, batched: the same for 16 left-padded sentences at a time.
- vLLM's CPU wheel (make bench-peers installs it; left out where it is absent): its server with prefix caching and the
  adapter, all sentences sent at once, each with nertune's grammar.
- nertune, as `nertune extract` runs.
- With --adapter also the tutorial script itself, `predict`, on an adapter that was trained on its own prompt.

The last line printed is one JSON object: each way by its name.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from bounded import RunError, run_json
from vllm_peer import PYTHON

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parents[1] / "shared" / "bench" / "seed_recipe.py"
LOOP = "tutorial loop"


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run that is going on is ended too
    results: dict[str, dict[str, Any]] = {}
    given = [str(options.run), options.data, "--sentences", str(options.sentences)]
    script = [sys.executable, str(HERE / "extract_run.py")]
    ways = {
        LOOP: [*script, "tutorial", *given],
        "transformers, batches of 16": [*script, "batched", *given],
        "nertune": [*script, "nertune", *given],
    }
    if options.adapter:
        from nertune.models import ensure_builtin

        own = [sys.executable, options.script, "predict", str(ensure_builtin()), options.data]
        ways["tutorial script"] = [*own, "--samples", str(options.sentences), "--adapter", options.adapter]
    if options.vllm.is_file():
        ways["vLLM, same grammar"] = [*script, "vllm", *given, "--vllm", str(options.vllm)]
    else:
        print(f"no vLLM at {options.vllm}: left out (make bench-peers installs it)", file=sys.stderr)
    for name, command in ways.items():
        print(f"running: {name} …", file=sys.stderr, flush=True)
        try:
            results[name] = run_json(command, minutes=options.minutes)
        except RunError as error:
            print(f"{name}: {error}", file=sys.stderr)
            results[name] = {"error": str(error)}
    return _told(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory with an adapter")
    parser.add_argument("--data", required=True, metavar="FILE", help="annotated sentences")
    parser.add_argument("--sentences", type=int, default=64, help="the first so many (default: %(default)s)")
    parser.add_argument("--script", default=str(SCRIPT), metavar="FILE", help="the tutorial script, for --adapter")
    parser.add_argument("--adapter", metavar="DIR", help="an adapter that was trained on the tutorial script's prompt")
    parser.add_argument("--vllm", type=Path, default=PYTHON, metavar="PYTHON", help="the Python that has vLLM")
    parser.add_argument("--minutes", type=float, default=30, help="a run that takes longer is ended")
    options = parser.parse_args()
    if not Path(options.data).is_file():
        parser.error(f"--data {options.data}: no such file")
    return options


def _told(results: dict[str, dict[str, Any]]) -> int:
    """Print the table and the JSON line; the exit code, 1 if a run failed."""
    base = results[LOOP].get("sentences_per_second")
    width = max(map(len, results)) + 2
    print(f"{'':{width}}{'sentences/s':>12}{'ratio':>8}{'F1 text':>9}{'span':>7}{'ungrounded':>12}{'peak GB':>9}")
    for name, result in results.items():
        if "error" in result:
            print(f"{name:{width}}  failed")
            continue
        result["ratio"] = result["sentences_per_second"] / base if base else None
        ratio = f"{result['ratio']:8.1f}" if base else f"{'':8}"
        f1 = result.get("f1")
        scores = f"{f1['text']:9.3f}{f1['span']:7.3f}{result['ungrounded']:12}" if f1 else f"{'':28}"
        print(f"{name:{width}}{result['sentences_per_second']:12.2f}{ratio}{scores}{result['peak_gb']:9.1f}")
    print(json.dumps(results))
    return int(any("error" in result for result in results.values()))


if __name__ == "__main__":
    raise SystemExit(main())
