"""Labels from the recipe to the prompt, the answers, the run and its report: display names, descriptions, label maps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nertune
from nertune import data
from nertune.assemble import f1_reader
from nertune.errors import InputError
from nertune.export.llamafactory import export_llamafactory
from nertune.prompt import ANSWER_FORMATS
from nertune.reporting import trained_on
from nertune.run import RunManifest
from nertune.schema import Document, LabelSet
from nertune.train.fit import train
from nertune.train.task import load_tasks

SHORT = {"max_steps": 2, "eval_steps": 2}
SHOWN = {"PER": "人名", "LOC": {"name": "地点", "description": "城市、河流"}}
PROMPT = {"user": "抽取{labels}{descriptions}\n{text}"}


@pytest.fixture(scope="module")
def coded(tmp_path_factory) -> Path:
    """A corpus with three labels, of which GPE and LOC are one thing and stand on one place now and then."""
    path = tmp_path_factory.mktemp("coded") / "coded.jsonl"
    documents = []
    for name in ("方鹏", "林屿"):
        for place, label in (("杭州", "GPE"), ("青川", "LOC")):
            spans = [("PER", 0, 2), ("TIME", 2, 3), (label, 4, 6)]
            documents.append(Document.of(f"{name}今去{place}", spans))
    both = Document.of("方鹏今去南京", [("PER", 0, 2), ("GPE", 4, 6), ("LOC", 4, 6)])
    data.write([*documents, both, Document("无人出门")], path, format="entities")
    return path


def test_a_map_is_applied_once_after_reading_and_told(recipe, coded):
    rules = {"GPE,LOC": "LOC", "TIME": None, "ORGG": "ORG"}
    section = {"train": str(coded), "validation": str(coded), "label_map": rules}
    (task,) = load_tasks(recipe(data=section, labels=SHOWN, prompt=PROMPT))
    assert {e.label for d in (*task.train, *task.validation) for e in d.entities} == {"PER", "LOC"}
    assert [(e.label, e.start) for e in task.train[4].entities] == [("PER", 0), ("LOC", 4)]
    expected = [
        f"{coded}: mentions given another label: GPE to LOC (3)",
        f"{coded}: mentions left out, as the label map says: TIME (4)",
        f"{coded}: mentions that became equal to another by it and are kept once: 1",
        f"{coded}: the label map names what no mention bears: ORGG. Labels there: GPE, LOC, PER, TIME",
    ]
    assert [note for note in task.notes if note.startswith(str(coded))] == expected * 2
    assert task.labels == LabelSet(("PER", "LOC"), {"PER": "人名", "LOC": "地点"}, {"LOC": "城市、河流"})


def test_labels_that_the_recipe_lacks_are_told_with_the_map_that_would_help(recipe, coded):
    mapped = {"train": str(coded), "label_map": {"GPE,LOC": "地点", "PER": "人名", "TIME": ""}}
    with pytest.raises(
        InputError, match=r"'人名', '地点'.* give them others with data\.label_map: \{人名: PER, 地点: LOC\}"
    ):
        load_tasks(recipe(data=mapped, labels=SHOWN))


def test_descriptions_without_a_place_in_the_prompt_are_told(recipe, coded):
    changes = {"data": {"train": str(coded), "label_map": {"GPE": "LOC", "TIME": None}}, "labels": SHOWN}
    (task,) = load_tasks(recipe(**changes))
    assert task.notes[-1].startswith(
        "labels: the model does not see the descriptions, as the prompt has no {descriptions}"
    )
    (task,) = load_tasks(recipe(**changes, prompt=PROMPT))
    assert not any("descriptions" in note for note in task.notes)


@pytest.mark.parametrize("answer", ANSWER_FORMATS)
def test_a_run_rebuilds_the_prompt_answers_in_display_names_and_finds_labels(recipe, corpus, answer):
    labels = {"人名": "PERSON", "地点": {"name": "PLACE", "description": "城市"}}
    made = recipe(labels=labels, prompt=PROMPT, answer=answer, training=SHORT)
    run = train(made).folder
    written = json.loads((run / "nertune.json").read_text(encoding="utf-8"))["prompt"]
    assert (written["labels"], written["display"]) == (["人名", "地点"], {"人名": "PERSON", "地点": "PLACE"})
    assert written["descriptions"] == {"地点": "城市"}
    (task,) = load_tasks(made)
    recognizer = nertune.load(run)
    renderer = recognizer.renderer
    assert RunManifest.read(run).prompt == renderer.spec == task.spec
    document = task.train[0]
    row = renderer.row(document)
    assert renderer.prompt_ids(document.text) == row.ids_T[: row.prompt_length]
    assert "抽取PERSON, PLACE\nPLACE：城市\n" in renderer.prompt_text(document.text)
    assert "PERSON" in renderer.decode(row.ids_T[row.prompt_length :])
    found = recognizer.extract_many([d.text for d in task.train])
    assert all(e.label in task.labels and e.score is not None for p in found for e in p.entities)
    assert all(not p.ungrounded or answer in ("json", "jsonl", "grouped") for p in found)
    assert "人名 (PERSON), 地点 (PLACE)" in (run / "README.md").read_text(encoding="utf-8").replace("\\", "")


def test_the_report_of_a_training_shows_both_names_by_task(two_tasks):
    task = {"labels": {"病": "DISEASE", "药": {"name": "DRUG"}}}
    run = train(two_tasks(drugs_task=task, training=SHORT), reader=f1_reader()).folder
    value = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert value["display"] == {"drugs/病": "DISEASE", "drugs/药": "DRUG"}
    assert "drugs/病" in value["evaluation"]["metrics"]["span"]["labels"]
    assert "| drugs/病 (DISEASE) |" in (run / "report.md").read_text(encoding="utf-8")


def test_rows_for_llamafactory_bear_display_names(recipe, coded, tmp_path):
    section = {"train": str(coded), "validation": 0, "label_map": {"GPE": "LOC", "TIME": None}}
    changes = {"data": section, "labels": SHOWN, "prompt": PROMPT, "answer": "json"}
    run = train(recipe(**changes, training={"max_steps": 1, "eval_steps": "never", "keep_best": False})).folder
    export_llamafactory(run, tmp_path / "theirs", template="chatml")
    rows = json.loads((tmp_path / "theirs" / "run.json").read_text(encoding="utf-8"))
    assert rows[0]["instruction"] == "抽取人名, 地点\n地点：城市、河流"
    assert json.loads(rows[0]["output"]) == [{"label": "人名", "text": "方鹏"}, {"label": "地点", "text": "杭州"}]
    known = trained_on(str(run), None)
    assert {e.label for d in known for e in d.entities} == {"PER", "LOC"}
