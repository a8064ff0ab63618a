"""One training by nertune for the benchmark, printed as one JSON line: python nertune_run.py DATA [key=value ...]

The settings are the tutorials' (LoRA r=64 alpha=16 dropout=0.1 on seven projections, learning rate 1e-4, one epoch, exact
loss); `key=value` are overrides of the recipe, as on nertune's own command line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

SETTINGS: dict[str, Any] = {
    "prompt": {"template": "cluener"},
    "answer": "json",
    "max_tokens": 1024,
    "lora": {"rank": 64, "alpha": 16, "dropout": 0.1},
    "training": {"epochs": 1, "learning_rate": 1e-4, "log_steps": 1, "eval_steps": "never", "keep_best": False},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--tail", help="what is trained after the answer, in place of the model's own end of the turn")
    options = parser.parse_args()
    if options.tail:
        _end_answers_with(options.tail)
    print(json.dumps(_train(options.data, options.overrides)))
    return 0


def _train(data: str, overrides: list[str]) -> dict[str, Any]:
    from nertune.models import BUILTIN
    from nertune.terminal import quiet_libraries
    from nertune.train import load_recipe
    from nertune.train.fit import train

    quiet_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        given = {"model": BUILTIN, "data": {"train": data, "validation": 0}, "output": str(folder / "run"), **SETTINGS}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
        trained = train(load_recipe(folder / "recipe.yaml", overrides))
        lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [value["loss"] for line in lines if "loss" in (value := json.loads(line))]
    return {"samples_per_second": trained.samples_per_second, "first_losses": losses[:4]}


def _end_answers_with(tail: str) -> None:
    """Train another tool's last tokens, so that its loss and nertune's are of the same tokens."""
    from nertune.prompt import Renderer

    def tail_ids(renderer: Any) -> tuple[int, ...]:
        return tuple(renderer.tokenizer(tail, add_special_tokens=False)["input_ids"])

    Renderer.tail_ids = property(tail_ids)  # type: ignore[assignment]


if __name__ == "__main__":
    raise SystemExit(main())
