"""`nertune export RUN llamafactory DIR`: the same training for LLaMA-Factory, and the way back from `train/llamafactory.py`.

The rows hold what the run was trained on, word for word: prompt, system sentence, answer, and the very split into training
and validation. The YAML holds the recipe's values under their keys; what has no key there is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nertune.errors import InputError
from nertune.export.folders import new_folder
from nertune.models import BUILTIN
from nertune.models.builtin import builtin_folder
from nertune.prompted import PromptedRows
from nertune.run import RunManifest
from nertune.train.llamafactory_keys import REASONING, TEMPLATES
from nertune.train.recipe import Recipe, load_recipe
from nertune.train.task import load_tasks

__all__ = ["export_llamafactory", "template_of"]

TRAINING_FILE = "train.yaml"
# Models whose names begin like others' and which have turns of their own there, or take pictures and sounds.
_UNLIKE = re.compile(
    r"deepseek-?(r1|coder|v2)|qwen-?3\.|gemma-?(3n|4)|medgemma|paligemma|glm-?4\.|ministral-?3|llava"
    r"|(?<![a-z])(vl|\dv|vision|audio|omni)(?![a-z])"
)
# Their template by the model's name, the narrower names first. Gemma 3 without eyes has gemma2's, because gemma3's wants them.
_TEMPLATE_OF = (
    ("qwen-?3.*instruct-2507", "qwen3_nothink"),
    ("qwen-?3-next.*instruct", "qwen3_nothink"),
    ("qwen-?3", "qwen3"),
    ("qwen", "qwen"),
    ("gemma-?3-(270m|1b)", "gemma2"),
    ("gemma-?3", "gemma3"),
    ("gemma-?2(?!b)", "gemma2"),
    ("gemma", "gemma"),
    ("phi-?4-mini", "phi4_mini"),
    ("phi-?4", "phi4"),
    ("phi-?3-small", "phi_small"),
    ("phi-?3", "phi"),
    (r"llama-?3(?!\d)", "llama3"),
    ("ministral|mistral-nemo", "ministral"),
    ("mistral-small", "mistral_small"),
    ("mistral", "mistral"),
    ("glm-?4", "glm4"),
    ("deepseek-?v3", "deepseek3"),
    ("deepseek", "deepseek"),
    ("smollm2", "smollm2"),
    ("smollm", "smollm"),
    ("granite-?3", "granite3"),
    ("exaone", "exaone"),
    ("hunyuan", "hunyuan"),
    ("yi-", "yi"),
)


def export_llamafactory(
    run: str | Path, target: str | Path, *, data_files: Sequence[str] = (), template: str | None = None
) -> list[str]:
    """Write `train.yaml`, `dataset_info.json` and the rows into a new folder `target`; returns what is to be said about it.

    `data_files`: the annotated file of each task, in their order, instead of the recipe's own. `template`: LLaMA-Factory's
    name for the model's chat template; None takes it from the model's name. Raises InputError for a model whose template is
    not known, and what reading recipe and data raises.
    """
    folder, target = Path(run), Path(target)
    manifest = RunManifest.read(folder)
    recipe = _with_data(load_recipe(folder / "recipe.yaml"), manifest, data_files)
    template = template or template_of(recipe.model)
    if template not in TEMPLATES:
        raise InputError(
            f"template {template!r} is not one whose turns are known to be the model's own: {', '.join(TEMPLATES)}"
        )
    tasks = load_tasks(recipe)
    notes = [line for task in tasks for line in task.notes]
    names: dict[str, list[str]] = {"dataset": [], "eval_dataset": []}
    with new_folder(target) as building:
        for task in tasks:
            spec = manifest.prompt_of(task.name or None)
            name = re.sub(r"[^\w-]", "_", task.name or folder.resolve().name)
            for key, suffix, documents in (
                ("dataset", "", task.train),
                ("eval_dataset", "_validation", task.validation),
            ):
                if documents:
                    names[key].append(name + suffix)
                    PromptedRows("alpaca", spec).write(documents, building / f"{name}{suffix}.json")
                    notes.append(f"{name}{suffix}.json: {len(documents):,} rows")
        if len(names["eval_dataset"]) not in (0, len(tasks)):
            notes.append("some tasks have no validation data, so none is evaluated there")
            names["eval_dataset"] = []
        keys = _keys(recipe, names, str(target), template) | {"output_dir": f"{recipe.output}-llamafactory"}
        text = yaml.safe_dump(keys, allow_unicode=True, sort_keys=False)
        (building / TRAINING_FILE).write_text(text, encoding="utf-8")
    return [*notes, *_lost(recipe)]


def template_of(model: str) -> str:
    """LLaMA-Factory's template for a model, by its name. Raises InputError where the name does not tell."""
    name = Path(model.rstrip("/")).name.casefold()
    if not _UNLIKE.search(name):
        for pattern, template in _TEMPLATE_OF:
            if re.search(pattern, name):
                return template
    raise InputError(
        f"{model}: the name does not tell LLaMA-Factory's chat template; name it: --template, one of {', '.join(TEMPLATES)}"
    )


def _with_data(recipe: Recipe, manifest: RunManifest, files: Sequence[str]) -> Recipe:
    """The recipe with the run's labels and, where files are given, with these."""
    parts = recipe.by_task()
    if files and len(files) != len(parts):
        raise InputError(
            f"--data: {len(files)} files for {len(parts)} data sets ({', '.join(parts) or 'one'}); give one each"
        )
    chosen: Sequence[str | None] = files or [None] * len(parts)
    changed = {}
    for (name, part), file in zip(parts.items(), chosen, strict=True):
        section = part.data
        if file is not None:
            section = section.model_copy(update={"train": file, "format": None, "columns": None, "limit": None})
            if isinstance(section.validation, str):
                section = section.model_copy(update={"validation": 0.0})
        changed[name] = part.model_copy(
            update={"data": section, "labels": manifest.prompt_of(name or None).labels.names}
        )
    if recipe.tasks is None:
        return recipe.model_copy(update={"data": changed[""].data, "labels": changed[""].labels})
    return recipe.model_copy(update={"tasks": changed})


def _keys(recipe: Recipe, names: dict[str, list[str]], folder: str, template: str) -> dict[str, Any]:
    """The recipe under LLaMA-Factory's keys."""
    training = recipe.training
    keys: dict[str, Any] = {"model_name_or_path": _model(recipe.model), "stage": "sft", "do_train": True}
    keys |= _method(recipe)
    keys |= {"dataset_dir": folder, "dataset": ",".join(names["dataset"])}
    if names["eval_dataset"]:
        keys["eval_dataset"] = ",".join(names["eval_dataset"])
    keys |= {"template": template, "cutoff_len": recipe.max_tokens}
    if template in REASONING:
        keys["enable_thinking"] = False
    keys |= {
        "num_train_epochs": training.epochs,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.accumulation,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.scheduler,
        "warmup_steps" if training.warmup >= 1 else "warmup_ratio": training.warmup,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "disable_gradient_checkpointing": not training.gradient_checkpointing,
        "logging_steps": training.log_steps,
        "seed": training.seed,
        "report_to": "none",
        "plot_loss": True,
    }
    if training.max_steps is not None:
        keys["max_steps"] = training.max_steps
    if training.dtype == "bfloat16":
        keys["bf16"] = True
    evaluated = training.eval_steps if names["eval_dataset"] else "never"
    keys |= _rhythm("eval", evaluated)
    keys |= _rhythm("save", training.save_steps or training.eval_steps)
    if training.keep_best and evaluated != "never":
        keys["load_best_model_at_end"] = True
    if training.keep_checkpoints is not None:
        keys["save_total_limit"] = training.keep_checkpoints
    if training.patience is not None and evaluated != "never":
        keys["early_stopping_steps"] = training.patience
    return keys


def _method(recipe: Recipe) -> dict[str, Any]:
    keys: dict[str, Any] = {"finetuning_type": recipe.method}
    lora = recipe.lora
    if recipe.method == "lora":
        targets = "all" if lora.targets == "all-linear" else ",".join(lora.targets)
        keys |= {"lora_rank": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "lora_target": targets}
        keys |= {"use_rslora": True} if lora.rslora else {}
        keys |= {"use_dora": True} if lora.dora else {}
        keys |= {"loraplus_lr_ratio": lora.plus_ratio} if lora.plus_ratio else {}
        keys |= {"adapter_name_or_path": lora.start} if lora.start else {}
    if recipe.tokens:
        if any("," in token for token in recipe.tokens):
            raise InputError("tokens: LLaMA-Factory parts them at commas, and one of the run's holds a comma")
        keys |= {"add_tokens": ",".join(recipe.tokens), "resize_vocab": True}
        keys |= {"additional_target": "embed_tokens,lm_head"} if recipe.method == "lora" else {}
    if recipe.training.quantize:
        keys |= {"quantization_bit": 4, "quantization_method": "bnb"}
    return keys


def _rhythm(key: str, steps: int | str) -> dict[str, Any]:
    if isinstance(steps, int):
        return {f"{key}_strategy": "steps", f"{key}_steps": steps}
    return {f"{key}_strategy": "epoch" if steps == "epoch" else "no"}


def _model(name: str) -> str:
    """A name that LLaMA-Factory knows: a hub's, or a folder."""
    return str(builtin_folder()) if name == BUILTIN else name.removeprefix("modelscope:")


def _lost(recipe: Recipe) -> list[str]:
    """What the run did and LLaMA-Factory does not."""
    training = recipe.training
    lost = [
        f"cutoff_len {recipe.max_tokens}: it cuts longer rows, the end of the answer too; nertune leaves them out",
        "after the answer it trains what its template ends a turn with; nertune the end of the document too",
    ]
    if training.keep_best and training.best_by == "f1":
        lost.append("the best state is that of the least loss there; here it was that of the best F1")
    if training.loss_vocabulary == "sampled":
        lost.append("the loss there is over the whole vocabulary; here it was over the data's tokens and a sample")
    if training.loss_tokens == "free":
        lost.append("all of the answer is trained there; here only the tokens that the grammar leaves free")
    if training.bucket:
        lost.append("rows of like length are not put together there")
    if any(part.weight != 1 for part in (recipe.tasks or {}).values()):
        lost.append("the weights of the tasks have no key there: every row is seen once an epoch")
    if recipe.model.startswith("modelscope:"):
        lost.append("the model is on ModelScope: set USE_MODELSCOPE_HUB=1")
    if recipe.tokens and recipe.method == "lora":
        lost.append("it trains all rows of the embeddings; here those of the added tokens alone")
    if recipe.track:
        lost.append("no tracker is set (report_to: none)")
    return lost
