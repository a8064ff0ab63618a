"""The JSON form: exactly the documented keys, the way back, and errors that name the key."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from nertune.errors import InputError
from nertune.evaluate import Evaluation, evaluate
from nertune.schema import Document, Entity, Mention, Prediction


@pytest.fixture
def result() -> Evaluation:
    gold = [Document.of("叶老桂在浙商银行", [("name", 0, 3), ("company", 4, 8)]), Document("无")]
    predicted = [
        Prediction(
            "叶老桂在浙商银行", (Entity("name", 0, 3, "叶老桂"),), (Mention("company", "招商银行"),), stop="length"
        ),
        Prediction("无"),
    ]
    return evaluate(gold, predicted, seconds=4.0)


def test_the_documented_keys_and_no_others(result: Evaluation) -> None:
    value: Any = result.to_json()
    assert list(value) == [
        "documents",
        "metrics",
        "semeval",
        "ungrounded",
        "invalid_answers",
        "truncated",
        "sentences_per_second",
    ]
    assert list(value["metrics"]) == ["text", "span", "partial"]
    for scores in value["metrics"].values():
        assert list(scores) == ["micro", "macro", "labels"]
        assert list(scores["micro"]) == list(scores["macro"]) == ["precision", "recall", "f1", "ci95"]
        assert list(scores["labels"]) == ["company", "name"]
        assert scores["labels"]["name"] == {
            "precision": 1.0,
            "recall": 1.0,
            "f1": 1.0,
            "support": 1,
            "ci95": [1.0, 1.0],
        }
        low, high = scores["micro"]["ci95"]
        assert low <= scores["micro"]["f1"] == 0.5 <= high
        low, high = scores["macro"]["ci95"]
        assert low <= scores["macro"]["f1"] == 0.5 <= high
    assert list(value["semeval"]) == ["strict", "exact", "partial", "type"]
    counts = ["correct", "incorrect", "partial", "missed", "spurious", "possible", "actual"]
    for scores in value["semeval"].values():
        assert list(scores["micro"]) == [*counts, "precision", "recall", "f1", "ci95"]
        assert [scores["micro"][name] for name in counts] == [1, 0, 0, 1, 1, 2, 2]
        assert list(scores["macro"]) == ["precision", "recall", "f1", "ci95"]
        assert list(scores["labels"]["company"]) == [*counts, "precision", "recall", "f1", "support", "ci95"]
    assert (value["documents"], value["ungrounded"], value["truncated"]) == (2, 1, 1)
    assert value["sentences_per_second"] == 0.5


def test_json_and_back(result: Evaluation) -> None:
    assert Evaluation.from_json(json.loads(json.dumps(result.to_json()))) == result
    empty = evaluate([], [])
    assert Evaluation.from_json(json.loads(json.dumps(empty.to_json()))) == empty


def test_unknown_keys_are_passed_over_and_further_measures_kept(result: Evaluation) -> None:
    value: Any = copy.deepcopy(result.to_json())
    value["made_by"] = "a later version"
    value["metrics"]["later"] = value["metrics"]["span"]
    read = Evaluation.from_json(value)
    assert read.metrics["later"] == result.metrics["span"]


def test_files_without_the_semeval_family_are_read(result: Evaluation) -> None:
    value: Any = copy.deepcopy(result.to_json())
    del value["semeval"]
    del value["metrics"]["span"]["macro"]["ci95"]
    del value["metrics"]["span"]["labels"]["name"]["ci95"]
    read = Evaluation.from_json(value)
    assert read.semeval == {}
    assert read.metrics["span"].macro.ci95 is None
    assert read.metrics["text"] == result.metrics["text"]


@pytest.mark.parametrize(
    ("path", "wrong", "message"),
    [
        (("documents",), -1, "documents is -1"),
        (("documents",), True, "documents is True"),
        (("metrics",), [], r"metrics is \[\]; it must be an object"),
        (("metrics", "text", "micro", "f1"), "0.5", "metrics.text.micro.f1 is '0.5'"),
        (("metrics", "text", "macro", "f1"), float("nan"), "metrics.text.macro.f1 is nan"),
        (("metrics", "span", "micro", "ci95"), [0.1], r"metrics.span.micro.ci95 is \[0.1\]"),
        (("metrics", "span", "labels", "name", "support"), 1.5, "metrics.span.labels.name.support is 1.5"),
        (("metrics", "span", "labels", "name", "recall"), 1.5, "metrics.span.labels.name.recall is 1.5"),
        (("semeval", "type", "micro", "missed"), -1, "semeval.type.micro.missed is -1"),
        (("sentences_per_second",), float("inf"), "sentences_per_second is inf"),
    ],
)
def test_a_wrong_value_is_named(result: Evaluation, path: tuple[str, ...], wrong: object, message: str) -> None:
    value: Any = copy.deepcopy(result.to_json())
    *parents, key = path
    inner = value
    for parent in parents:
        inner = inner[parent]
    inner[key] = wrong
    with pytest.raises(InputError, match=message):
        Evaluation.from_json(value)
    del inner[key]
    with pytest.raises(InputError, match=f"the key {'.'.join(path)} is missing"):
        Evaluation.from_json(value)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(InputError, match="evaluation is 'text'"):
        Evaluation.from_json("text")
