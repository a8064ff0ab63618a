"""Training speed: nertune beside the tutorials' recipe and LLaMA-Factory, on the same samples, model and machine, in one call.

    python benchmarks/train.py [--samples 32] [--data FILE] [--baseline SCRIPT] [--llamafactory PYTHON]
                               [--ours "training.batch_size=8 lora.rank=16" ...]

Every run trains LoRA r=64 alpha=16 dropout=0.1 on seven projections of the built-in model, one epoch over the first
samples of the file, learning rate 1e-4, float32, and is a process of its own, ended after --minutes.

- The tutorial recipe: transformers' Trainer + PEFT, batch 2 x accumulation 2, gradient checkpointing, padding collator.
- LLaMA-Factory 0.9.5 (make bench-peers installs it; left out where it is absent): batch 2 x accumulation 2,
  without the gradient checkpointing that it has by default, so at its fastest; and with `neat_packing`, one pack of about
  four samples a step.
- nertune with the exact loss at the same optimizer batch (4), at its own default (16) and at 32; at 32 also with
  `loss_vocabulary: sampled` and with `loss_tokens: free`, which change the loss. --ours adds runs with other settings of
  the recipe.

What can be compared: samples/s (samples over the seconds of the training loop as transformers' Trainer counts them, so
neither loading nor tokenizing is in them), and the peak of the resident memory, with all that the process loads and its
children. The first losses of these runs show that all begin at the same height, no more: each draws its order and its
dropout itself, a step of 16 is not one of 4, and the tutorial recipe writes ChatML turns where the others write Gemma's.
For exact losses LLaMA-Factory, plain and packed, and nertune train one step on the same first four samples without
dropout, nertune with LLaMA-Factory's last token (it trains a line break between `<end_of_turn>` and `<eos>`): the token
ids must be equal, and so must the losses.

The last line printed is one JSON object: a run each by its name, and `same_tokens` for the exact comparison.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bounded import RunError, run_json
from llamafactory_peer import TAIL, Peer

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
BASELINE = "tutorial recipe, 2 x 2"

# nertune's runs by name: what each changes in the recipe of nertune_run.py.
OURS: dict[str, tuple[str, ...]] = {
    "nertune, batch 4": ("training.batch_size=4",),
    "nertune, batch 16": ("training.batch_size=16",),
    "nertune, batch 32": ("training.batch_size=32",),
    "nertune, batch 32, sampled softmax": ("training.batch_size=32", "training.loss_vocabulary=sampled"),
    "nertune, batch 32, loss on free tokens": ("training.batch_size=32", "training.loss_tokens=free"),
}
CHECKED = 4  # samples of the exact comparison


def main() -> int:
    options = _options()
    for path in (options.data, options.baseline):
        if not Path(path).is_file():
            print(f"{path}: no such file; name one with --data and --baseline", file=sys.stderr)
            return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run that is going on is ended too
    from nertune import data
    from nertune.models import ensure_builtin

    model = str(ensure_builtin(lambda what, done, total: print(f"preparing the model: {what}", file=sys.stderr)))
    ours = OURS | {f"nertune, {overrides}": tuple(overrides.split()) for overrides in options.ours}
    # Named here, because the first samples alone need not hold every label of the prompt.
    labels = f"labels=[{', '.join(data.read(options.data).labels)}]"
    runs: dict[str, dict[str, Any]] = {}
    same: dict[str, Any] | None = None
    with tempfile.TemporaryDirectory() as scratch:

        def nertune(overrides: tuple[str, ...], *more: str, samples: int = options.samples) -> dict[str, Any]:
            script = [sys.executable, str(HERE / "nertune_run.py"), *more, options.data]
            return run_json([*script, labels, f"data.limit={samples}", *overrides], minutes=options.minutes)

        tutorial = [sys.executable, options.baseline, "train", model, options.data]
        tutorial += ["--samples", str(options.samples), "--output", f"{scratch}/tutorial"]
        runs[BASELINE] = _tried(BASELINE, lambda: run_json(tutorial, minutes=options.minutes))
        if Path(options.llamafactory).is_file():
            peer = Peer(
                options.llamafactory,
                model=model,
                data=options.data,
                samples=options.samples,
                folder=Path(scratch),
                minutes=options.minutes,
            )
            settings = {"LLaMA-Factory, 2 x 2": {}, "LLaMA-Factory, packed": peer.packed(options.samples)}
            for name, changes in settings.items():
                runs[name] = _tried(name, lambda changes=changes: peer.train(changes, samples=options.samples))
            same = _tried("same tokens", lambda: _same_tokens(peer, nertune))
        else:
            print(
                f"no LLaMA-Factory at {options.llamafactory}: left out (make bench-peers installs it)", file=sys.stderr
            )
        for name, overrides in ours.items():
            runs[name] = _tried(name, lambda overrides=overrides: nertune(overrides))
    return _told(runs, same)


def _options() -> argparse.Namespace:
    from nertune.models.builtin import cache_folder

    peers = cache_folder() / "llamafactory-0.9.5" / "bin" / "python"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--data", default=str(SHARED / "data" / "cluener" / "train.jsonl"), metavar="FILE")
    parser.add_argument("--baseline", default=str(SHARED / "bench" / "seed_recipe.py"), metavar="SCRIPT")
    parser.add_argument(
        "--llamafactory", default=str(peers), metavar="PYTHON", help="the Python that has LLaMA-Factory"
    )
    parser.add_argument("--ours", action="append", default=[], metavar="OVERRIDES", help="one more run of nertune")
    parser.add_argument("--minutes", type=float, default=30, help="a run that takes longer is ended")
    options = parser.parse_args()
    if options.samples < CHECKED:
        parser.error(f"--samples: at least {CHECKED}, found {options.samples}")
    return options


def _tried(name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The run's result, or what went wrong as its `error`; the other runs go on."""
    print(f"running: {name} …", file=sys.stderr, flush=True)
    try:
        return run()
    except RunError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {"error": str(error)}


def _same_tokens(peer: Peer, nertune: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """One step of all on the same first samples without dropout: how many rows are equal, and the loss of each."""
    exact = {"lora_dropout": 0.0, "max_steps": 1, "per_device_train_batch_size": CHECKED}
    exact["gradient_accumulation_steps"] = 1
    plain = peer.train(exact, samples=CHECKED)
    packed = peer.train({**exact, **peer.packed(CHECKED)}, samples=CHECKED)
    overrides = (f"training.batch_size={CHECKED}", "training.max_steps=1", "lora.dropout=0")
    run = nertune(overrides, "--tail", TAIL, samples=CHECKED)
    rows = [(list(ids), list(labels)) for ids, labels in plain["rows"]]
    return {
        "samples": CHECKED,
        "equal_rows": sum(row == other for row, other in zip(rows, peer.rows, strict=False)),
        "first_loss": {
            "nertune": run["first_losses"][0],
            "LLaMA-Factory": plain["losses"][0],
            "LLaMA-Factory, packed": packed["losses"][0],
        },
    }


def _told(runs: Mapping[str, dict[str, Any]], same: dict[str, Any] | None) -> int:
    """Print the table, the exact comparison and the JSON line; the exit code, 1 if a run failed."""
    base = runs[BASELINE].get("samples_per_second")
    width = max(map(len, runs)) + 2
    print(f"{'':{width}}{'samples/s':>10}{'ratio':>8}{'peak GB':>9}  first losses")
    for name, run in runs.items():
        run.pop("rows", None)
        if "error" in run:
            print(f"{name:{width}}    failed")
            continue
        run["ratio"] = run["samples_per_second"] / base if base else None
        ratio = f"{run['ratio']:8.2f}" if base else f"{'':8}"
        losses = " ".join(f"{loss:.3f}" for loss in run["first_losses"])
        print(f"{name:{width}}{run['samples_per_second']:10.3f}{ratio}{run['peak_gb']:9.1f}  {losses}")
    if same and "error" not in same:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in same["first_loss"].items())
        print(f"same tokens, no dropout: {same['equal_rows']} of {same['samples']} rows equal; first loss: {losses}")
    print(json.dumps({**runs, "same_tokens": same} if same else runs))
    return int(any("error" in run for run in [*runs.values(), same or {}]))


if __name__ == "__main__":
    raise SystemExit(main())
