"""Doccano's exports, old and new."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nertune.cli import main
from nertune.data import detect, read, write
from nertune.errors import DataError
from nertune.schema import Document, Entity

Jsonl = Callable[..., Path]

TEXT = "叶老桂在浙商银行"
SPANS = [[0, 3, "name"], [4, 8, "company"]]
READ = Document.of(TEXT, [("name", 0, 3), ("company", 4, 8)], id="7")


@pytest.mark.parametrize(
    "row",
    [
        {"id": 7, "text": TEXT, "label": SPANS, "Comments": []},
        {"id": 7, "text": TEXT, "labels": SPANS, "meta": {"source": "x"}},
        {"id": 7, "data": TEXT, "label": SPANS},
    ],
)
def test_exports_of_all_ages(jsonl: Jsonl, row: object) -> None:
    corpus = read(jsonl(row))
    assert corpus.format == "doccano"
    assert corpus.documents == (READ,)
    assert corpus.notes == ("spans: half-open assumed, because no mention names its surface",)


def test_annotations_with_numbered_labels(jsonl: Jsonl) -> None:
    annotations = [{"label": 2, "start_offset": 0, "end_offset": 3, "user": 1}]
    corpus = read(jsonl({"id": 7, "text": TEXT, "annotations": annotations, "meta": {}}))
    assert corpus.format == "doccano"
    assert corpus.documents == (Document.of(TEXT, [("2", 0, 3)], id="7"),)
    assert corpus.notes[-1].startswith("labels are the numbers that doccano gave them")


def test_exports_with_relations_are_entities_and_read_when_asked_for(jsonl: Jsonl) -> None:
    entities = [
        {"id": 1, "label": "name", "start_offset": 0, "end_offset": 3},
        {"id": 2, "label": "company", "start_offset": 4, "end_offset": 8},
    ]
    relations = [{"id": 1, "from_id": 1, "to_id": 2, "type": "works for"}]
    path = jsonl({"id": 7, "text": TEXT, "entities": entities, "relations": relations, "Comments": ["sure?", "yes"]})
    assert detect(path) == "entities"
    assert read(path).documents == read(path, format="doccano").documents == (READ,)
    for format in (None, "doccano"):
        passed = ("relations passed over: 1", "annotators' comments passed over: 2")
        assert read(path, format=format).notes[1:] == passed


def test_rows_as_doccano_imports_them(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write([Document.of("😀Anna", [("PER", 1, 5)], id="x"), Document("")], path, format="doccano")
    assert path.read_text(encoding="utf-8") == (
        '{"id": "x", "text": "😀Anna", "label": [[1, 5, "PER"]]}\n{"text": "", "label": []}\n'
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"label": []}, "the record has no 'text'; its keys are 'label'"),
        ({"text": 1, "label": []}, "'text' must be a string, found the number 1"),
        ({"text": "a"}, "the record has no 'label'; its keys are 'text'"),
        ({"text": "a", "label": {}}, "'label' must be a list of [start, end, label], found an empty object"),
        ({"text": "a", "label": [[0, 1]]}, "'label', item 1: needs [start, end, label], found a list of 2"),
        ({"text": "a", "label": [["0", 1, "X"]]}, "found the string '0', the number 1, the string 'X'"),
        (
            {"text": "a", "labels": [[0, True, "X"]]},
            "'labels', item 1: needs [start, end, label], found the number 0, true",
        ),
        ({"text": "a", "label": [[0, 1, "A|B"]]}, "label 'A|B' cannot be used"),
        ({"text": "a", "id": [], "label": []}, "'id' must be a string or a whole number, found a list of 0"),
        ({"text": "a", "annotations": [3]}, "annotation 1 must be an object, found the number 3"),
        ({"text": "a", "annotations": "x"}, "'annotations' must be a list, found the string 'x'"),
        (
            {"text": "a", "annotations": [{"label": 1}]},
            "annotation 1 needs 'start_offset' and 'end_offset', found an obj",
        ),
        ({"text": "a", "annotations": [{"start_offset": 0, "end_offset": 1}]}, "a label must be a string, found null"),
    ],
)
def test_wrong_shapes_are_told_with_their_line(jsonl: Jsonl, row: object, said: str) -> None:
    path = jsonl({"text": "a", "label": []}, row)
    with pytest.raises(DataError) as caught:
        read(path, format="doccano")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("deep", ["[" * 5_000, '{"text": "a", "label": ' + "[" * 100_000])
def test_deep_nesting_is_an_error_and_no_crash(tmp_path: Path, deep: str) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_text('{"text": "a", "label": []}\n' + deep + "\n")
    with pytest.raises(DataError, match=r"deep\.jsonl:2: "):
        read(path, format="doccano")


def test_convert_says_what_is_lost_and_how_the_source_counts(
    tmp_path: Path, jsonl: Jsonl, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, back = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    text = "😀 Anna"
    write([Document(text, (Entity("PER", 2, 6, "Anna", 0.5),), "1")], source, format="entities")
    assert main(["data", "convert", str(source), str(target), "--to", "doccano"]) == 0
    assert "doccano cannot hold scores: 1" in capsys.readouterr().err
    counted = jsonl({"text": text, "label": [[3, 7, "PER"]]}, name="units.jsonl")
    assert main(["data", "convert", str(counted), str(back), "--offsets", "utf-16"]) == 0
    assert "half-open UTF-16 units, as told" in capsys.readouterr().err
    assert json.loads(back.read_text(encoding="utf-8"))["entities"][0]["text"] == "Anna"
