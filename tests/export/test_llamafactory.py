"""A run goes to LLaMA-Factory and comes back: the same rows, the same settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nertune.cli import main
from nertune.errors import InputError
from nertune.export.llamafactory import export_llamafactory, template_of
from nertune.models import load_tokenizer
from nertune.prompt import PromptSpec, Renderer
from nertune.run import RunManifest
from nertune.train.fit import train
from nertune.train.llamafactory import open_recipe
from nertune.train.recipe import load_recipe
from nertune.train.sections import parse_answer
from nertune.train.task import load_tasks

SHORT = {"max_steps": 1, "f1_documents": 0}


def rows_of(recipe):
    """Token ids and loss masks of all tasks, training and validation."""
    found = {}
    for name, task in zip(recipe.by_task(), load_tasks(recipe), strict=True):
        section = recipe.by_task()[name]
        spec = PromptSpec(section.prompt.load(), task.labels, parse_answer(section.answer))
        renderer = Renderer(load_tokenizer(recipe.model), spec)
        found[name] = [sorted(map(renderer.row, documents)) for documents in (task.train, task.validation)]
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prompt": {"user": "文本:{text}", "system": "找出{labels}"}, "answer": "jsonl"},
        {"prompt": {"user": "一\n二\n{labels}\n{text}", "system": None}, "lora": {"rslora": True, "plus_ratio": 4}},
        {"training": {"warmup": 0.1, "scheduler": "cosine", "eval_steps": "epoch", "patience": 3}},
        {
            "training": {
                "warmup": 2,
                "eval_steps": "never",
                "save_steps": 5,
                "keep_best": False,
                "keep_checkpoints": None,
            }
        },
        {"data": {"validation": 0.0}, "training": {"eval_steps": "never", "keep_best": False}, "lora": {"dora": True}},
        {"lora": {"targets": ["q_proj", "v_proj"]}, "training": {"gradient_checkpointing": True}, "max_tokens": 300},
    ],
    ids=["plain", "jsonl", "lines", "epoch", "steps", "no validation", "targets"],
)
def test_the_recipe_comes_back(recipe, tmp_path, changes):
    changes = {"answer": "json", **changes, "training": {**SHORT, "best_by": "loss", **changes.get("training", {})}}
    run = train(recipe(**changes)).folder
    notes = export_llamafactory(run, tmp_path / "theirs", template="chatml")
    assert any("cuts longer rows" in note for note in notes)
    ours, theirs = load_recipe(run / "recipe.yaml"), open_recipe(tmp_path / "theirs" / "train.yaml").recipe
    assert theirs.output == f"{ours.output}-llamafactory"
    for name in ("model", "method", "max_tokens", "lora", "tokens"):
        assert getattr(theirs, name) == getattr(ours, name), name
    differing = {"f1_documents"} | ({"save_steps"} if ours.training.save_steps is None else set())
    one, other = (part.training.model_dump(exclude=differing) for part in (ours, theirs))
    assert one == other
    assert rows_of(theirs) == rows_of(ours)


def test_several_tasks_come_back(two_tasks, tmp_path):
    medical = {"prompt": {"user": "医学文本，找出{labels}：\n{text}"}, "answer": "json"}
    run = train(two_tasks(answer="json", drugs_task=medical, training=SHORT)).folder
    export_llamafactory(run, tmp_path / "theirs", template="chatml")
    ours, theirs = load_recipe(run / "recipe.yaml"), open_recipe(tmp_path / "theirs" / "train.yaml").recipe
    assert list(theirs.tasks) == ["people", "drugs"]
    assert rows_of(theirs) == rows_of(ours)


@pytest.mark.parametrize(
    "answer", ["inline", "xml", "grouped", {"format": "jsonl", "label_key": "类", "text_key": "名"}]
)
def test_every_answer_format_comes_back(recipe, tmp_path, answer):
    run = train(recipe(answer=answer, training=SHORT)).folder
    export_llamafactory(run, tmp_path / "theirs", template="chatml")
    ours, theirs = load_recipe(run / "recipe.yaml"), open_recipe(tmp_path / "theirs" / "train.yaml").recipe
    assert rows_of(theirs) == rows_of(ours)


def test_other_data_can_be_given(run, corpus, tmp_path, monkeypatch):
    other = tmp_path / "other.jsonl"
    other.write_text(corpus.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="2 files for 1 data sets"):
        export_llamafactory(run, tmp_path / "theirs", data_files=["a", "b"], template="qwen")
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "llamafactory", "theirs", "--data", str(corpus), "--template", "qwen"]) == 0
    value = yaml.safe_load(Path("theirs/train.yaml").read_text(encoding="utf-8"))
    assert (value["dataset_dir"], value["dataset"], value["eval_dataset"]) == ("theirs", "run", "run_validation")
    assert set(json.loads(Path("theirs/dataset_info.json").read_text())) == {"run", "run_validation"}
    assert not list(tmp_path.glob(".theirs*"))


def test_what_has_no_key_there_is_told(recipe, tmp_path):
    run = train(recipe(training={"max_steps": 1, "f1_documents": 0, "loss_tokens": "free", "bucket": True})).folder
    said = "\n".join(export_llamafactory(run, tmp_path / "theirs", template="qwen"))
    for words in ("best F1", "leaves free", "like length", "end of the document"):
        assert words in said


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("modelscope:Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3_nothink"),
        ("builtin:gemma3-270m", "gemma2"),
        ("google/gemma-3-4b-it", "gemma3"),
        ("microsoft/phi-4", "phi4"),
        ("/models/Meta-Llama-3.1-8B-Instruct/", "llama3"),
        ("THUDM/glm-4-9b-chat", "glm4"),
    ],
)
def test_the_template_is_known_by_the_models_name(model, template):
    assert template_of(model) == template


def test_an_unknown_model_or_template_is_asked_for(run, tmp_path):
    for model in ("org/mystery", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "Qwen/Qwen2.5-VL-7B-Instruct"):
        with pytest.raises(InputError, match="name it: --template, one of qwen"):
            template_of(model)
    with pytest.raises(InputError, match="'qwen2' is not one"):
        export_llamafactory(run, tmp_path / "theirs", template="qwen2")
    assert not (tmp_path / "theirs").exists()
    assert RunManifest.read(run)
