"""What each measure takes as gold and as predicted."""

from __future__ import annotations

import pytest

from nertune.evaluate.measures import gold_keys, predicted_keys
from nertune.schema import Document, Entity, Mention, Prediction

TEXT = "北京人爱北京"
TWICE = [("address", 0, 2), ("address", 4, 6)]


def prediction(spans: list[tuple[str, int, int]], *ungrounded: tuple[str, str]) -> Prediction:
    entities = tuple(Entity(label, start, end, TEXT[start:end]) for label, start, end in spans)
    return Prediction(TEXT, entities, tuple(Mention(label, text) for label, text in ungrounded))


def test_text_joins_two_mentions_of_one_name_and_span_keeps_them_apart() -> None:
    gold = Document.of(TEXT, TWICE)
    assert gold_keys(gold, measure="text") == {("address", "北京")}
    assert gold_keys(gold, measure="span") == {("address", (0, 2)), ("address", (4, 6))}


@pytest.mark.parametrize("measure", ["text", "span"])
def test_duplicates_collapse_on_both_sides(measure: str) -> None:
    once, twice = [("address", 0, 2)], [("address", 0, 2)] * 2
    assert gold_keys(Document.of(TEXT, twice), measure=measure) == gold_keys(Document.of(TEXT, once), measure=measure)
    assert predicted_keys(prediction(twice), measure=measure) == predicted_keys(prediction(once), measure=measure)


def test_one_place_under_two_labels_is_two_keys() -> None:
    both = [("address", 0, 2), ("organization", 0, 2)]
    assert len(predicted_keys(prediction(both), measure="span")) == 2
    assert len(predicted_keys(prediction(both), measure="text")) == 2


def test_an_invented_name_counts_once_in_each_measure() -> None:
    found = prediction([("address", 0, 2)], ("name", "叶老桂"), ("name", "叶老桂"))
    assert predicted_keys(found, measure="text") == {("address", "北京"), ("name", "叶老桂")}
    assert predicted_keys(found, measure="span") == {("address", (0, 2)), ("name", "叶老桂")}


def test_naming_something_more_often_than_it_stands_is_a_repetition() -> None:
    found = prediction(TWICE, ("address", "北京"))
    assert predicted_keys(found, measure="text") == {("address", "北京")}
    assert predicted_keys(found, measure="span") == {("address", (0, 2)), ("address", (4, 6))}


def test_a_repetition_under_another_label_is_spurious() -> None:
    found = prediction(TWICE, ("organization", "北京"))
    assert ("organization", "北京") in predicted_keys(found, measure="span")
