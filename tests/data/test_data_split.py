"""The split is seeded, complete, and no text is on both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data import split, split_first
from nertune.errors import InputError
from nertune.schema import Document

TEN = [Document(f"text {number}") for number in range(10)]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=40), st.floats(0.05, 0.9), st.integers(0, 99))
def test_nothing_is_lost_and_no_text_straddles(texts: list[str], share: float, seed: int) -> None:
    documents = [Document(text, id=str(number)) for number, text in enumerate(texts)]
    try:
        train, held_out = split(documents, held_out=share, seed=seed)
    except InputError:
        assert max(texts.count(text) for text in texts) > min(share, 1 - share) * len(texts) - 1
        return
    assert sorted((*train, *held_out), key=lambda d: int(d.id or "")) == documents
    assert not {document.text for document in train} & {document.text for document in held_out}
    assert 0 < len(held_out) <= max(1, round(len(texts) * share))


def test_pinned_on_every_platform() -> None:
    first = split(TEN, held_out=3, seed=1024)
    assert [document.text for document in first.held_out] == ["text 5", "text 1", "text 8"]
    assert split(TEN, held_out=0.3, seed=1024) == first
    assert split(TEN, held_out=3, seed=1025) != first


def test_distinct_texts_give_the_exact_number() -> None:
    assert len(split(TEN, held_out=4, seed=0).held_out) == 4
    assert len(split(TEN, held_out=0.01, seed=0).held_out) == 1


@pytest.mark.parametrize("held_out", [0, -1, 0.0, 1.0, 1.5, float("nan"), True])
def test_held_out_out_of_range(held_out: float) -> None:
    with pytest.raises(InputError, match="held_out must be a share between 0 and 1 or a number of documents from 1"):
        split(TEN, held_out=held_out, seed=0)


@pytest.mark.parametrize(("documents", "held_out"), [(TEN, 10), ([], 0.5), ([Document("a")], 0.5)])
def test_nothing_left_to_train_on(documents: list[Document], held_out: float) -> None:
    with pytest.raises(InputError, match="nothing would be left to train on"):
        split(documents, held_out=held_out, seed=0)


def test_one_text_cannot_be_split() -> None:
    with pytest.raises(InputError, match="4 documents with 1 different texts cannot be split"):
        split([Document("same")] * 4, held_out=2, seed=0)


def test_the_first_documents_are_held_out_in_their_order_and_no_text_of_theirs_is_trained() -> None:
    documents = [*TEN, TEN[0], Document("text 10")]
    assert split_first(documents, held_out=0.25) == ((*TEN[3:], Document("text 10")), tuple(TEN[:3]))


def test_a_file_that_repeats_its_first_documents_leaves_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match="every document after the first 2 repeats"):
        split_first([*TEN[:2], TEN[1], TEN[0]], held_out=0.5)
