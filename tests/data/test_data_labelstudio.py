"""Label Studio's tasks as it exports them, and as it imports them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nertune.cli import main
from nertune.data import read, write
from nertune.errors import DataError
from nertune.schema import Document, Entity

Array = Callable[[Sequence[object]], Path]
Json = dict[str, object]

TEXT = "😀 Anna lives in Berlin"
ANNA, BERLIN = ("PER", 2, 6, "Anna"), ("LOC", 16, 22, "Berlin")


def region(label: str, start: int, end: int, text: str | None, **further: object) -> Json:
    value = {"start": start, "end": end, "labels": [label]} | ({} if text is None else {"text": text})
    return {
        "id": "x1",
        "from_name": "ner",
        "to_name": "text",
        "type": "labels",
        "origin": "manual",
        "value": value,
        **further,
    }


def annotation(*result: Json, **further: object) -> Json:
    return {
        "id": 9,
        "completed_by": 1,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        **further,
    }


def task(*annotations: Json, **further: object) -> Json:
    row = {"id": 1, "annotations": list(annotations), "predictions": [], "drafts": [], "data": {"text": TEXT}}
    return row | {"meta": {}, "created_at": "2024-01-01T00:00:00Z", "project": 3} | further


def entities(path: Path, **options: object) -> list[tuple[str, str]]:
    return [(e.label, e.text) for d in read(path, **options).documents for e in d.entities]  # type: ignore[arg-type]


def test_an_export(array: Array) -> None:
    corpus = read(array([task(annotation(region(*ANNA), region(*BERLIN)))]))
    assert corpus.format == "labelstudio"
    assert corpus.documents == (Document.of(TEXT, [("PER", 2, 6), ("LOC", 16, 22)], id="1"),)
    assert corpus.notes == ("spans: half-open, by 2 of 2 mentions",)


def test_an_export_that_counts_utf_16_units(array: Array) -> None:
    corpus = read(array([task(annotation(region("PER", 3, 7, "Anna"), region("E", 0, 2, "😀")))]))
    assert corpus.documents == (Document.of(TEXT, [("E", 0, 1), ("PER", 2, 6)], id="1"),)
    assert corpus.notes[0].startswith("spans: half-open UTF-16 units, by 2 of 2 mentions")


def test_without_surfaces_the_spans_tell(array: Array) -> None:
    assert entities(array([task(annotation(region("LOC", 17, 23, None)))])) == [("LOC", "Berlin")]


def test_completions_are_annotations_and_the_predictions_of_old_exports_go_by_number(array: Array) -> None:
    old = {"id": 1, "data": {"text": TEXT}, "completions": [annotation(region(*ANNA))], "predictions": [4, 5]}
    assert entities(array([old])) == [("PER", "Anna")]


def test_json_min(array: Array) -> None:
    regions = [{"start": 2, "end": 6, "text": "Anna", "labels": ["PER", "FEMALE"]}]
    row = {
        "text": TEXT,
        "id": 5,
        "ner": regions,
        "annotator": 1,
        "annotation_id": 2,
        "lead_time": 1.5,
        "created_at": "x",
    }
    bare = {key: value for key, value in row.items() if key != "ner"}
    corpus = read(array([row, bare]))
    assert corpus.format == "labelstudio"
    assert corpus.documents == (Document.of(TEXT, [("PER", 2, 6), ("FEMALE", 2, 6)], id="5"), Document(TEXT, (), "5"))


@pytest.mark.parametrize(
    ("annotations", "label"),
    [
        ([("A", {}), ("B", {})], "A"),
        ([("A", {}), ("B", {"ground_truth": True})], "B"),
        ([("A", {"was_cancelled": True, "ground_truth": True}), ("B", {})], "B"),
    ],
)
def test_one_annotation_of_a_task_is_read(array: Array, annotations: list[tuple[str, Json]], label: str) -> None:
    given = [annotation(region(name, *ANNA[1:]), **further) for name, further in annotations]
    assert entities(array([task(*given)])) == [(label, "Anna")]


def test_what_annotators_say_else_is_counted(array: Array) -> None:
    one, other = annotation(region(*ANNA)), annotation(region(*ANNA), region(*BERLIN))
    path = array([task(one, one), task(one, other), task(annotation(region(*ANNA), was_cancelled=True), other), task()])
    corpus = read(path)
    assert [len(d.entities) for d in corpus.documents] == [1, 1, 2, 0]
    assert corpus.notes[1:] == (
        "tasks with several annotations, of which the ground truth or else the first is read: 2",
        "tasks whose annotations differ from each other: 1",
        "annotations that were cancelled, passed over: 1",
        "tasks without an annotation: unannotated: 1",
    )
    # What is beyond the limit was read for the vote, and is not counted.
    assert read(path, limit=1).notes[-1].endswith("is read: 1")


def test_predictions_are_read_where_nobody_annotated_or_where_they_are_asked_for(array: Array) -> None:
    predictions = [
        {"model_version": "v1", "score": 0.4, "result": [region(*BERLIN, score=0.25)]},
        {"model_version": "v0", "score": 0.3, "result": []},
    ]
    path = array([task(annotation(region(*ANNA)), predictions=predictions), task(predictions=predictions)])
    corpus = read(path)
    assert [[(e.text, e.score) for e in d.entities] for d in corpus.documents] == [[("Anna", None)], [("Berlin", 0.25)]]
    assert corpus.notes[1:] == (
        "tasks without an annotation, of which the first prediction is read: 1",
        "further predictions of a task, passed over: 1",
    )
    assert entities(path, predictions=True) == [("LOC", "Berlin"), ("LOC", "Berlin")]
    assert "tasks of which the prediction is read and the annotation is not: 1" in read(path, predictions=True).notes


def test_what_is_no_entity_is_counted(array: Array) -> None:
    others = [
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        {"type": "choices", "from_name": "c", "to_name": "text", "value": {"choices": ["good"]}},
        {"type": "rating", "value": {"rating": 3}},
        region("X", 0, 1, "😀") | {"value": {"start": 0, "end": 1, "labels": []}},
    ]
    corpus = read(array([task(annotation(region(*ANNA), *others))]))
    assert len(corpus.documents[0].entities) == 1
    assert corpus.notes[1:] == (
        "relations passed over: 1",
        "results of the type 'choices' passed over: 1",
        "other results passed over: 1",
        "regions without a label passed over: 1",
    )


def test_hypertext_is_read_by_its_global_offsets(array: Array) -> None:
    value = {"start": "/p[1]/text()[1]", "end": "/p[1]/text()[1]", "startOffset": 2, "endOffset": 6, "text": "Anna"}
    places = {"globalOffsets": {"start": 2, "end": 6}, "hypertextlabels": ["PER"]}
    item = {"type": "hypertextlabels", "to_name": "text", "value": value | places}
    assert entities(array([task(annotation(item))])) == [("PER", "Anna")]


def test_line_breaks_that_the_editor_wrote_as_backslash_n(array: Array) -> None:
    text = "New York, New\r\nYork"
    path = array([task(annotation(region("LOC", 10, 19, "New\\nYork")), data={"text": text})])
    assert entities(path) == [("LOC", "New\r\nYork")]


@pytest.mark.parametrize(
    ("data", "to_name", "columns", "id"),
    [
        ({"content": TEXT}, "text", None, "1"),
        ({"content": TEXT, "title": "x"}, "content", None, "1"),
        ({"text": TEXT, "title": "x", "id": "mine"}, "body", None, "mine"),
        ({"body": TEXT, "text": "x", "number": 8}, "text", {"text": "body", "id": "number"}, "8"),
        ({"text": TEXT, "id": {"odd": 1}}, "text", None, "1"),
    ],
)
def test_the_key_of_the_text(array: Array, data: Json, to_name: str, columns: dict[str, str] | None, id: str) -> None:
    corpus = read(array([task(annotation(region(*ANNA, to_name=to_name)), data=data)]), columns=columns)
    assert corpus.documents == (Document.of(TEXT, [("PER", 2, 6)], id=id),)


def test_tasks_as_label_studio_imports_them(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    scored = Document(TEXT, (Entity(*ANNA, 0.5), Entity(*BERLIN, 0.75)), "7")
    write([Document.of(TEXT, [("PER", 2, 6)]), scored, Document("无")], path, format="labelstudio")
    plain, predicted, empty = json.loads(path.read_text(encoding="utf-8"))
    anna = {"id": "e1", "from_name": "label", "to_name": "text", "type": "labels"}
    anna["value"] = {"start": 2, "end": 6, "text": "Anna", "labels": ["PER"]}
    assert plain == {"data": {"text": TEXT}, "annotations": [{"result": [anna]}]}
    assert predicted["data"] == {"text": TEXT, "id": "7"}
    assert [item["score"] for item in predicted["predictions"][0]["result"]] == [0.5, 0.75]
    assert predicted["predictions"][0]["score"] == 0.5
    assert empty == {"data": {"text": "无"}, "annotations": [{"result": []}]}
    write([], path, format="labelstudio")
    assert json.loads(path.read_text(encoding="utf-8")) == []


def wrong(**changes: object) -> Json:
    sound = region(*ANNA)
    return sound | {"value": sound["value"] | changes}  # type: ignore[operator]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"data": 3}, "'data' must be an object that holds the task's text"),
        (
            {"data": {"a": "x", "b": "y"}},
            "which key of 'data' holds the text? Its strings are 'a', 'b'; name one: --column",
        ),
        ({"data": {"text": 1}}, "Its strings are (none)"),
        (task(annotations=3), "'annotations' must be a list of objects, found the number 3"),
        (task(annotations=["x"]), "'annotations' must be a list of objects, found a list of 1"),
        (task(predictions={"a": 1}), "'predictions' must be a list of objects, found an object with the keys 'a'"),
        (task({"result": "x"}), "'result' must be a list, found the string 'x'"),
        (task({"result": [1]}), "result 1 must be an object, found the number 1"),
        (task(annotation(wrong(start=None))), "result 1: 'start' and 'end' must be whole numbers, found null"),
        (task(annotation(wrong(end=1.5))), "result 1: 'start' and 'end' must be whole numbers, found the number 1.5"),
        (task(annotation(wrong(start="/p[1]"))), "a HyperText's regions need 'globalOffsets'"),
        (task(annotation(wrong(text=7))), "result 1: 'text' must be a string, found the number 7"),
        (task(annotation(wrong(labels=[None]))), "a label must be a string, found null"),
        (task(annotation(region(*ANNA, score=7))), "'score' must be a probability from 0 to 1, found the number 7"),
    ],
)
def test_wrong_shapes_are_told_with_their_line(jsonl: Callable[..., Path], row: object, said: str) -> None:
    path = jsonl(task(), row)
    with pytest.raises(DataError) as caught:
        read(path, format="labelstudio")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("inside", ["[" * 90_000, '{"start": ' + "[" * 900 + "]" * 900 + ', "labels": ["X"]}'])
def test_deep_nesting_is_an_error_and_no_crash(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "deep.json"
    result = f'{{"result": [{{"value": {inside}}}]}}'
    path.write_text(f'[\n{{"data": {{"text": "a"}}, "annotations": [{result}, {result}]}}\n]')
    with pytest.raises(DataError, match=r"deep\.json:[12]: "):
        read(path, format="labelstudio")


def test_convert_both_ways(tmp_path: Path, array: Array, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = [{"score": 0.9, "result": [region(*BERLIN, score=0.25)]}]
    source = array([task(annotation(region(*ANNA)), predictions=predictions)])
    target, back = tmp_path / "out.jsonl", tmp_path / "back.json"
    assert main(["data", "convert", str(source), str(target), "--predictions"]) == 0
    assert read(target).documents[0].entities[0].score == 0.25
    assert main(["data", "convert", str(target), str(back), "--to", "labelstudio"]) == 0
    assert read(back).documents == (Document.of(TEXT, [("LOC", 16, 22)], id="1"),)
    assert "cannot hold" not in capsys.readouterr().err
