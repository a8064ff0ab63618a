"""Every format knows its own files and claims no other's: a sample of each, offered to all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune.data import detect
from nertune.errors import DataError
from nertune.prompt import KNOWN_ANSWERS


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


TURNS = [{"from": "human", "value": "找：北京"}, {"from": "gpt", "value": "[]"}]
MESSAGES = [{"role": "user", "content": "找：北京"}, {"role": "assistant", "content": "[]"}]

# (format, the file's name, its content); a name with a slash makes a folder, which is what is detected.
SAMPLES = [
    ("cluener", "train.jsonl", lines({"text": "在北京", "label": {"地点": {"北京": [[1, 2]]}}})),
    ("cluener", "test.jsonl", lines({"id": 1, "text": "在北京"})),
    ("entities", "cmeee.json", json.dumps([{"text": "a", "entities": [{"start_idx": 0, "end_idx": 0, "type": "x"}]}])),
    ("entities", "empty.jsonl", lines({"text": "a", "entities": []})),
    ("alpaca", "alpaca.json", json.dumps([{"instruction": "i", "input": "a", "output": "[]"}])),
    (
        "alpaca",
        "whole.jsonl",
        lines({"instruction": "<输入文本>\n在[北京 | a]", "output": "在[北京 | a]", "system": "s"}),
    ),
    ("sharegpt", "sharegpt.json", json.dumps([{"conversations": TURNS}], indent=1)),
    ("sharegpt", "messages.jsonl", lines({"messages": MESSAGES}, {"messages": MESSAGES})),
    ("inline", "brackets.txt", "在[北京 | 地点]\n无\n"),
    ("inline", "tags.txt", "无\n在<地点>北京</地点>\n"),
    (
        "entities",
        "doccano-relations.jsonl",
        lines(
            {
                "id": 1,
                "text": "a",
                "entities": [{"id": 2, "label": "x", "start_offset": 0, "end_offset": 1}],
                "relations": [],
            }
        ),
    ),
    (
        "doccano",
        "export.jsonl",
        lines({"id": 1, "text": "a", "label": []}, {"id": 2, "text": "a", "label": [[0, 1, "x"]]}),
    ),
    ("doccano", "labels.jsonl", lines({"text": "a", "labels": [[0, 1, "x"]]})),
    ("doccano", "data.jsonl", lines({"id": 1, "data": "a", "label": [[0, 1, "x"]]})),
    ("doccano", "old.jsonl", lines({"text": "a", "annotations": [{"label": 1, "start_offset": 0, "end_offset": 1}]})),
    ("labelstudio", "tasks.json", json.dumps([{"id": 1, "data": {"text": "a"}, "annotations": [{"result": []}]}])),
    ("labelstudio", "unannotated.json", json.dumps([{"data": {"text": "a"}}])),
    ("labelstudio", "min.json", json.dumps([{"text": "a", "ner": [{"start": 0, "end": 1, "labels": ["x"]}]}])),
    ("brat", "folder/doc.txt folder/doc.ann", "T1\tX 0 1\tT\n"),
    ("brat", "doc.ann", "T1\tX 0 1\tT\n"),
    ("conll", "file", "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n"),
    ("conll", "file", "-DOCSTART- -X- O O\n\nEU NNP B-NP I-ORG\nrejects VBZ B-VP O\n"),
    ("conll", "file", "叶\tB-PER\n老\tI-PER\n"),
    ("conll", "file", "# id = 3\n# text = a b\na\tO\nb\tS-X\n"),
    ("conll", "file", "[ O\n北 B-LOC\n] O\n"),
    ("hf", "file", '{"id": "0", "tokens": ["EU"], "ner_tags": [3]}'),
    ("hf", "file", '{"id": "0", "text": "EU", "tokens": ["EU"], "ner_tags": ["B-ORG"]}'),
    ("hf", "file", '[{"tokens": ["EU"], "tags": [3]}]'),
    ("spacy", "file", '[["Uber blew", {"entities": [[0, 4, "ORG"]]}]]'),
    ("spacy", "file", '["Uber blew", {"entities": [[0, 4, "ORG"]]}]\n'),
    ("spacy", "file", '{"classes": ["ORG"], "annotations": [["Uber blew", {"entities": [[0, 4, "ORG"]]}]]}'),
    ("spacy", "file", '{"text": "Uber", "entities": []}\n{"text": "Uber", "entities": [[0, 4, "ORG"]]}'),
    ("spacy", "file", '{"text": "Uber", "ents": [{"start": 0, "end": 4, "label": "ORG"}], "tokens": []}'),
    ("spacy", "file", '[{"id": 0, "paragraphs": [{"raw": "Uber", "sentences": []}]}]'),
]


@pytest.mark.parametrize(("format", "name", "content"), SAMPLES)
def test_each_sample_is_known(tmp_path: Path, format: str, name: str, content: str) -> None:
    for part in name.split():
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text(content, encoding="utf-8")
    first = name.split()[0]
    assert detect(tmp_path / (first.split("/")[0]), answers=KNOWN_ANSWERS) == format


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (
            '{"text": "a", "label": [[0, 1, "X"]]}\n{"text": "b", "label": [[0, 1]]}\n',
            2,
            "before it the file looks like doccano, and this record is an object with the keys 'text', 'label'",
        ),
        ("EU B-ORG\nrejects O\nGerman S-MISC\ncall Q-X\n", 4, "looks like conll, and this line is 'call Q-X'"),
        ("[a | X] b\n[c | Y d\n[e | Z]\n", 2, "looks like inline, and this line is '[c | Y d'"),
    ],
)
def test_what_begins_in_a_format_is_told_where_it_no_longer_is(
    tmp_path: Path, content: str, line: int, said: str
) -> None:
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        detect(path, answers=KNOWN_ANSWERS)
    assert str(caught.value).startswith(f"{path}:{line}: the format cannot be told: ")
    assert said in str(caught.value)


def test_utf_16_is_read_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"text": "a", "entities": []}', encoding="utf-16")
    assert detect(path) == "entities"
