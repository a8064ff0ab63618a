"""The run's manifest comes back equal, or says why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nertune.errors import InputError, MissingFileError, RunError
from nertune.prompt import PromptSpec, PromptTemplate, answer_format
from nertune.run import MANIFEST, RunManifest
from nertune.schema import LabelSet


def _manifest(answer: str) -> RunManifest:
    spec = PromptSpec(PromptTemplate("句：{text}", "系统"), LabelSet(("地点", "name")), answer_format(answer))
    return RunManifest("base", spec, "ab" * 32, (151645, 151643), 77, {"torch": "2"})


@pytest.mark.parametrize("answer", ["inline", "xml", "json", "jsonl", "grouped"])
def test_a_manifest_comes_back_equal(tmp_path, answer):
    _manifest(answer).write(tmp_path)
    assert RunManifest.read(tmp_path) == _manifest(answer)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_a_manifest_says_which_tokens_were_trained_and_free_ones_want_the_grammar(tmp_path):
    free = replace(_manifest("json"), loss_tokens="free")
    free.write(tmp_path)
    assert RunManifest.read(tmp_path) == free
    free.check_constrained(tmp_path, constrained=True)
    _manifest("json").check_constrained(tmp_path, constrained=False)
    with pytest.raises(InputError, match=r"loss_tokens: free.*not --unconstrained"):
        free.check_constrained(tmp_path, constrained=False)
    value = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    del value["loss_tokens"]
    (tmp_path / MANIFEST).write_text(json.dumps(value), encoding="utf-8")
    assert RunManifest.read(tmp_path).loss_tokens == "answer"


def test_a_missing_manifest_is_no_run(tmp_path):
    with pytest.raises(MissingFileError, match="not a finished run"):
        RunManifest.read(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '{"format": 1}'])
def test_a_damaged_manifest_says_so(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        RunManifest.read(tmp_path)


@pytest.mark.parametrize("key", ["base_model", "prompt", "template_hash", "stop_ids", "max_tokens", "versions"])
def test_a_manifest_without_a_key_is_damaged(tmp_path, key):
    _manifest("json").write(tmp_path)
    value = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    del value[key]
    (tmp_path / MANIFEST).write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(RunError, match=f"damaged .*{key}"):
        RunManifest.read(tmp_path)


def test_another_format_is_refused_by_number(tmp_path):
    _manifest("json").write(tmp_path)
    value = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    (tmp_path / MANIFEST).write_text(json.dumps({**value, "format": 2}), encoding="utf-8")
    with pytest.raises(RunError, match="written in format 2, this version reads 1"):
        RunManifest.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": {}},
        {"prompt": "x"},
        {"prompt": {"system": None, "user": None, "labels": ["a"], "answer": {"format": "json"}}},
        {"prompt": {"system": None, "user": "no place", "labels": ["a"], "answer": {"format": "json"}}},
        {"prompt": {"system": None, "user": "{text}", "labels": [], "answer": {"format": "json"}}},
        {"prompt": {"system": None, "user": "{text}", "labels": ["a"], "answer": {"format": "yaml"}}},
        {"prompt": {"system": None, "user": "{text}", "labels": ["a"], "answer": "json"}},
        {"stop_ids": None},
        {"stop_ids": ["1"]},
        {"max_tokens": "77"},
        {"max_tokens": True},
        {"versions": []},
        {"base_model": None},
        {"template_hash": 1},
        {"kind": "pickle"},
        {"kind": []},
        {"tokens": [1]},
        {"tokens": 3},
        {"quantize": "8bit"},
    ],
    ids=str,
)
def test_a_manifest_with_wrong_contents_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    _manifest("json").write(tmp_path)
    value = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    (tmp_path / MANIFEST).write_text(json.dumps({**value, **change}), encoding="utf-8")
    with pytest.raises(RunError, match=rf"{MANIFEST}: damaged .*train again or restore"):
        RunManifest.read(tmp_path)


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"\xff\x00{")
    with pytest.raises(RunError, match="damaged"):
        RunManifest.read(tmp_path)


def test_answer_options_come_back(tmp_path: Path) -> None:
    answer = answer_format("jsonl", {"nothing": "无", "text_key": "t", "distinct": True})
    spec = PromptSpec(PromptTemplate('{"a": {labels}} {text}\n', None), LabelSet(("𠮷",)), answer)
    manifest = RunManifest("Qwen/Qwen2-1.5B-Instruct", spec, "0" * 64, (1,), 1)
    manifest.write(tmp_path)
    assert RunManifest.read(tmp_path) == manifest
    assert "𠮷" in (tmp_path / MANIFEST).read_text(encoding="utf-8")


def test_a_run_says_what_its_folder_holds(tmp_path: Path) -> None:
    whole = replace(_manifest("json"), kind="model")
    longer = replace(_manifest("json"), tokens=("<ent>",), quantize="4bit")
    for manifest in (whole, longer):
        manifest.write(tmp_path)
        assert RunManifest.read(tmp_path) == manifest
        assert manifest.has_tokenizer
    assert not _manifest("json").has_tokenizer


def test_a_run_of_an_earlier_version_is_an_adapter(tmp_path: Path) -> None:
    _manifest("json").write(tmp_path)
    value = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    for key in ("kind", "tokens", "quantize"):
        del value[key]
    (tmp_path / MANIFEST).write_text(json.dumps(value), encoding="utf-8")
    assert RunManifest.read(tmp_path) == _manifest("json")


def _several() -> RunManifest:
    spec = _manifest("json").prompt
    other = PromptSpec(PromptTemplate("找：{text}"), LabelSet(("病",)), answer_format("jsonl", {"nothing": "无"}))
    return RunManifest("base", None, "ab" * 32, (1,), 77, {"torch": "2"}, tasks={"cluener": spec, "cmeee": other})


def test_a_manifest_of_several_tasks_comes_back_equal(tmp_path: Path) -> None:
    _several().write(tmp_path)
    assert RunManifest.read(tmp_path) == _several()
    value = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    assert list(value["tasks"]) == ["cluener", "cmeee"]
    assert "prompt" not in value


def test_a_prompt_is_asked_for_by_its_task() -> None:
    several, alone = _several(), _manifest("json")
    assert several.prompt_of("cmeee") is several.tasks["cmeee"]
    assert alone.prompt_of() is alone.prompt
    assert replace(several, tasks={"cmeee": several.tasks["cmeee"]}).prompt_of() is several.tasks["cmeee"]
    with pytest.raises(
        InputError, match=r"several tasks: cluener, cmeee. Name one: --task NAME, or load\(run, task=NAME"
    ):
        several.prompt_of()
    with pytest.raises(InputError, match=r"no task 'cmee'; did you mean 'cmeee'\? It was trained on: cluener, cmeee"):
        several.prompt_of("cmee")
    with pytest.raises(InputError, match="no task 'x'; it was trained on: cluener, cmeee"):
        several.prompt_of("x")
    with pytest.raises(InputError, match="has one prompt and no tasks"):
        alone.prompt_of("cmeee")


@pytest.mark.parametrize("tasks", [{"a": {}}, {"a": None}, [], "x", {}])
def test_tasks_that_are_damaged(tmp_path: Path, tasks: Any) -> None:
    _several().write(tmp_path)
    value = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    (tmp_path / MANIFEST).write_text(json.dumps({**value, "tasks": tasks}), encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        RunManifest.read(tmp_path)
