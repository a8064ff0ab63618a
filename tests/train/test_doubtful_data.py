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
    assert any("left out, not taken for empty, 1 document without a mention" in note for note in task.notes)
    assert [(one.number, one.text) for one in task.left_out] == [(3, "昨天的阿May来了")]


def test_so_is_one_of_a_validation_file_and_the_others_keep_their_numbers(tmp_path):
    held_out = tmp_path / "dev.jsonl"
    rows = [_row("阿May", surface="不在"), _row("赵六"), _row("钱七")]
    held_out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    task = _loaded(tmp_path / "x.jsonl", [_row(name) for name in PEOPLE], validation=str(held_out))
    assert [document.entities[0].text for document in task.validation] == ["赵六", "钱七"]
    assert task.validation_numbers == (2, 3)
    assert task.left_out == ()
    assert any(note.startswith(f"{held_out}: left out") for note in task.notes)


def test_the_label_map_says_which_mentions_count(tmp_path):
    """A mention that the map leaves out cannot be missed; a document that it empties is empty only if none was lost."""
    kept, other = _row("赵六"), _row("钱七", surface="不在")
    both = _row("孙八")
    both["entities"] += [{"start": 0, "end": 2, "label": "时间", "text": "昨天"}]
    both["entities"][0]["text"] = "不在"
    other["entities"][0]["label"] = "时间"
    rows = [*(_row(name) for name in PEOPLE), kept, other, both]
    task = _loaded(tmp_path / "x.jsonl", rows, label_map={"时间": None})
    assert [document.text for document in task.train if not document.entities] == ["昨天的钱七来了"]
    assert [one.number for one in task.left_out] == [len(rows)]


def test_the_key_of_a_task_is_named_whole(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        "".join(json.dumps(_row(name, start=n % 2), ensure_ascii=False) + "\n" for n, name in enumerate(PEOPLE))
    )
    tasks = {"people": {"data": {"train": str(path), "validation": 0}}}
    with pytest.raises(DataError, match=r"set tasks\.people\.data\.doubtful: accept"):
        load_tasks(Recipe.model_validate({"model": "base", "output": "run", "tasks": tasks}))


def test_offsets_without_surfaces_that_lie_beyond_their_texts_are_a_doubt(tmp_path):
    rows = [
        {"text": f"昨天的{name}来了", "label": [[3 + 90 * (n % 3 > 0), 95, "人名"]]} for n, name in enumerate(PEOPLE)
    ]
    with pytest.raises(DataError, match="only 0 of 8 mentions stand where their offsets say"):
        _loaded(tmp_path / "x.jsonl", rows)


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
