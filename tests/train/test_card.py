"""The model card and the report of a finished training: what the hub reads, what people read, and a sample that runs."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from nertune import data
from nertune.assemble import f1_reader
from nertune.models import BUILTIN
from nertune.schema import Document, Prediction
from nertune.train.card import model_card
from nertune.train.fit import train
from nertune.train.measure import Reader
from nertune.train.task import load_tasks

SHORT = {"max_steps": 2, "eval_steps": 2}


@pytest.fixture(scope="module")
def run(recipe_in, tmp_path_factory) -> Path:
    recipe = recipe_in(tmp_path_factory.mktemp("card"), training=SHORT)
    return train(recipe, reader=f1_reader()).folder


def test_the_hub_reads_the_card(run):
    card = ModelCard.load(run / "README.md")
    assert card.data.pipeline_tag == "token-classification"
    assert card.data.library_name == "peft"
    assert card.data.language == ["zh"]
    assert {"lora", "named-entity-recognition"} <= set(card.data.tags)
    evaluation = json.loads((run / "report.json").read_text(encoding="utf-8"))["evaluation"]
    found = {(result.metric_type, result.metric_name): result.metric_value for result in card.data.eval_results}
    assert found["f1", "f1 (text, micro)"] == round(evaluation["metrics"]["text"]["micro"]["f1"], 4)
    assert card.data.eval_results[0].dataset_name == "validation part of train.jsonl"
    # The base model is a folder of this machine, which is nothing to the hub or to other people.
    assert card.data.base_model is None
    assert "/tmp" not in card.content
    low, high = evaluation["metrics"]["span"]["micro"]["ci95"]
    assert f"{low:.4f} to {high:.4f} (`span`)" in card.content
    for part in (
        "## Results",
        "## Data",
        "## Prompt",
        "## Limits",
        "## Licence",
        "抽取",
        "| **micro** |",
        "人名 ",
        "; 2 steps at most, ",
    ):
        assert part in card.content


def test_the_code_sample_of_the_card_works(run, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (run / "README.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(run.parent)
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    assert isinstance(names["prediction"], Prediction)


def test_training_leaves_the_report_on_its_validation_documents(run, recipe_in):
    value = json.loads((run / "report.json").read_text(encoding="utf-8"))
    (task,) = load_tasks(recipe_in(run.parent))
    assert [row[2] for row in value["documents"]] == [document.text for document in task.validation]
    assert value["training"]["eval_f1"]
    assert value["facts"]["optimizer steps"] == "2"
    assert "seen in training" in value["breakdowns"]
    assert 'id="data"' in (run / "report.html").read_text(encoding="utf-8")
    assert (run / "report.md").read_text(encoding="utf-8").startswith("# run")


def test_several_tasks_keep_their_labels_apart(two_tasks):
    run = train(two_tasks(training=SHORT), reader=f1_reader()).folder
    value = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert set(value["evaluation"]["metrics"]["span"]["labels"]) >= {"people/人名", "drugs/药"}
    card = ModelCard.load(run / "README.md")
    assert "## Prompt of drugs" in card.content
    assert "task='people'" in card.content


def test_a_report_that_fails_costs_nothing_but_itself(recipe):
    said: list[str] = []

    def report(documents, predictions, about):
        raise ValueError("no")

    def predict(model, renderer, documents):
        return [Prediction(document.text) for document in documents]

    reader = Reader(predict, lambda documents, predictions: {"f1": 0.5}, report)
    run = train(recipe(training=SHORT), note=said.append, reader=reader).folder
    assert "no report on the validation documents: ValueError: no" in said
    assert "Sample predictions" in (run / "report.html").read_text(encoding="utf-8")
    assert "F1 was not measured" in (run / "README.md").read_text(encoding="utf-8")


def test_the_card_names_base_model_and_terms(recipe):
    tasks = load_tasks(recipe())

    def metadata(model: str, **changes) -> dict:
        card = model_card(recipe(model=model, **changes), tasks, name="run", evaluation=None, seconds=60)
        return yaml.safe_load(card.split("---\n")[1])

    builtin = metadata(BUILTIN)
    assert (builtin["base_model"], builtin["license"]) == ("google/gemma-3-270m", "gemma")
    assert metadata("modelscope:Qwen/Qwen2.5-7B-Instruct")["base_model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert "license" not in metadata("Qwen/Qwen2.5-7B-Instruct")
    full = metadata("Qwen/Qwen2.5-7B-Instruct", method="full")
    assert (full["library_name"], full["base_model_relation"]) == ("transformers", "finetune")


def test_what_data_are_called_is_no_markup_in_the_card(recipe, tmp_path):
    name = "<img src=x onerror=alert(1)>"
    path = tmp_path / f"{name}.jsonl"
    documents = [Document.of("方鹏去杭州", [("<b>人`名", 0, 2)]) for _ in range(8)]
    data.write(documents, path, format="entities")
    settings = recipe(
        data={"train": str(path), "validation": 0}, answer="json", prompt={"user": "````<b>{labels}：{text}"}
    )
    card = model_card(settings, load_tasks(settings), name=name, evaluation=None, seconds=1)
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?\n\1$", "", card.split("---\n", 2)[2])
    assert not re.search(r"(?<!\\)<(img|b)", outside)
    assert "`````text" in card
