"""LLaMA-Factory on the benchmark's samples: its data and YAML written as its users write them, its trainings started.

The rows are those of `nertune data convert … --to alpaca`; what the tutorial tells the system goes into LLaMA-Factory's
system column. `gemma2` is the template that LLaMA-Factory names for Gemma 3 270M: the prompts are nertune's, token for
token, and after the answer it trains `<end_of_turn>`, a line break and `<eos>`, nertune no line break.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from bounded import run_json

__all__ = ["TAIL", "Peer"]

TAIL = "<end_of_turn>\n<eos>"

# The settings of the tutorial, but without the gradient checkpointing that LLaMA-Factory has by default: it costs speed.
SETTINGS: dict[str, Any] = {
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 64,
    "lora_alpha": 16,
    "lora_dropout": 0.1,
    "lora_target": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
    "dataset": "samples",
    "template": "gemma2",
    "cutoff_len": 1024,
    "preprocessing_num_workers": 1,
    "dataloader_num_workers": 0,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-4,
    "num_train_epochs": 1,
    "disable_gradient_checkpointing": True,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
}


class Peer:
    """LLaMA-Factory, run by `python`, on the first `samples` lines of `data`; everything it writes is in `folder`."""

    def __init__(self, python: str, *, model: str, data: str, samples: int, folder: Path, minutes: float) -> None:
        from nertune.conversion import convert

        self._python, self._model, self._folder, self._minutes = python, model, folder, minutes
        target = folder / "samples.json"
        convert(data, str(target), target_format="alpaca", template="cluener", answer="json")
        self.rows = _our_rows(data, samples, model)

    def train(self, changes: Mapping[str, Any], *, samples: int) -> dict[str, Any]:
        """Train once with `changes` to SETTINGS; samples/s, losses, rows and peak memory. Raises RunError."""
        given = {
            **SETTINGS,
            "model_name_or_path": self._model,
            "dataset_dir": str(self._folder),
            "max_samples": samples,
            "output_dir": str(self._folder / "out"),
            "overwrite_output_dir": True,
            **changes,
        }
        path = self._folder / "train.yaml"
        path.write_text(yaml.safe_dump(given), encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"HF_HOME": str(self._folder / "hf"), "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
        command = [self._python, str(Path(__file__).with_name("llamafactory_run.py")), str(path)]
        run = run_json(command, minutes=self._minutes, environment=environment)
        # Its own figure counts packs.
        return {**run, "samples_per_second": samples / run["seconds"], "first_losses": run["losses"][:4]}

    def packed(self, samples: int) -> dict[str, Any]:
        """The settings of neat packing: one pack of about four samples a step, as short as its packing allows."""
        lengths = [len(ids) for ids, _ in self.rows[:samples]]
        wanted = -(-samples // 4)
        capacity = sum(lengths) // wanted
        while _packs(lengths, capacity - 1) > wanted:
            capacity += 1
        return {
            "packing": True,
            "neat_packing": True,
            "cutoff_len": -(-capacity // 8) * 8,  # packs are filled up to cutoff_len, batches to a multiple of 8
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
        }


def _our_rows(data: str, samples: int, model: str) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels (-100: not trained) as nertune makes them, but for LLaMA-Factory's last tokens."""
    from nertune.data import read
    from nertune.models import load_tokenizer
    from nertune.prompt import PromptSpec, Renderer, answer_format, load_template

    corpus = read(data)
    tokenizer = load_tokenizer(model)
    renderer = Renderer(tokenizer, PromptSpec(load_template("cluener"), corpus.labels, answer_format("json")))
    tail = tokenizer(TAIL, add_special_tokens=False)["input_ids"]
    rows = []
    for document in corpus.documents[:samples]:
        prompt = renderer.prompt_ids(document.text)
        trained = renderer.answer_ids(renderer.spec.answer.write(document)) + tail
        rows.append((prompt + trained, [-100] * len(prompt) + trained))
    return rows


def _packs(lengths: Sequence[int], capacity: int) -> int:
    """How many packs LLaMA-Factory makes: each takes the longest row that fits, again and again."""
    left, count = sorted(lengths), 0
    while left:
        room = capacity
        count += 1
        while place := bisect(left, room):
            room -= left.pop(place - 1)
    return count
