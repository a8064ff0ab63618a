"""One training by LLaMA-Factory, run by its own Python: python llamafactory_run.py FILE.yaml

It goes through LLaMA-Factory's own `run_exp`, as `llamafactory-cli train` does. The last line printed is one JSON object:
`seconds` of the training loop as the trainer counts them, the logged `losses`, and the `rows` of token ids and labels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from llamafactory.train.tuner import run_exp
from transformers import TrainerCallback


class Watching(TrainerCallback):  # type: ignore[misc]
    """Keeps what the trainer trains on, and what it logs."""

    def __init__(self) -> None:
        self.rows: list[tuple[list[int], list[int]]] = []
        self.logs: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        self.rows = [(row["input_ids"], row["labels"]) for row in train_dataloader.dataset]

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))


given = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
watching = Watching()
run_exp(given, [watching])
losses = [line["loss"] for line in watching.logs if "loss" in line]
seconds = next(line["train_runtime"] for line in watching.logs if "train_runtime" in line)
print(json.dumps({"seconds": seconds, "losses": losses, "rows": watching.rows}))
