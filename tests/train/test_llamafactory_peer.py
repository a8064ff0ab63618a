"""Against LLaMA-Factory itself: the same YAML file gives the same settings, token ids and loss masks.

It needs the Qwen2 tokenizer of the folder `shared`, and LLaMA-Factory 0.9.5 in a virtual environment of its own, the
folder `llamafactory-0.9.5` in nertune's cache folder:

    PYTHON -m pip install torch==2.13.0 transformers==5.6.0 peft==0.18.1 trl==0.24.0 datasets==4.0.0 accelerate==1.11.0 \
        omegaconf matplotlib 'numpy<2.5' pillow psutil && PYTHON -m pip install --no-deps llamafactory==0.9.5

and an empty module `torchaudio`. Without either the tests skip.
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
from nertune.prompt import PromptSpec, Renderer
from nertune.train.llamafactory import open_recipe
from nertune.train.llamafactory_keys import KNOWN
from nertune.train.task import load_tasks

HERE = Path(__file__).resolve()
TUTORIAL = HERE.parents[2] / "recipes" / "cluener-llamafactory.yaml"
SHARED = HERE.parents[3] / "shared"
QWEN2, CLUENER = SHARED / "tokenizers" / "qwen2", SHARED / "data" / "cluener" / "train.jsonl"
PYTHON = cache_folder() / "llamafactory-0.9.5" / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not QWEN2.is_dir() or not CLUENER.is_file(), reason="no shared tokenizer or corpus"),
    pytest.mark.skipif(not PYTHON.is_file(), reason="LLaMA-Factory is not installed beside"),
]
IM_END, ENDOFTEXT, LINE_BREAK = 151645, 151643, 198


def theirs(path: Path) -> dict[str, Any]:
    """What LLaMA-Factory makes of the file: all its `keys`, the `settings`, and `rows` of token ids and labels."""
    home = {"HF_HOME": str(path.parent / "hf"), "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        [PYTHON, HERE.with_name("llamafactory_rows.py"), path],
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
    convert("cluener.jsonl", target, source_format=None, target_format="alpaca", template="cluener", answer="json")
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
    compared = 0
    for document, output, (ids, labels) in zip(task.train, outputs, rows, strict=True):
        row = renderer.row(document)
        prompt = row.prompt_length
        assert row.ids_T[:prompt] == ids[:prompt]
        assert set(labels[:prompt]) == {-100}
        assert -100 not in labels[prompt:]
        if recipe.answer_format().write(document) == output:  # else a note says how many differ
            assert row.ids_T[:-1] == ids[:-1]
            assert labels[prompt:] == ids[prompt:]
            compared += 1
        assert (ids[-2:], row.ids_T[-2:]) == ([IM_END, LINE_BREAK], [IM_END, ENDOFTEXT])
    assert compared > 150
