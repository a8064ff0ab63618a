"""Alpaca rows: read back by order of occurrence, written with their entry in dataset_info.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nertune.data import AlpacaRow, read, write, write_alpaca
from nertune.errors import DataError, InputError, MissingFileError

Jsonl = Callable[..., Path]

Array = Callable[[Sequence[object]], Path]
PROMPT = "请提取实体。\n\n<输入文本>\n"


def row(text: str, output: object, **more: str) -> dict[str, str]:
    answer = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return {"instruction": "i", "input": text, "output": answer, **more}


def spans(path: Path) -> list[list[tuple[str, int, int]]]:
    return [[(e.label, e.start, e.end) for e in document.entities] for document in read(path).documents]


@pytest.mark.parametrize(
    "output",
    [
        [{"label": "a", "text": "北京"}, {"label": "b", "text": "上海"}],
        '{"entity_text": "北京", "entity_label": "a"}{"entity_text": "上海", "entity_label": "b"}',
        '{"entity_text": "北京", "entity_label": "a"}\n{"text": "上海", "label": "b"}\n',
    ],
)
def test_answer_forms(array: Array, output: object) -> None:
    path = array([row("从北京到上海", output)])
    assert read(path).format == "alpaca"
    assert spans(path) == [[("a", 1, 3), ("b", 4, 6)]]


@pytest.mark.parametrize("output", ["[]", "没有找到任何实体", "没有找到任何实体。\n", ""])
def test_nothing_found(array: Array, output: str) -> None:
    assert spans(array([row("无", output)])) == [[]]


def test_the_text_of_a_filled_prompt(array: Array, jsonl: Jsonl) -> None:
    answer = [{"label": "a", "text": "北京"}]
    rows = [
        row(PROMPT + "在北京\n的人", answer, system="s"),
        {"instruction": PROMPT + "在北京\n的人", "input": "", "output": "[]"},
        {"instruction": PROMPT + "在北京\n的人", "output": "[]"},
        row("在北京\n的人", answer),
    ]
    for path in (array(rows), jsonl(*rows)):
        assert {document.text for document in read(path).documents} == {"在北京\n的人"}


def test_a_prefix_of_every_input_is_not_text(array: Array) -> None:
    corpus = read(array([row("文本:北京", [{"label": "a", "text": "北京"}]), row("文本:上海", "[]")]))
    assert [document.text for document in corpus.documents] == ["北京", "上海"]
    assert corpus.documents[0].entities[0].start == 0
    assert corpus.notes[-1] == "the prefix '文本:' of every input is not part of the texts"
    assert read(array([row("文本:北京", "[]"), row("上海", "[]")])).documents[0].text == "文本:北京"


def test_nth_mention_stands_at_nth_occurrence(array: Array) -> None:
    a, b = {"label": "a", "text": "北京"}, {"label": "b", "text": "北京"}
    path = array([row("北京和北京", [a]), row("北京和北京", [a, a]), row("北京和北京", [a, b]), row("北京", [a, b])])
    assert spans(path) == [
        [("a", 0, 2)],
        [("a", 0, 2), ("a", 3, 5)],
        [("a", 0, 2), ("b", 3, 5)],
        [("a", 0, 2), ("b", 0, 2)],
    ]


def test_an_answer_in_the_order_of_its_text_is_read_in_that_order(array: Array) -> None:
    """So that it is written again as it stands, though a short name also occurs inside a longer one before it."""

    def mentions(*pairs: tuple[str, str]) -> list[dict[str, str]]:
        return [{"label": label, "text": text} for label, text in pairs]

    path = array(
        [
            row("天津粤唯鲜的张连志为天津", mentions(("公司", "天津粤唯鲜"), ("人名", "张连志"), ("地点", "天津"))),
            row(
                "苏梅岛去感受苏梅", mentions(("景点", "苏梅岛"), ("景点", "苏梅"))
            ),  # one label, and both begin alike first
            row("《电子》和《电子", mentions(("游戏", "《电子》"), ("游戏", "《电子"))),
            row("酶蛋白缺失，合成酶", mentions(("症状", "酶蛋白缺失"), ("部位", "酶蛋白"), ("部位", "酶"))),
            row(
                "酶蛋白和酶，酶多", mentions(("部位", "酶蛋白"), ("部位", "酶"), ("部位", "蛋白"))
            ),  # nested: 酶, then 蛋白
            row("张连志在天津", mentions(("地点", "天津"), ("人名", "张连志"))),  # another order
        ]
    )
    assert spans(path) == [
        [("公司", 0, 5), ("人名", 6, 9), ("地点", 10, 12)],
        [("景点", 0, 3), ("景点", 6, 8)],
        [("游戏", 0, 4), ("游戏", 5, 8)],
        [("症状", 0, 5), ("部位", 0, 3), ("部位", 8, 9)],
        [("部位", 0, 3), ("部位", 0, 1), ("部位", 1, 3)],
        [("人名", 0, 3), ("地点", 4, 6)],
    ]


def test_mentions_not_in_the_text_are_counted(array: Array) -> None:
    a = {"label": "a", "text": "北京"}
    corpus = read(array([row("北京", [a, a, {"label": "a", "text": "南京"}, {"label": "a", "text": ""}])]))
    assert len(corpus.documents[0].entities) == 1
    assert corpus.notes == (
        "spans: none in this file; mentions placed by order of occurrence: 1",
        "mentions left out, because the text does not hold them (so often): 3",
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"instruction": "i", "input": "a"}, "the record has no 'output'; its keys are 'instruction', 'input'"),
        ({"instruction": "i", "input": 1, "output": ""}, "'input' must be a string, found the number 1"),
        ({"instruction": "i", "input": " ", "output": ""}, "no text: 'input' is empty and 'instruction' has no line"),
        (row("a", "Sure! Here"), "'output' is not JSON (Expecting value"),
        (row("a", "[" * 100_000), "'output' is not JSON (the JSON is nested too deeply"),
        (row("a", '{"name": ["a"]}'), "'output' must hold objects {'label', 'text'} or {'entity_label', "),
        (row("a", '["a"]'), "found the string 'a'"),
        (row("a", '{"label": "x", "text": 1}'), "'output': 'text' must be a string, found the number 1"),
        (row("a", '{"label": "", "text": "a"}'), "label '' cannot be used"),
        (row("a", '{"label": "x", "text": "\\ud800"}'), "'output' holds NUL or half of a surrogate pair"),
    ],
)
def test_wrong_shapes(jsonl: Jsonl, bad: object, said: str) -> None:
    path = jsonl(row("a", "[]"), bad)
    with pytest.raises(DataError) as caught:
        read(path, format="alpaca")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


def test_write_alpaca_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "clue.train.json"
    write_alpaca([AlpacaRow("i", "在北京", '[{"label": "a", "text": "北京"}]')], path)
    assert path.read_text(encoding="utf-8").startswith('[\n  {\n    "instruction": "i",\n    "input": "在北京",\n')
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    assert info == {"clue.train": {"file_name": "clue.train.json"}}
    assert spans(path) == [[("a", 1, 3)]]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["clue.train.json", "dataset_info.json"]


def test_other_entries_of_dataset_info_are_kept(tmp_path: Path) -> None:
    info = tmp_path / "dataset_info.json"
    info.write_text('{"old": {"hf_hub_url": "x"}, "new": {"file_name": "gone.json"}}', encoding="utf-8")
    write_alpaca([AlpacaRow("i", "a", "[]")], tmp_path / "new.json")
    kept = json.loads(info.read_text(encoding="utf-8"))
    assert kept == {"old": {"hf_hub_url": "x"}, "new": {"file_name": "new.json"}}


@pytest.mark.parametrize("content", ["{oops", "[1]", "\ud800"])
def test_a_broken_dataset_info_is_left_alone_and_nothing_is_written(tmp_path: Path, content: str) -> None:
    info = tmp_path / "dataset_info.json"
    info.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"dataset_info\.json: cannot be updated: "):
        write_alpaca([AlpacaRow("i", "a", "[]")], tmp_path / "new.json")
    assert list(tmp_path.iterdir()) == [info]


def test_what_write_alpaca_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows to write"):
        write_alpaca([], tmp_path / "new.json")
    with pytest.raises(InputError, match="give the rows another name"):
        write_alpaca([AlpacaRow("i", "a", "[]")], tmp_path / "dataset_info.json")
    with pytest.raises(DataError, match="record 1 holds NUL or half of a surrogate pair"):
        write_alpaca([AlpacaRow("i", "\ud800", "[]")], tmp_path / "new.json")
    with pytest.raises(MissingFileError, match="there is no directory"):
        write_alpaca([AlpacaRow("i", "a", "[]")], tmp_path / "gone" / "new.json")
    assert list(tmp_path.iterdir()) == []


def test_documents_alone_do_not_make_alpaca_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"alpaca rows need a prompt, .*; try .*cluener, .*entities"):
        write([], tmp_path / "x.json", format="alpaca")
