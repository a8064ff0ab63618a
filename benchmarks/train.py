"""Training speed: nertune beside the tutorials' recipe, on the same samples, the same model and one machine, in one call.

    python benchmarks/train.py [--samples 32] [--data FILE] [--baseline SCRIPT]

The baseline is transformers' Trainer + PEFT as the tutorials set it: LoRA r=64 alpha=16 dropout=0.1 on seven projections,
batch 2 x accumulation 2, gradient checkpointing, padding collator. nertune trains the same LoRA on the same sentences
with the exact loss, at the same optimizer batch (4) and at its own default (16). Every run is a process of its own;
samples/s is the trainer's own figure, so loading is not counted. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--data", default=str(SHARED / "data" / "cluener" / "train.jsonl"))
    parser.add_argument("--baseline", default=str(SHARED / "bench" / "seed_recipe.py"))
    parser.add_argument("--ours", type=int, metavar="BATCH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(_train_ours(options)))
        return 0
    for path in (options.data, options.baseline):
        if not Path(path).is_file():
            print(f"{path}: no such file; name one with --data and --baseline", file=sys.stderr)
            return 2
    from nertune.models import ensure_builtin

    model = str(ensure_builtin(lambda what, done, total: print(f"preparing the model: {what}", file=sys.stderr)))
    common = [sys.executable, __file__, "--samples", str(options.samples), "--data", options.data]
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, options.baseline, "train", model, options.data, "--samples", str(options.samples)]
        runs = {"tutorial recipe, 2 x 2": _run([*command, "--output", scratch])}
    runs["nertune, batch 4"] = _run([*common, "--ours", "4"])
    runs["nertune, batch 16"] = _run([*common, "--ours", "16"])
    base = runs["tutorial recipe, 2 x 2"]["samples_per_second"]
    print(f"{'':26}{'samples/s':>10}{'ratio':>8}{'peak GB':>9}  first losses")
    for name, run in runs.items():
        run["ratio"] = run["samples_per_second"] / base
        losses = " ".join(f"{loss:.3f}" for loss in run["first_losses"])
        print(f"{name:26}{run['samples_per_second']:10.3f}{run['ratio']:8.2f}{run['peak_gb']:9.1f}  {losses}")
    print(json.dumps(runs))
    return 0


def _run(command: list[str]) -> dict[str, Any]:
    print(f"running: {' '.join(command[1:4])} …", file=sys.stderr)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[1]} failed with exit code {process.returncode}")
    return {**json.loads(output.strip().splitlines()[-1]), "peak_gb": usage.ru_maxrss / 1e6}


def _train_ours(options: argparse.Namespace) -> dict[str, Any]:
    from nertune.models import BUILTIN
    from nertune.terminal import quiet_libraries
    from nertune.train.fit import train
    from nertune.train.recipe import DataSection, LoraSection, PromptSection, Recipe, TrainingSection

    quiet_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Recipe(
            model=BUILTIN,
            data=DataSection(train=options.data, validation=0, limit=options.samples),
            prompt=PromptSection(template="cluener"),
            answer="json",
            lora=LoraSection(rank=64, alpha=16, dropout=0.1),
            training=TrainingSection(
                epochs=1, batch_size=options.ours, learning_rate=1e-4, log_steps=1, eval_steps=10_000
            ),
            output=f"{scratch}/run",
        )
        trained = train(recipe)
        lines = (Path(scratch) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses = [value["loss"] for line in lines if "loss" in (value := json.loads(line))]
    return {"samples_per_second": trained.samples_per_second, "first_losses": losses[:4]}


if __name__ == "__main__":
    raise SystemExit(main())
