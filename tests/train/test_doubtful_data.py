"""A file that is not to be trusted stops a training; no document that lost its mentions is trained as an empty one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune.cli import main
from nertune.errors import DataError
from nertune.train.recipe import Recipe
from nertune.train.task import Task, load_tasks

PEOPLE = ("方鹏", "叶老桂", "阿May", "苏春红", "陈志明", "张三", "李四", "王五")


def _row(name: str, *, start: int = 3, surface: str | None = None) -> dict:
    text = f"昨天的{name}来了"
    surface = name if surface is None else surface
    return {"text": text, "entities": [{"start": start, "end": start + len(surface), "label": "人名", "text": surface}]}


def _loaded(path: Path, rows: list[dict], **data: object) -> Task:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    section = {"train": str(path), "validation": 0, **data}
    (task,) = load_tasks(Recipe.model_validate({"model": "base", "data": section, "labels": ["人名"], "output": "run"}))
    return task


def test_a_file_of_which_most_mentions_are_elsewhere_stops_unless_it_is_accepted(tmp_path):
    rows = [_row(name, start=n % 2) for n, name in enumerate(PEOPLE)]
    said = (
        r"x\.jsonl: only 0 of 8 mentions stand where their offsets say: 8 were found elsewhere.*data\.doubtful: accept"
    )
    with pytest.raises(DataError, match=said):
        _loaded(tmp_path / "x.jsonl", rows)
    task = _loaded(tmp_path / "x.jsonl", rows, doubtful="accept")
    assert sorted(document.entities[0].text for document in task.train) == sorted(PEOPLE)


def test_ends_that_follow_no_convention_are_no_doubt(tmp_path):
    rows = [_row(name) for name in PEOPLE]
    for row in rows:
        row["entities"][0]["end"] -= 2
    task = _loaded(tmp_path / "x.jsonl", rows)
    assert sorted(document.entities[0].text for document in task.train) == sorted(PEOPLE)


def test_a_document_that_lost_all_its_mentions_is_left_out_and_not_trained_as_empty(tmp_path):
    rows = [_row(name) for name in PEOPLE]
    rows[2] = _row("阿May", surface="不在")
    rows.append({"text": "没有人来", "entities": []})
    task = _loaded(tmp_path / "x.jsonl", rows)
    assert [document.text for document in task.train if not document.entities] == ["没有人来"]
    assert len(task.train) == len(PEOPLE)
    assert task.train_numbers == (1, 2, 4, 5, 6, 7, 8, 9)
    assert any("1 documents lost all of their mentions: they are left out" in note for note in task.notes)


@pytest.mark.parametrize("command", ["train", "preview"])
def test_the_commands_stop_with_exit_code_2(tmp_path, capsys, command):
    path = tmp_path / "x.conll"
    path.write_text("新车剐蹭,受损(护栏).无需报警 -X- _ B-护栏\n\n路面积水,无人受伤 -X- _ O\n\n", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: builtin:gemma3-270m\ndata: {{train: {path}, validation: 0}}\noutput: {tmp_path / 'run'}\n"
    )
    assert main([command, str(recipe)]) == 2
    message = capsys.readouterr().err
    assert f"{path}: 2 of 2 sentences are a single token" in message
    assert "data.doubtful: accept" in message
    assert not (tmp_path / "run").exists()
