"""How a tool's predictions find their gold documents, and what is said of those that do not."""

from __future__ import annotations

import pytest

from nertune.errors import InputError
from nertune.evaluate.pairing import pair
from nertune.schema import Document, Prediction


def gold(*texts: str, ids: str = "") -> list[Document]:
    return [Document(text, id=ids[n] if ids else None) for n, text in enumerate(texts)]


def predictions(*texts: str, ids: str = "") -> list[Prediction]:
    return [Prediction(text, id=ids[n] if ids else None) for n, text in enumerate(texts)]


def test_the_same_texts_in_the_same_order_are_paired_as_they_stand() -> None:
    found = pair(gold("甲", "甲", ids="ab"), predictions("甲", "甲", ids="ba"))
    assert (found.way, [p.id for p in found.predictions], found.notes) == ("position", ["b", "a"], ())


def test_ids_pair_in_any_order() -> None:
    found = pair(gold("甲", "乙", ids="ab"), predictions("乙", "甲", ids="ba"))
    assert (found.way, [p.text for p in found.predictions]) == ("id", ["甲", "乙"])
    assert "paired by id" in found.notes


def test_an_id_of_two_texts_is_refused() -> None:
    with pytest.raises(InputError, match=r"document 1: gold and prediction are not of the same text.*'甲'.*'丙'"):
        pair(gold("甲", "乙", ids="ab"), predictions("乙", "丙", ids="ba"))


@pytest.mark.parametrize("ids", ["", "aa", "xy"])
def test_without_common_ids_texts_pair_the_first_of_a_text_with_the_first(ids: str) -> None:
    found = pair(gold("甲", "乙", "甲", ids="abc"), [*predictions("乙", "甲", ids=ids), Prediction("甲", id="last")])
    assert (found.way, [p.text for p in found.predictions]) == ("text", ["甲", "乙", "甲"])
    assert found.predictions[2].id == "last"


def test_predictions_of_no_gold_document_are_left_out_and_counted() -> None:
    found = pair(gold("甲"), predictions("乙", "甲", "丙"))
    assert [p.text for p in found.predictions] == ["甲"]
    assert "2 of 3 predictions are of no gold document and left out" in found.notes


def test_a_gold_document_without_a_prediction_is_refused_by_name_unless_it_counts_as_empty() -> None:
    with pytest.raises(
        InputError, match=r"2 of 3 gold documents have no prediction by id: 2 \(id b, '乙'\), 3 .*--missing-empty"
    ):
        pair(gold("甲", "乙", "丙", ids="abc"), predictions("甲", ids="a"))
    found = pair(gold("甲", "乙", ids="ab"), predictions("甲", ids="a"), missing_empty=True)
    assert found.predictions[1] == Prediction("乙", id="b")
    assert any("1 of 2" in note and "nothing was predicted" in note for note in found.notes)


def test_nothing_that_pairs_is_refused_with_both_beginnings() -> None:
    with pytest.raises(InputError, match=r"nothing pairs.*'甲 '.*'甲'.*unchanged to the last space"):
        pair(gold("甲 "), predictions("甲"))


def test_nothing_on_both_sides_pairs() -> None:
    assert pair([], []).predictions == ()
