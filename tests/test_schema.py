"""The shared words: an entity is its slice, documents are in reading order, label sets hold usable names."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune import schema
from nertune.errors import InputError
from nertune.schema import Document, Entity, LabelSet, Mention, ParseOutcome, Prediction, best_of_each, in_reading_order


@pytest.mark.parametrize(
    ("start", "end", "text", "message"),
    [
        (0, 0, "", "empty or negative"),
        (3, 2, "x", "empty or negative"),
        (-1, 1, "ab", "empty or negative"),
        (0, 2, "𠮷", "has 1 characters, its span"),
    ],
)
def test_impossible_entities(start: int, end: int, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Entity("n", start, end, text)


@pytest.mark.parametrize("holder", [Document, Prediction])
def test_an_entity_must_be_its_slice(holder: type[Document] | type[Prediction]) -> None:
    with pytest.raises(InputError, match=r"'桂' \(n\) is not what the text holds at \[0, 1\): '叶'"):
        holder("叶老桂", (Entity("n", 0, 1, "桂"),))
    with pytest.raises(InputError, match=r"\[2, 4\): '桂'"):
        holder("叶老桂", (Entity("n", 2, 4, "桂桂"),))


SPANS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 6)).filter(lambda s: s[1] < s[2]))


@given(SPANS)
def test_documents_are_in_reading_order(spans: list[tuple[str, int, int]]) -> None:
    document = Document.of("a𠮷b😀 c", spans)
    keys = [(e.start, -e.end, e.label) for e in document.entities]
    assert keys == sorted((start, -end, label) for label, start, end in spans)
    assert all(document.text[e.start : e.end] == e.text for e in document.entities)
    assert in_reading_order(reversed(document.entities)) == document.entities
    assert Prediction(document.text, tuple(reversed(document.entities))).entities == document.entities


def test_everything_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Document("x").text = "y"


def test_prediction_as_json() -> None:
    prediction = Prediction(
        "叶老桂", (Entity("n", 0, 3, "叶老桂", 0.5),), (Mention("p", "南京"),), "length", ParseOutcome.REPAIRED, "7"
    )
    assert prediction.to_json() == {
        "id": "7",
        "text": "叶老桂",
        "entities": [{"start": 0, "end": 3, "label": "n", "text": "叶老桂", "score": 0.5}],
        "ungrounded": [{"label": "p", "text": "南京"}],
        "stop": "length",
    }


def test_the_parts_of_a_score_are_further_keys() -> None:
    (entity,) = Prediction("叶", (Entity("n", 0, 1, "叶", 0.25, 0.5, 0.5),)).to_json()["entities"]
    assert entity == {
        "start": 0,
        "end": 1,
        "label": "n",
        "text": "叶",
        "score": 0.25,
        "span_score": 0.5,
        "label_score": 0.5,
    }


def test_scores_are_written_with_six_digits() -> None:
    (entity,) = Prediction("叶", (Entity("n", 0, 1, "叶", 0.98712345678, 0.99999999, 1e-9),)).to_json()["entities"]
    assert (entity["score"], entity["span_score"], entity["label_score"]) == (0.987123, 1.0, 0.0)


def test_an_entity_is_the_same_whatever_its_scores() -> None:
    plain, scored = Entity("n", 0, 1, "叶"), Entity("n", 0, 1, "叶", 0.25, 0.5, 0.5)
    assert plain == scored
    assert {plain, scored} == {plain}
    assert dataclasses.replace(scored, start=2, end=3).label_score == 0.5


def test_of_equal_entities_the_best_is_kept_in_the_first_ones_place() -> None:
    other = Entity("p", 0, 1, "叶", 0.1)
    scored = [Entity("n", 0, 1, "叶", score) for score in (None, 0.5, 0.75, None, 0.0)]
    kept = best_of_each([scored[0], other, *scored[1:]])
    assert [(e.label, e.score) for e in kept] == [("n", 0.75), ("p", 0.1)]


@pytest.mark.parametrize("name", ["", " a", "a ", "a[", "a]", "a|b", "a\\", "a\nb", "\u3000"])
def test_unusable_labels(name: str) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        LabelSet(("ok", name))


def test_label_sets_are_sets() -> None:
    with pytest.raises(InputError, match="at least one label"):
        LabelSet(())
    with pytest.raises(InputError, match="named twice: a, b"):
        LabelSet(("b", "a", "b", "a", "c"))
    labels = LabelSet(("organization", "地点"))
    assert (list(labels), len(labels)) == (["organization", "地点"], 2)
    assert "地点" in labels
    assert "人名" not in labels
    assert labels.nearest("organisation") == "organization"
    assert labels.nearest("xyz") is None


LOC = LabelSet(("LOC", "PER", "X"), {"LOC": "地点", "X": "X"}, {"PER": "人的名字", "LOC": "城市"})


def test_display_names_are_what_a_model_sees_and_labels_what_entities_bear() -> None:
    assert LOC.display == {"LOC": "地点"}
    assert LOC.shown() == LabelSet(("地点", "PER", "X"), {}, {"地点": "城市", "PER": "人的名字"})
    assert [LOC.title(name) for name in LOC] == ["LOC (地点)", "PER", "X"]
    document = Document.of("方鹏在青川", [("PER", 0, 2), ("LOC", 3, 5)], id="1")
    shown = LOC.displayed(document)
    assert ([e.label for e in shown.entities], shown.text, shown.id) == (["PER", "地点"], document.text, "1")
    assert [LOC.label_of(e.label) for e in shown.entities] == ["PER", "LOC"]
    assert LOC.displayed(Document("无")) == Document("无")


def test_a_set_that_shows_its_labels_as_they_are_is_its_own_display() -> None:
    plain = LabelSet(("a", "b"))
    assert plain.shown() is plain
    assert LabelSet(("a", "b"), {"a": "a"}) == plain
    assert hash(LabelSet(("a",), {"a": "b"})) == hash(LabelSet(("a",)))
    assert LabelSet(("a",), {"a": "b"}) != LabelSet(("a",))


def test_a_label_written_for_its_display_name_is_understood_unless_another_is_shown_as_that() -> None:
    assert LOC.label_of("LOC") == "LOC"
    swapped = LabelSet(("A", "B"), {"A": "B", "B": "A"})
    assert [swapped.label_of("A"), swapped.label_of("B"), swapped.label_of("C")] == ["B", "A", "C"]


@pytest.mark.parametrize(
    ("display", "descriptions", "message"),
    [
        ({"LOC": "地|点"}, {}, r"the display name of LOC, '地\|点' cannot be used"),
        ({"LOC": "地\n点"}, {}, "the display name of LOC must be one line"),
        ({"LOC": 3}, {}, "the display name of LOC must be one line of text, found 3"),
        ({"LOK": "地点"}, {}, "a display name is given for 'LOK', which is none of the labels: LOC, PER"),
        ({"LOC": "PER"}, {}, "labels LOC and PER are both shown as 'PER': make them one label, with data.label_map"),
        ({"LOC": "x", "PER": "x"}, {}, "labels LOC and PER are both shown as 'x'"),
        ({}, {"LOC": "a\u2028b"}, "the description of LOC must be one line"),
        ({}, {"LOC": " "}, "the description of LOC must be one line"),
        ({}, {"ORG": "x"}, "a description is given for 'ORG'"),
    ],
)
def test_unusable_display_names_and_descriptions(display: dict, descriptions: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelSet(("LOC", "PER"), display, descriptions)


def test_labels_by_frequency() -> None:
    documents = [Document.of("abc", [("x", 0, 1), ("z", 1, 2)]), Document.of("abc", [("z", 0, 1), ("y", 1, 2)])]
    assert LabelSet.from_documents(documents).names == ("z", "x", "y")
    with pytest.raises(InputError, match="at least one label"):
        LabelSet.from_documents([Document("abc")])


def test_exports() -> None:
    defined = {name for name, value in vars(schema).items() if getattr(value, "__module__", "") == schema.__name__}
    assert {name for name in defined if not name.startswith("_")} | {"StopReason"} == set(schema.__all__)


def test_a_label_of_a_megabyte_is_named_as_the_cause():
    with pytest.raises(InputError, match=r"a label of 1,000,000 characters cannot be used \(LLLL.*…\).*1,000 at most"):
        LabelSet(("name", "L" * 1_000_000))


def test_ten_thousand_labels_are_a_set_of_labels():
    assert len(LabelSet(tuple(f"label {n}" for n in range(10_000)))) == 10_000
    with pytest.raises(InputError, match=r"labels named twice: label 7$"):
        LabelSet((*(f"label {n}" for n in range(10_000)), "label 7"))
