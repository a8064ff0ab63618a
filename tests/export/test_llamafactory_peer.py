"""Against LLaMA-Factory itself: it takes an exported folder as it is, and makes of it the token ids of the run's training.

Needs what tests/train/test_llamafactory_peer.py needs, and skips without.
"""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nertune import data
from nertune.errors import InputError
from nertune.export import export_llamafactory
from nertune.export.llamafactory import template_of
from nertune.models import BUILTIN, load_tokenizer
from nertune.models.builtin import builtin_folder
from nertune.prompt import PromptSpec, Renderer, template_hash
from nertune.run import RunManifest
from nertune.train.recipe import Recipe
from nertune.train.task import load_tasks

_peer = runpy.run_path(str(Path(__file__).parents[1] / "train" / "test_llamafactory_peer.py"))
theirs, QWEN2, CLUENER, PYTHON = _peer["theirs"], _peer["QWEN2"], _peer["CLUENER"], _peer["PYTHON"]
pytestmark = _peer["pytestmark"]


@pytest.mark.parametrize("answer", ["json", "inline"])
def test_an_exported_folder_gives_the_rows_of_the_run(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(QWEN2, "model")
    data.write(data.read(CLUENER, limit=60).documents, "cluener.jsonl", format="cluener")
    recipe = Recipe.model_validate(
        {
            "model": "model",
            "data": {"train": "cluener.jsonl", "validation": 0.2},
            "output": "run",
            "prompt": {"template": "cluener" if answer == "json" else "ner"},
            "answer": answer,
            "lora": {"rank": 16, "alpha": 32, "dropout": 0.05, "targets": ["q_proj", "v_proj"]},
            "training": {"epochs": 2, "warmup": 0.1, "scheduler": "cosine", "eval_steps": 5, "best_by": "loss"},
        }
    )
    (task,) = load_tasks(recipe)
    tokenizer = load_tokenizer("model")
    spec = PromptSpec(recipe.prompt.load(), task.labels, recipe.answer_format())
    renderer = Renderer(tokenizer, spec)
    Path("run").mkdir()
    RunManifest("model", spec, template_hash(tokenizer), tuple(renderer.stop_ids), 500).write(Path("run"))
    Path("run/recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    export_llamafactory("run", "theirs", template="qwen")
    value = yaml.safe_load(Path("theirs/train.yaml").read_text(encoding="utf-8"))
    Path("theirs.yaml").write_text(yaml.safe_dump({**value, "use_cpu": True}), encoding="utf-8")
    made = theirs(tmp_path / "theirs.yaml")
    settings = made["settings"]
    assert (settings["lora_rank"], settings["lora_alpha"], settings["lora_dropout"]) == (16, 32, 0.05)
    assert settings["lora_target"] == ["q_proj", "v_proj"]
    assert settings["learning_rate"] == recipe.training.learning_rate
    assert settings["load_best_model_at_end"] is True
    assert (settings["eval_steps"], settings["save_steps"]) == (5, 5)
    rows = [ids for ids, _ in made["rows"]]
    assert len(rows) == len(task.train)
    for document, ids, (_, labels) in zip(task.train, rows, made["rows"], strict=True):
        row = renderer.row(document)
        assert row.ids_T[:-1] == ids[:-1]  # after <|im_end|> theirs is a line break, ours the end of the document
        assert [int(label != -100) for label in labels] == row.loss_mask_T


_NAMES = """
import json
from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS
print(json.dumps([[hub, DEFAULT_TEMPLATE[name]] for name, hubs in SUPPORTED_MODELS.items() if name in DEFAULT_TEMPLATE
                  for hub in hubs.values()]))
"""


def test_every_model_that_it_knows_gets_the_template_it_has_there_or_none():
    done = subprocess.run([PYTHON, "-c", _NAMES], capture_output=True, text=True, timeout=120, check=True)
    told, wrong = 0, []
    for model, template in json.loads(done.stdout.splitlines()[-1]):
        try:
            ours = template_of(model)
        except InputError:
            continue
        told += 1
        if ours != template:
            wrong.append((model, template, ours))
    assert wrong == []
    assert told > 200


@pytest.mark.skipif(not builtin_folder().is_dir(), reason="the built-in model is not converted yet")
def test_the_built_in_model_trains_there_on_the_rows_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data.write(data.read(CLUENER, limit=8).documents, "cluener.jsonl", format="cluener")
    recipe = Recipe.model_validate({"model": BUILTIN, "data": {"train": "cluener.jsonl"}, "output": "run"})
    (task,) = load_tasks(recipe)
    tokenizer = load_tokenizer(BUILTIN)
    spec = PromptSpec(recipe.prompt.load(), task.labels, recipe.answer_format())
    renderer = Renderer(tokenizer, spec)
    Path("run").mkdir()
    RunManifest(BUILTIN, spec, template_hash(tokenizer), tuple(renderer.stop_ids), 500).write(Path("run"))
    Path("run/recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    export_llamafactory("run", "theirs")
    value = yaml.safe_load(Path("theirs/train.yaml").read_text(encoding="utf-8"))
    Path("theirs.yaml").write_text(yaml.safe_dump({**value, "use_cpu": True}), encoding="utf-8")
    rows = theirs(tmp_path / "theirs.yaml")["rows"]
    assert len(rows) == len(task.train) > 0
    for document, (ids, labels) in zip(task.train, rows, strict=True):
        row = renderer.row(document)
        answer = row.loss_mask_T.index(1)
        assert row.ids_T[:answer] == ids[:answer]
        assert [label != -100 for label in labels[: answer + 1]] == [False] * answer + [True]
