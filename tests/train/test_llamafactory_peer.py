"""Against LLaMA-Factory itself: the same YAML file gives the same settings, token ids, loss masks and first loss.

It needs the Qwen2 tokenizer of the folder `shared`, and LLaMA-Factory 0.9.5 in a virtual environment of its own, the
folder `llamafactory-0.9.5` in nertune's cache folder (`make peers` installs it, and runs this). Without either the tests skip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from nertune import data
from nertune.models import load_tokenizer
from nertune.models.builtin import cache_folder
from nertune.prompt import PromptSpec, Renderer, Row
from nertune.train import fit
from nertune.train.batches import collate_packed
from nertune.train.llamafactory import open_recipe
from nertune.train.llamafactory_keys import KNOWN
from nertune.train.task import load_tasks

HERE = Path(__file__).resolve()
TUTORIAL = HERE.parents[2] / "recipes" / "cluener-llamafactory.yaml"
SHARED = HERE.parents[3] / "shared"
QWEN2, CLUENER = SHARED / "tokenizers" / "qwen2", SHARED / "data" / "cluener" / "train.jsonl"
PYTHON = cache_folder() / "llamafactory-0.9.5" / "bin" / "python"
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not QWEN2.is_dir() or not CLUENER.is_file(), reason="no shared tokenizer or corpus"),
    pytest.mark.skipif(not PYTHON.is_file(), reason="LLaMA-Factory is not installed beside"),
]
IM_END, ENDOFTEXT, LINE_BREAK = 151645, 151643, 198


def theirs(path: Path, *more: str) -> dict[str, Any]:
    """What LLaMA-Factory makes of the file: all its `keys`, the `settings`, `rows` of token ids and labels, `losses`."""
    home = {"HF_HOME": str(path.parent / "hf"), "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        [PYTHON, HERE.with_name("llamafactory_rows.py"), path, *more],
        cwd=path.parent,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def working(tmp_path, monkeypatch) -> Path:
    """A working directory: 200 CLUENER sentences as alpaca rows, and the real tokenizer of Qwen2."""
    from nertune.commands import convert

    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    documents = data.read(CLUENER, limit=200).documents
    data.write(documents, "cluener.jsonl", format="cluener")
    target = "data/alpaca_clue_train.json"
    convert("cluener.jsonl", target, target_format="alpaca", template="cluener", answer="json")
    shutil.copytree(QWEN2, tmp_path / "model")
    return tmp_path


def test_the_same_settings(working):
    """Every number that both know, for the tutorial's file and for one that leaves all to the defaults."""
    tutorial = yaml.safe_load(TUTORIAL.read_text(encoding="utf-8"))
    common = {"model_name_or_path": "model", "dataset": "alpaca_clue_train", "use_cpu": True, "template": "qwen"}
    # Their bf16 and several workers want a GPU and a larger machine.
    here = {"bf16": False, "dataloader_num_workers": 0, "preprocessing_num_workers": 1}
    for given in ({**tutorial, **common, **here}, {**common, "do_train": True, "output_dir": "out"}):
        path = working / "theirs.yaml"
        path.write_text(yaml.safe_dump(given), encoding="utf-8")
        ours_of_file = {key: value for key, value in given.items() if key != "use_cpu"}
        (working / "ours.yaml").write_text(yaml.safe_dump(ours_of_file), encoding="utf-8")
        recipe, settings = open_recipe("ours.yaml").recipe, theirs(path)["settings"]
        lora, training = recipe.lora, recipe.training
        assert (lora.rank, lora.alpha, lora.dropout) == tuple(
            settings[f"lora_{key}"] for key in ("rank", "alpha", "dropout")
        )
        assert settings["lora_target"] == ["all"]
        assert (lora.targets, recipe.max_tokens) == ("all-linear", settings["cutoff_len"])
        assert recipe.data.validation == settings["val_size"]
        assert recipe.data.limit == settings["max_samples"]
        assert training.epochs == settings["num_train_epochs"]
        assert training.learning_rate == settings["learning_rate"]
        assert training.batch_size == settings["per_device_train_batch_size"]
        assert training.accumulation == settings["gradient_accumulation_steps"]
        assert training.weight_decay == settings["weight_decay"]
        assert training.max_grad_norm == settings["max_grad_norm"]
        assert training.log_steps == settings["logging_steps"]
        assert training.save_steps == settings["save_steps"]
        assert training.seed == settings["seed"]
        assert training.keep_best == settings["load_best_model_at_end"]
        assert training.keep_checkpoints == settings["save_total_limit"]
        assert training.gradient_checkpointing != settings["disable_gradient_checkpointing"]
        assert training.warmup == (settings["warmup_steps"] or settings.get("warmup_ratio") or 0)
        assert training.scheduler == settings["lr_scheduler_type"].rpartition(".")[2].lower()
        steps = {"no": "never", "steps": settings["eval_steps"]}
        assert training.eval_steps == steps[settings["eval_strategy"].rpartition(".")[2].lower()]


def test_the_same_token_ids_and_loss_masks(working):
    """Every key is known, and rows agree in all but the last token.

    After `<|im_end|>` they train a line break, nertune the end of the document.
    """
    given = {
        "model_name_or_path": "model",
        "dataset": "alpaca_clue_train",
        "template": "qwen",
        "cutoff_len": 1024,
        "do_train": True,
        "output_dir": "out",
    }
    (working / "ours.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    (working / "theirs.yaml").write_text(yaml.safe_dump({**given, "use_cpu": True}), encoding="utf-8")
    recipe = open_recipe("ours.yaml").recipe
    task = load_tasks(recipe)[0]
    renderer = Renderer(
        load_tokenizer(recipe.model), PromptSpec(recipe.prompt.load(), task.labels, recipe.answer_format())
    )
    made = theirs(working / "theirs.yaml")
    assert set(made["keys"]) <= set(KNOWN)
    rows = made["rows"]
    assert len(rows) == len(task.train) == 200
    outputs = [row["output"] for row in json.loads(Path(recipe.data.train).read_text(encoding="utf-8"))]
    for document, output, (ids, labels) in zip(task.train, outputs, rows, strict=True):
        row = renderer.row(document)
        prompt = row.prompt_length
        assert row.ids_T[:prompt] == ids[:prompt]
        assert set(labels[:prompt]) == {-100}
        assert -100 not in labels[prompt:]
        assert recipe.answer_format().write(document) == output
        assert row.ids_T[:-1] == ids[:-1]
        assert labels[prompt:] == ids[prompt:]
        assert (ids[-2:], row.ids_T[-2:]) == ([IM_END, LINE_BREAK], [IM_END, ENDOFTEXT])


def test_the_same_first_loss(working, tiny_model, monkeypatch):
    """The same file trains the same weights: equal token ids, masks and loss, plain and packed.

    For nertune its last token is made theirs, a line break; everything else is as it is for every user.
    """
    monkeypatch.setattr(Renderer, "tail_ids", (IM_END, LINE_BREAK))
    # Large weights, so that the loss depends on every token: a fresh model's is the logarithm of the vocabulary for all.
    tiny_model("qwen2", vocab_size=151_936, max_position_embeddings=2048, initializer_range=0.2).save_pretrained(
        working / "model"
    )
    batch = 6
    given = {
        "model_name_or_path": "model",
        "dataset": "alpaca_clue_train",
        "template": "qwen",
        "finetuning_type": "lora",
        "lora_dropout": 0.0,
        "do_train": True,
        "max_samples": batch,
        "max_steps": 1,
        "logging_steps": 1,
        "per_device_train_batch_size": batch,
        "disable_gradient_checkpointing": True,
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": "ours",
    }
    (working / "ours.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    recipe = open_recipe("ours.yaml").recipe
    packed_rows: list[list[list[int]]] = []

    def collate(rows: list[Row]) -> dict[str, Any]:
        packed_rows.extend([[*row.ids_T], [*row.loss_mask_T]] for row in rows)
        return collate_packed(rows)

    monkeypatch.setattr(fit, "collate_packed", collate)
    fit.train(recipe)
    lines = (working / "ours" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    loss = next(value["loss"] for line in lines if "loss" in (value := json.loads(line)))

    (working / "theirs.yaml").write_text(
        yaml.safe_dump({**given, "use_cpu": True, "output_dir": "theirs"}), encoding="utf-8"
    )
    made = theirs(working / "theirs.yaml", "--train")
    rows = [[ids, [int(label != -100) for label in labels]] for ids, labels in made["rows"]]
    assert sorted(packed_rows) == sorted(rows)
    assert made["losses"] == pytest.approx([loss], abs=1e-5)

    length = sum(len(ids) for ids, _ in made["rows"])
    packing = {"neat_packing": True, "cutoff_len": length + 8 - length % 8, "per_device_train_batch_size": 1}
    (working / "packed.yaml").write_text(
        yaml.safe_dump({**given, **packing, "use_cpu": True, "output_dir": "packed"}), encoding="utf-8"
    )
    assert theirs(working / "packed.yaml", "--train")["losses"] == pytest.approx([loss], abs=1e-5)
