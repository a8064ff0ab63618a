"""The entities family, and its canonical member."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data import detect, read, write
from nertune.errors import DataError
from nertune.schema import Document, Entity, Mention, Prediction

Jsonl = Callable[..., Path]

TEXT = "阿美达在和落岛"
NAMES = ["地址", "地点", "地名"]


@pytest.mark.parametrize(
    "entity",
    [
        {"start": 4, "end": 7, "label": "地点", "text": "和落岛"},
        {"start_idx": 4, "end_idx": 6, "type": "地点", "entity": "和落岛"},
        {"start_offset": 5, "end_offset": 7, "entity_type": "地点", "entity_text": "和落岛"},
        {"start": 4, "end": 7, "entity_label": "地点", "text": None},
        {"id": 3, "label": "地点", "start_offset": 4, "end_offset": 7},
    ],
)
def test_the_family(jsonl: Jsonl, array: Callable[[Sequence[object]], Path], entity: dict[str, object]) -> None:
    row = {"id": 12, "text": TEXT, "entities": [entity], "relations": []}
    for path in (jsonl(row), array([row])):
        corpus = read(path)
        assert corpus.format == "entities"
        assert corpus.documents == (Document.of(TEXT, [("地点", 4, 7)], id="12"),)


def test_nested_inclusive_array(array: Callable[[Sequence[object]], Path]) -> None:
    entities = [
        {"start_idx": 5, "end_idx": 8, "type": "sym", "entity": "细胞减少"},
        {"start_idx": 5, "end_idx": 6, "type": "bod", "entity": "细胞"},
    ]
    corpus = read(array([{"text": "研究证实，细胞减少", "entities": entities}]))
    assert [(e.label, e.start, e.end) for e in corpus.documents[0].entities] == [("sym", 5, 9), ("bod", 5, 7)]
    assert corpus.notes == ("spans: inclusive, by 2 of 2 mentions",)


def test_display_names(jsonl: Jsonl) -> None:
    place = {"start_idx": 4, "end_idx": 7, "entity_text": "和落岛", "entity_label": "LOC", "entity_names": NAMES}
    person = {"start_idx": 0, "end_idx": 3, "entity_text": "阿美达", "entity_label": "PER", "entity_names": ["姓名"]}
    path = jsonl({"text": TEXT, "entities": [place, person]})
    assert [e.label for e in read(path).documents[0].entities] == ["PER", "LOC"]
    corpus = read(path, labels=("地名", "地点"))
    assert [e.label for e in corpus.documents[0].entities] == ["PER", "地点"]
    assert corpus.notes[-1] == "mentions with none of the wanted labels, kept under their own: 1"
    assert len(read(path, labels=("地点", "姓名")).notes) == 1


def test_extraction_output_is_read(jsonl: Jsonl) -> None:
    prediction = Prediction(
        TEXT, (Entity("人名", 0, 3, "阿美达", 0.5),), (Mention("人名", "张三"),), stop="length", id="x"
    )
    corpus = read(jsonl(prediction.to_json()))
    assert corpus.documents == (Document(TEXT, prediction.entities, "x"),)


def test_canonical_form(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write([Document.of("a😀b", [("E", 1, 2)], id="1"), Document("")], path, format="entities")
    assert path.read_text(encoding="utf-8") == (
        '{"id": "1", "text": "a😀b", "entities": [{"start": 1, "end": 2, "label": "E", "text": "😀"}]}\n'
        '{"text": "", "entities": []}\n'
    )


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(
        st.text(
            st.one_of(
                st.sampled_from('a中😀𠀀é\u0301\u200d\n\u2028"\\'),
                st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            ),
            max_size=20,
        )
    )
    spans = st.tuples(st.integers(0, max(len(text) - 1, 0)), st.integers(1, max(len(text), 1)))
    chosen = draw(st.sets(st.tuples(st.sampled_from(["地点", "PER"]), spans), max_size=5)) if text else set()
    score = draw(st.none() | st.floats(0, 1))
    entities = [Entity(label, s, e, text[s:e], score) for label, (s, e) in chosen if s < e]
    return Document(text, tuple(entities), draw(st.none() | st.text("id中", max_size=3)))


@settings(max_examples=50, deadline=None)
@given(st.lists(documents(), min_size=1, max_size=6))
def test_round_trip(given_documents: list[Document]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "out.jsonl"
        write(given_documents, path, format="entities")
        assert detect(path) == "entities"
        documents = read(path).documents
        assert documents == tuple(given_documents)
        # Entities are equal whatever their scores.
        assert [e.score for d in documents for e in d.entities] == [
            e.score for d in given_documents for e in d.entities
        ]


SOUND = {"text": "a", "entities": []}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a"}, "the record has no 'entities'; its keys are 'text'"),
        ({"entities": []}, "the record has no 'text'; its keys are 'entities'"),
        ({"text": None, "entities": []}, "'text' must be a string, found null"),
        ({"text": "a", "entities": {}}, "'entities' must be a list, found an empty object"),
        ({"text": "a", "entities": [[0, 1, "X"]]}, "entity 1 must be an object, found a list of 3"),
        (
            {"text": "a", "entities": [{"label": "X", "text": "a"}]},
            "entity 1 has no offsets (start/end, start_idx/end_idx, start_offset/end_offset): "
            "an object with the keys 'label', 'text'",
        ),
        ({"text": "a", "entities": [{"start": 0, "end": 1}]}, "entity 1 has no label (label, type, entity_label, "),
        ({"text": "a", "entities": [{"start": "0", "end": 1, "label": "X"}]}, "'start' must be a whole number, found "),
        ({"text": "a", "entities": [{"start": 0, "end": 1.0, "label": "X"}]}, "'end' must be a whole number, found "),
        ({"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "text": 1}]}, "its surface must be a string"),
        ({"text": "a", "entities": [{"start": 0, "end": 1, "label": None}]}, "a label must be a string, found null"),
        ({"text": "a", "entities": [{"start": 0, "end": 1, "label": "A|B"}]}, "label 'A|B' cannot be used"),
        (
            {"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "score": 95}]},
            "entity 1: 'score' must be a probability from 0 to 1, found the number 95",
        ),
    ],
)
def test_wrong_shapes(jsonl: Jsonl, row: object, said: str) -> None:
    path = jsonl(SOUND, row)
    with pytest.raises(DataError) as caught:
        read(path, format="entities")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


def test_limit_stops_early_but_not_before_the_vote(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    row = json.dumps({"text": "在北京", "entities": [{"start": 1, "end": 2, "label": "X", "text": "北京"}]})
    first = json.dumps({"text": "aaa", "entities": [{"start": 0, "end": 1, "label": "X", "text": "a"}]})
    path.write_text("\n".join([first, *[row] * 1_199, "broken"]), encoding="utf-8")
    corpus = read(path, limit=1)
    assert len(corpus.documents) == 1
    assert corpus.notes[0] == "spans: inclusive, by 999 of 1,000 mentions (half-open 1), in the first 1,000 records"
    assert len(read(path, limit=1_100).documents) == 1_100
    with pytest.raises(DataError, match=r"long\.jsonl:1201: "):
        read(path)


def test_tasks_of_prodigy_are_read_and_those_that_were_rejected_are_counted(jsonl: Jsonl) -> None:
    task = {"text": "Apple in Rome", "_input_hash": 1, "_task_hash": 2, "answer": "accept"}
    spans = [{"start": 0, "end": 5, "label": "ORG", "token_start": 0, "token_end": 0}]
    refused = [{**task, "answer": "reject", "spans": spans}, {**task, "answer": "ignore"}]
    corpus = read(jsonl({**task, "spans": spans}, task, *refused))
    assert corpus.format == "entities"
    assert corpus.documents == (Document.of("Apple in Rome", [("ORG", 0, 5)]), Document("Apple in Rome"))
    assert corpus.notes[1:] == ("tasks that were rejected or ignored in Prodigy, passed over: 2",)
