"""The audit counts what training would leave out: the same prompt, answer, tokens and cut-off."""

from __future__ import annotations

import json

import pytest

from nertune import data
from nertune.auditing import Wanted, audit_files
from nertune.cli import main
from nertune.models import load_tokenizer
from nertune.schema import Document
from nertune.train.task import load_tasks, prepare_task


@pytest.fixture
def written(tmp_path, recipe):
    """A function that writes a recipe and gives its path."""

    def write(**changes) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(recipe(**changes).to_yaml(), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def uneven(tmp_path):
    """A corpus of which some documents are much longer than others."""
    documents = [Document.of("林屿去杭州" + "了" * (7 * n), [("人名", 0, 2), ("地点", 3, 5)]) for n in range(9)]
    data.write(documents, tmp_path / "uneven.jsonl", format="entities")
    return str(tmp_path / "uneven.jsonl")


@pytest.mark.parametrize("answer", ["inline", "json"])
def test_the_answers_lost_are_those_that_training_leaves_out(recipe, written, uneven, answer):
    settings = {"data": {"train": uneven, "validation": 0}, "answer": answer, "max_tokens": 250}
    asked = recipe(**settings)
    (task,) = load_tasks(asked)
    left_out = prepare_task(task, load_tokenizer(asked.model), asked, say=lambda line: None).left_out
    report = audit_files([], Wanted(recipe=written(**settings), top=100)).report
    assert [file.file for file in report.files] == [uneven]
    found = report.of("answer-cut")
    assert 0 < found.count < 9
    assert [place.line for place in found.places] == [document.number for document in left_out]
    assert [place.detail.split(",")[0] for place in found.places] == [
        document.reason.split(",")[0] for document in left_out
    ]
    assert f"max_tokens 250: {2 * found.count} entities lost" in found.message


def test_labels_that_the_recipe_does_not_list_and_answers_that_cannot_be_written(tmp_path, recipe, written, capsys):
    path = str(tmp_path / "crossing.jsonl")
    crossing = Document.of("林屿去杭州", [("人名", 0, 3), ("地点", 2, 5)])
    data.write([crossing, Document.of("去青川", [("国家", 1, 3)])], path, format="entities")
    arguments = ["data", "audit", path, "--recipe", written(labels=["人名", "地点"]), "--json"]
    assert main(arguments) == 3
    findings = {finding["code"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert [place["line"] for place in findings["label-unknown"]["places"]] == [2]
    assert [place["line"] for place in findings["answer-unwritable"]["places"]] == [1]
    assert "cross" in findings["answer-unwritable"]["places"][0]["detail"]
    assert "answer-cut" not in findings


def test_labels_are_those_of_the_recipe_as_it_maps_and_shows_them(recipe, written, uneven):
    section = {"train": uneven, "validation": 0, "label_map": {"地点": "PLACE"}}
    settings = {
        "data": section,
        "labels": {"人名": "某某人的姓名", "PLACE": "地方"},
        "answer": "json",
        "max_tokens": 250,
    }
    asked = recipe(**settings)
    (task,) = load_tasks(asked)
    left_out = prepare_task(task, load_tokenizer(asked.model), asked, say=lambda line: None).left_out
    outcome = audit_files([], Wanted(recipe=written(**settings), top=100))
    assert outcome.report.labels == {"PLACE": 9, "人名": 9}
    assert outcome.report.of("label-unknown") is None
    assert [place.line for place in outcome.report.of("answer-cut").places] == [one.number for one in left_out]
    assert any("地点 to PLACE (9)" in line for line in outcome.said)


def test_a_model_alone_counts_tokens_and_a_cut_off_may_be_named(base, uneven):
    lengths = audit_files([uneven], Wanted(model=str(base))).report.lengths
    assert lengths["max_tokens"] is None
    longest = lengths["tokens"]["max"]
    report = audit_files([uneven], Wanted(model=str(base), max_tokens=longest - 1)).report
    assert [place.line for place in report.of("answer-cut").places] == [9]


def test_of_several_tasks_one_is_named(tmp_path, two_tasks, corpus, capsys):
    path = tmp_path / "tasks.yaml"
    path.write_text(two_tasks().to_yaml(), encoding="utf-8")
    assert main(["data", "audit", "--recipe", str(path)]) == 2
    assert "has several tasks; name one (--task): people, drugs" in capsys.readouterr().err
    assert main(["data", "audit", "--recipe", str(path), "--task", "cars"]) == 2
    assert "has no task 'cars'" in capsys.readouterr().err
    report = audit_files([], Wanted(recipe=str(path), task="people")).report
    assert [file.file for file in report.files] == [str(corpus)]
