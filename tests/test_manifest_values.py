"""nertune.json and calibration.json with odd values: refused by key, all problems together, or read as what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nertune.confidence import CALIBRATION, Calibration
from nertune.errors import NertuneError, RunError
from nertune.prompt import PromptSpec, PromptTemplate, answer_format
from nertune.run import MANIFEST, RunManifest
from nertune.schema import LabelSet

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    "",
    "x",
    "\x00",
    [],
    [None],
    [[]],
    ["a", "a"],
    {},
    {"": None},
    {"a": 1},
]


@pytest.fixture
def value(tmp_path) -> dict[str, Any]:
    """A whole manifest's, of one prompt."""
    spec = PromptSpec(PromptTemplate("句：{text}", "系统"), LabelSet(("地点", "name")), answer_format("inline"))
    RunManifest("base", spec, "ab" * 32, (7, 8), 77, {"torch": "2"}).write(tmp_path)
    found: dict[str, Any] = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    return found


def _read(tmp_path, value: Any) -> RunManifest:
    (tmp_path / MANIFEST).write_text(json.dumps(value), encoding="utf-8")
    return RunManifest.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": -5}, "max_tokens: -5 is no whole number from 1 to"),
        ({"max_tokens": 12.0}, "max_tokens: 12.0 is no whole number"),
        ({"stop_ids": [-1]}, "stop_ids: -1 is no whole number from 0 to"),
        ({"stop_ids": []}, r"stop_ids: \[\] is no list of token ids"),
        ({"kind": "lora"}, 'kind: "lora" is not one of adapter, model'),
        ({"tokens": ["a", "a"]}, "tokens: .* names one twice"),
        ({"versions": {"torch": 2}}, "versions: .* is no table of versions"),
        ({"format": "1"}, 'format is "1", not the number 1'),
        ({"format": True}, "format is true, not the number 1"),
        ({"format": 9}, "written in format 9, this version reads 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(tmp_path, value, change, said):
    with pytest.raises(RunError, match=said) as refused:
        _read(tmp_path, {**value, **change})
    assert str(tmp_path / MANIFEST) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user": None}, "prompt: user is no text"),
        ({"system": 3}, "prompt: system is no text"),
        ({"labels": "人名"}, "prompt: labels is no list"),
        ({"labels": ["a", 3]}, "prompt: labels holds something else than texts"),
        ({"labels": []}, "prompt: a label set needs at least one label"),
        ({"display": {"地点": 3}}, "prompt: display holds something else than texts"),
        ({"answer": {"format": None}}, "prompt: format is no text"),
        ({"answer": {"format": "inline", "depth": 0}}, "prompt: .*depth"),
    ],
)
def test_a_value_of_the_prompt_is_refused_by_its_key(tmp_path, value, change, said):
    with pytest.raises(RunError, match=said):
        _read(tmp_path, {**value, "prompt": {**value["prompt"], **change}})


def test_all_problems_are_told_together(tmp_path, value):
    del value["template_hash"]
    with pytest.raises(RunError) as refused:
        _read(tmp_path, {**value, "max_tokens": -5, "stop_ids": [-1]})
    message = str(refused.value)
    assert [key in message for key in ("max_tokens: -5", "stop_ids: -1", "template_hash is missing")] == [True] * 3


def test_a_key_that_comes_twice_is_refused(tmp_path, value):
    (tmp_path / MANIFEST).write_text('{"max_tokens": 512, ' + json.dumps(value)[1:], encoding="utf-8")
    with pytest.raises(RunError, match="max_tokens' comes more than once"):
        RunManifest.read(tmp_path)


def _changed(value: Any) -> list[Any]:
    """The value with each of its parts, at any depth, in turn another one."""
    found = []
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        parts = [*ODD, *_changed(value[key])]
        for part in parts:
            changed = value.copy()
            changed[key] = part
            found.append(changed)
    return found


def test_whatever_stands_in_a_manifest_is_read_or_is_one_error(tmp_path, value):
    odd = _changed(value)
    assert len(odd) > 200
    silent = 0
    for changed in odd:
        try:
            manifest = _read(tmp_path, changed)
        except NertuneError as error:
            silent += MANIFEST not in str(error)
            continue
        assert manifest.prompt is not None or manifest.tasks
        assert manifest.max_tokens > 0
        assert min(manifest.stop_ids) >= 0
        manifest.write(tmp_path)
        assert RunManifest.read(tmp_path) == manifest
    assert silent == 0


def test_whatever_stands_in_a_calibration_is_read_or_is_one_error(tmp_path):
    whole = {"temperature": 1.4, "threshold": 0.3, "thresholds": {"a": 0.5}, "constrained": True}
    path = tmp_path / CALIBRATION
    silent = 0
    for changed in _changed({"format": 1, "calibration": whole}):
        path.write_text(json.dumps(changed), encoding="utf-8")
        try:
            found = Calibration.read(tmp_path)
        except NertuneError as error:
            silent += CALIBRATION not in str(error)
            continue
        if found is not None:
            assert found.temperature > 0
            assert all(0 <= found.threshold_of(label) <= 1 for label in ("a", "b"))
            assert 0 <= found.score(0.7) <= 1
    assert silent == 0
    path.write_text('{"format": "1"}')
    with pytest.raises(RunError, match='format is "1", not the number 1'):
        Calibration.read(tmp_path)
    path.write_text('{"format": 1, "calibration": {"temperature": NaN}}')
    with pytest.raises(RunError, match="NaN is no number of JSON"):
        Calibration.read(tmp_path)
