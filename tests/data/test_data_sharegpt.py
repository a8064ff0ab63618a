"""Conversations: in LLaMA-Factory's own form, in OpenAI's, and under the names that dataset_info.json gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nertune.data import SharegptRow, detect, open_rows, read, write, write_sharegpt
from nertune.errors import DataError
from nertune.prompt import KNOWN_ANSWERS

Jsonl = Callable[..., Path]

ANSWER = '[{"label": "a", "text": "北京"}]'


def turns(prompt: str, answer: object, *, system: str | None = None) -> dict[str, object]:
    said = [] if system is None else [{"from": "system", "value": system}]
    return {"conversations": [*said, {"from": "human", "value": prompt}, {"from": "gpt", "value": answer}]}


def messages(prompt: str, answer: str) -> dict[str, object]:
    return {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": answer},
        ]
    }


@pytest.mark.parametrize("made", [turns, messages])
def test_both_forms(jsonl: Jsonl, made: Callable[[str, str], object]) -> None:
    corpus = read(jsonl(made("找：在北京", ANSWER), made("找：上海", "[]")))
    assert corpus.format == "sharegpt"
    assert [document.text for document in corpus.documents] == ["在北京", "上海"]
    assert [(e.label, e.start, e.end) for e in corpus.documents[0].entities] == [("a", 1, 3)]
    assert "the texts stand after '找：' in every prompt" in corpus.notes


def test_the_sentence_that_an_answer_copies_need_not_be_framed(jsonl: Jsonl) -> None:
    path = jsonl(turns("标出地点。在北京", "在[北京 | a]"))
    (document,) = read(path, answers=KNOWN_ANSWERS).documents
    assert (document.text, document.entities[0].start) == ("在北京", 1)


def test_a_frame_does_not_end_where_an_entity_would_be_lost(jsonl: Jsonl) -> None:
    path = jsonl(turns("找：北京：冷", ANSWER), turns("找：北京：热", ANSWER))
    assert [document.text for document in read(path).documents] == ["北京：冷", "北京：热"]


def test_the_last_turn_is_read_and_earlier_ones_are_told(jsonl: Jsonl) -> None:
    row = turns("你好", "好")
    row["conversations"] = [*row["conversations"], *turns("找：在北京", ANSWER)["conversations"]]  # type: ignore[misc]
    corpus = read(jsonl(row, turns("找：上海", "[]")))
    assert [document.text for document in corpus.documents] == ["在北京", "上海"]
    assert any("(1 of 2 rows have more)" in note for note in corpus.notes)


def test_names_of_dataset_info_are_honoured(tmp_path: Path) -> None:
    rows = [{"对话": [{"谁": "问", "说": f"找：在{name}"}, {"谁": "答", "说": "[]"}]} for name in ("北京", "上海")]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(DataError, match="the format cannot be told"):
        read(tmp_path / "a.json")
    entry = {
        "file_name": "a.json",
        "formatting": "sharegpt",
        "columns": {"messages": "对话"},
        "tags": {"role_tag": "谁", "content_tag": "说", "user_tag": "问", "assistant_tag": "答"},
    }
    info = tmp_path / "dataset_info.json"
    info.write_text(json.dumps({"hub": {"hf_hub_url": "a/b"}, "mine": entry}), encoding="utf-8")
    for path in (tmp_path / "a.json", tmp_path):
        assert [document.text for document in read(path).documents] == ["在北京", "在上海"]
        assert detect(path) == "sharegpt"
    info.write_text(json.dumps({"mine": entry, "other": {"file_name": "b.json"}}), encoding="utf-8")
    with pytest.raises(DataError, match=r"names 2 data sets; give the file of one: .*a\.json, .*b\.json"):
        read(tmp_path)
    info.write_text(json.dumps({"features": {"text": {"dtype": "string"}}, "splits": {}}), encoding="utf-8")
    with pytest.raises(DataError, match="the format cannot be told: a directory with"):
        read(tmp_path)
    info.write_text(json.dumps({"mine": {**entry, "file_name": "gone.json"}}), encoding="utf-8")
    with pytest.raises(DataError, match=r"dataset_info\.json: the entry 'mine': file_name: .*gone\.json is not there"):
        read(tmp_path)


def test_system_sentences_are_kept_for_training(jsonl: Jsonl) -> None:
    with open_rows(jsonl(turns("找：甲", "[]", system="专家"), turns("找：乙", "[]", system="专家"))) as reading:
        assert {row.raw.asked.system for row in reading if row.raw.asked} == {"专家"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"messages": []}, "'messages' must be a list of messages, found a list of 0"),
        ({"text": "a"}, "the record has no 'conversations' and no 'messages'; its keys are 'text'"),
        ({"conversations": ["a"]}, "message 1 must be an object, found the string 'a'"),
        ({"conversations": [{"from": "human"}]}, "message 1: 'value' must be a string, found an object with the keys"),
        ({"conversations": [{"from": 1, "value": "a"}]}, "message 1: 'from' must be a string, found the number 1"),
        ({"conversations": [{"from": "robot", "value": "a"}]}, "the role the string 'robot' is none of human, user"),
        (
            {"conversations": [{"from": "human", "value": "a"}]},
            "must be questions and their answers by turns, found user",
        ),
        ({"conversations": [{"from": "system", "value": "a"}]}, "found no turn"),
        (turns("找：b", None), "message 2: 'value' must be a string, found null"),
        (turns("找：b", "Sure!"), "the answer is not JSON"),
        (turns("找：b", "[" * 100_000), "the answer is not JSON (the JSON is nested too deeply"),
        (turns("找：b", '{"label": " x", "text": "a"}'), "the answer: label ' x' cannot be used"),
    ],
)
def test_wrong_shapes(jsonl: Jsonl, bad: object, said: str) -> None:
    path = jsonl(turns("找：a", "[]"), bad)
    with pytest.raises(DataError) as caught:
        read(path, format="sharegpt", answers=KNOWN_ANSWERS)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


def test_one_prompt_alone_does_not_tell_its_sentence(jsonl: Jsonl) -> None:
    with pytest.raises(DataError, match="one prompt alone does not tell where its sentence stands"):
        read(jsonl(turns("找：a", "[]")))


def test_answers_that_cannot_be_read_are_left_out_with_their_line(jsonl: Jsonl) -> None:
    rows = [turns(f"找：第{n}北京", ANSWER) for n in range(1_200)]
    rows[3] = turns("找：北京", "对不起")
    rows[1_100] = turns("在：北京", ANSWER)
    with open_rows(jsonl(*rows)) as reading:
        assert sum(1 for _ in reading) == 1_198
        assert [line for line, _ in reading.missed] == [4, 1_101]
        assert "answers: json or jsonl, read in 999 of the first 1,000 rows" in reading.notes()
        assert reading.notes()[-1].startswith("2 documents were not read and left out: line 4: the answer is not JSON")
        assert "the prompt is not framed as the first ones" in reading.missed[1].why


def test_write_and_read_back(tmp_path: Path) -> None:
    rows = [SharegptRow("找：在北京", ANSWER, "专家"), SharegptRow("找：无", "[]", "专家")]
    write_sharegpt(rows, tmp_path / "a.json")
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    assert info["a"]["formatting"] == "sharegpt"
    assert info["a"]["columns"] == {"messages": "conversations"}
    assert info["a"]["tags"]["user_tag"] == "human"
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))[0] == turns(
        "找：在北京", ANSWER, system="专家"
    )
    assert [document.text for document in read(tmp_path / "a.json").documents] == ["在北京", "无"]
    with pytest.raises(DataError, match="sharegpt rows need a prompt"):
        write([], tmp_path / "x.json", format="sharegpt")
