"""Run by LLaMA-Factory's own Python: print all its keys, and the settings and training rows of a file, as JSON.

python llamafactory_rows.py FILE.yaml [--train]

With --train LLaMA-Factory also trains as the file says, and the `losses` that it logs are printed too.
"""

import dataclasses
import json
import sys
from pathlib import Path

import yaml
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.hparams.parser import _TRAIN_ARGS
from llamafactory.model import load_tokenizer
from llamafactory.train.tuner import run_exp
from transformers import TrainerCallback

SETTINGS = [
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_target",
    "cutoff_len",
    "val_size",
    "max_samples",
    "num_train_epochs",
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "lr_scheduler_type",
    "logging_steps",
    "eval_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "seed",
    "max_steps",
    "load_best_model_at_end",
    "disable_gradient_checkpointing",
    "output_dir",
    "bf16",
]

given = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
model, data, training, finetuning, _ = get_train_args(given)
tokenizer_module = load_tokenizer(model)
template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data)
made = get_dataset(template, model, data, training, stage="sft", **tokenizer_module)
settings = {}
for key in SETTINGS:
    for part in (model, data, training, finetuning):
        if hasattr(part, key):
            settings[key] = getattr(part, key)
rows = [[row["input_ids"], row["labels"]] for row in made["train_dataset"]]
keys = sorted({field.name for part in _TRAIN_ARGS for field in dataclasses.fields(part) if field.init})


class Logs(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **_):
        kept.append(dict(logs))


kept = []
if "--train" in sys.argv:
    run_exp(given, [Logs()])
losses = [line["loss"] for line in kept if "loss" in line]
print(json.dumps({"keys": keys, "settings": settings, "rows": rows, "losses": losses}, default=str))
