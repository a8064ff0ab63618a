"""Where the time of a training step goes, and how far it is from the processor's limit.

    python benchmarks/profile_step.py [--batch 16] [--data FILE] [key=value ...]

One packed batch of the file's first samples (the tutorials' prompt and LoRA, the exact loss; `key=value` are overrides of
the recipe), forward and backward, on a processor. The step is timed five times without the profiler and shown by its median;
the profiler's shares are laid out over that. Floating-point operations are counted from the shapes of the matrix products
that ran; the limit is their sum over the rate of the fastest product of this size that this machine does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from nertune_run import SETTINGS

SHARED = Path(__file__).resolve().parents[2] / "shared"
PRODUCTS = ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm")
# Where an operation belongs: the outermost of these that it runs in.
PARTS = {
    "_LinearCrossEntropy": "output layer and softmax",
    "_LinearCrossEntropyBackward": "output layer and softmax",
    "_LoraLinear": "linear layers with LoRA, forward",
    "_LoraLinearBackward": "linear layers with LoRA, backward",
    "_Ragged": "attention, forward",
    "_RaggedBackward": "attention, backward",
}
REST = "norms, rotary embeddings, activations, sums"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--data", default=str(SHARED / "data" / "cluener" / "train.jsonl"))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    if not Path(options.data).is_file():
        print(f"{options.data}: no such file; name one with --data", file=sys.stderr)
        return 2
    step, batch = _step(options.data, options.batch, options.overrides)
    seconds = statistics.median([_seconds(step) for _ in range(6)][1:])
    spent, operations = _profile(step)
    peak = _peak(batch["input_ids"].shape[1])
    whole = sum(spent.values())
    total = sum(operations.values())
    tokens, answers = batch["input_ids"].shape[1], len(batch["keep"])
    print(f"{options.batch} samples: {tokens} tokens, {batch['prefix_length']} shared, {answers} trained")
    print(f"{'':36}{'ms':>8}{'share':>8}{'GFLOP':>8}")
    for (part, kind), value in sorted(spent.items(), key=lambda item: -item[1]):
        flop = f"{operations[part] / 1e9:8.0f}" if kind == "products" else ""
        print(f"{part if kind == 'products' or part == REST else part + ': rest':36}"[:44], end="")
        print(f"{value / whole * seconds * 1e3:8.0f}{value / whole:8.1%}{flop}")
    print(f"{'step':36}{seconds * 1e3:8.0f}{1:8.0%}{total / 1e9:8.0f}")
    limit = total / peak
    print(
        f"{options.batch / seconds:.2f} samples/s; this machine's products at their fastest: {peak / 1e9:.0f} GFLOP/s"
    )
    print(
        f"limit by arithmetic alone {options.batch / limit:.2f} samples/s: the step is at {limit / seconds:.0%} of it"
    )
    result = {"samples_per_second": options.batch / seconds, "gflop": total / 1e9, "peak_gflops": peak / 1e9}
    print(json.dumps({**result, "of_the_limit": limit / seconds}))
    return 0


def _step(data: str, count: int, overrides: list[str]) -> tuple[Callable[[], None], dict[str, Any]]:
    """A function that computes one batch forward and backward, and the batch."""
    from nertune.models import BUILTIN, load_model, load_tokenizer
    from nertune.terminal import quiet_libraries
    from nertune.train import load_recipe
    from nertune.train.adapter import prepare_model
    from nertune.train.batches import collate_packed, trained_tokens
    from nertune.train.heads import loss_head
    from nertune.train.objective import packed_loss_sum
    from nertune.train.task import load_tasks, prepare_task

    quiet_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        given = {
            "model": BUILTIN,
            "data": {"train": data, "validation": 0, "limit": count},
            "output": scratch,
            **SETTINGS,
        }
        path = Path(scratch) / "recipe.yaml"
        path.write_text(yaml.safe_dump(given), encoding="utf-8")
        recipe = load_recipe(path, overrides)
    (task,) = load_tasks(recipe)
    rows = prepare_task(task, load_tokenizer(BUILTIN), recipe, say=print).rows
    model, packed = prepare_model(load_model(BUILTIN, dtype="float32"), recipe)
    if not packed:
        raise SystemExit("the model does not share prefixes")
    sampled = recipe.training.loss_vocabulary == "sampled"
    head = loss_head(model.get_base_model(), sampled_beside=trained_tokens(rows) if sampled else None)
    batch = collate_packed(rows)
    model.train()

    def step() -> None:
        packed_loss_sum(model, batch, head).backward()
        model.zero_grad()

    return step, batch


def _seconds(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _profile(step: Callable[[], None]) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Microseconds by part and kind (products or rest), and floating-point operations of the products by part."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        step()
    spent: dict[tuple[str, str], float] = defaultdict(float)
    operations: dict[str, float] = defaultdict(float)
    for event in found.events():
        part, above = REST, event
        while above is not None:
            part = PARTS.get(above.name, part)
            above = above.cpu_parent
        product = event.name in PRODUCTS
        spent[part, "products" if product else "rest"] += event.self_cpu_time_total
        if product:
            operations[part] += _operations(event.name, event.input_shapes)
    return spent, operations


def _operations(name: str, shapes: list[list[int]]) -> float:
    matrices = [shape for shape in shapes if len(shape) >= 2]
    first, last = matrices[0], matrices[-1]
    if name == "mkldnn::_linear_pointwise":
        return 2.0 * first[0] * first[1] * last[0]
    if name == "aten::bmm":
        return 2.0 * first[0] * first[1] * first[2] * last[2]
    left, right = matrices[-2:]
    return 2.0 * left[0] * left[1] * right[1]


def _peak(tokens: int) -> float:
    """Floating-point operations a second of the fastest product of a batch's size."""
    from nertune.models.matmul import matmul_nt

    fastest = 0.0
    for inner, outer in ((640, 1024), (640, 2048), (2048, 640), (1024, 1024)):
        a, b = torch.randn(tokens, inner), torch.randn(outer, inner)
        for _ in range(30):
            seconds = _seconds(lambda a=a, b=b: matmul_nt(a, b))
            fastest = max(fastest, 2.0 * tokens * inner * outer / seconds)
    return fastest


if __name__ == "__main__":
    raise SystemExit(main())
