"""Documents that the answer format cannot write stop a training before anything is loaded, all of them in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune import data
from nertune.cli import main
from nertune.errors import InputError
from nertune.schema import Document
from nertune.train.task import load_tasks


@pytest.fixture
def crossing(tmp_path) -> Path:
    """Six documents whose entities cross, one too deep, three that can be written."""
    documents = [Document.of(f"第{n}条甲乙丙", [("a", 3, 5), ("b", 4, 6)]) for n in range(1, 7)]
    documents += [Document.of("甲乙丙", [("a", 0, 3), ("b", 0, 2), ("a", 0, 1), ("b", 0, 1)])]
    documents += [Document.of(f"{n}甲乙", [("a", 1, 2)]) for n in range(1, 4)]
    data.write(documents, tmp_path / "crossing.jsonl", format="entities")
    return tmp_path / "crossing.jsonl"


@pytest.mark.parametrize("name", ["inline", "xml"])
def test_all_of_them_are_counted_and_the_first_named(recipe, crossing, name):
    made = recipe(
        data={"train": str(crossing), "validation": 0.5}, answer={"format": name, "depth": 3}, model="no/such/model"
    )
    with pytest.raises(InputError) as raised:
        load_tasks(made)
    message = str(raised.value)
    assert f"7 of 10 documents cannot be written in their answer format: 6 with entities that cross ({name})" in message
    assert f"1 with entities nested deeper than 3 ({name})" in message
    assert f"{crossing}: document " in message
    assert "'甲乙' [3, 5) and '乙丙' [4, 6) cross" in message
    assert f"answer: {{format: {name}, depth: 4}}" in message


def test_they_are_counted_over_all_tasks(two_tasks, crossing):
    crossed = {"data": {"train": str(crossing)}, "labels": ["a", "b"], "answer": "inline"}
    with pytest.raises(InputError, match=r"6 of \d+ documents cannot be written") as raised:
        load_tasks(two_tasks(drugs_task=crossed))
    assert "drugs: " in str(raised.value)
    load_tasks(two_tasks(drugs_task=crossed | {"answer": "grouped"}))


def test_train_and_preview_say_the_same(recipe, crossing, tmp_path, capsys):
    made = recipe(data={"train": str(crossing), "validation": 0.5}, answer="xml", model="no/such/model")
    (tmp_path / "recipe.yaml").write_text(made.to_yaml(), encoding="utf-8")
    for command in (
        ["train", str(tmp_path / "recipe.yaml")],
        ["preview", str(tmp_path / "recipe.yaml")],
    ):
        assert main(command) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "6 of 10 documents cannot be written in their answer format: 6 with entities that cross (xml)" in said


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "inline"])
def test_conversion_lists_what_the_answer_cannot_write(crossing, tmp_path, capsys, form):
    target = tmp_path / "a.json"
    assert main(["data", "convert", str(crossing), str(target), "--to", form, "--answer", "xml"]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert f"{form} cannot hold entities that cross others: 6" in said
    assert "10 documents written" in said
    assert "not come back alike" not in said
    listed = [json.loads(line) for line in (tmp_path / "a.json.left-out.jsonl").read_text("utf-8").splitlines()]
    assert [entry["line"] for entry in listed] == [1, 2, 3, 4, 5, 6]
    assert listed[0]["entities"][0] == {
        "kind": "entities that cross others",
        "start": 4,
        "end": 6,
        "label": "b",
        "text": "乙丙",
    }


def test_labels_that_can_be_no_tag_are_named_before_anything_is_loaded(recipe, tmp_path, capsys):
    path = tmp_path / "spaced.jsonl"
    data.write([Document.of(f"甲乙{n}", [("地 点", 0, 1)]) for n in range(4)], path, format="entities")
    made = recipe(data={"train": str(path)}, answer="xml", model="no/such/model")
    with pytest.raises(InputError, match="xml format cannot name a tag '地 点'"):
        load_tasks(made)
    target = str(tmp_path / "a.json")
    assert main(["data", "convert", str(path), target, "--to", "alpaca", "--answer", "xml"]) == 2
    assert "cannot name a tag '地 点'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["inline", "xml", "json", "jsonl", "grouped"])
def test_every_format_converts_and_is_named_by_a_recipe(recipe, corpus, tmp_path, name):
    (task,) = load_tasks(recipe(answer=name))
    assert task.spec.answer.name == name
    target = tmp_path / "a.json"
    assert main(["data", "convert", str(corpus), str(target), "--to", "alpaca", "--answer", name]) == 0
    written = [row["output"] for row in json.loads(target.read_text(encoding="utf-8"))]
    assert written == [task.spec.answer.write(document) for document in data.read(corpus).documents]


def test_marks_nest_as_deep_as_the_data_unless_the_recipe_says_how_deep(recipe, tmp_path):
    nested = [
        Document.of("甲乙丙", [("a", 0, 3), ("b", 0, 2), ("a", 0, 1), ("b", 0, 1)]),
        Document.of("甲", [("a", 0, 1)]),
    ]
    flat = [Document.of("甲乙", [("a", 0, 1), ("b", 1, 2)])] * 2
    depths = []
    for name, documents, answer in (
        ("nested", nested, "xml"),
        ("flat", flat, "inline"),
        ("flat", flat, {"format": "inline", "depth": 2}),
    ):
        path = tmp_path / f"{name}.jsonl"
        data.write(documents, path, format="entities")
        (task,) = load_tasks(recipe(data={"train": str(path), "validation": 0}, answer=answer, model="no/such/model"))
        depths.append(task.spec.answer.options())
    assert depths == [{"depth": 4}, {"depth": 1}, {"depth": 2}]
