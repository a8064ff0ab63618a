"""Stratified parts, folds and few-shot samples: complete, together what belongs together, every label with its share."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data import few_shot, groups_of, split, split_folds, split_stratified, split_three
from nertune.errors import InputError
from nertune.schema import Document

LABELS = ("人名", "地点", "组织", "书名", "职位")


def document(labels: Sequence[str], number: int = 0) -> Document:
    """A document with a mention of each of the labels, as often as it is named."""
    text = f"{number}:" + "甲" * len(labels)
    start = len(text) - len(labels)
    return Document.of(text, [(label, start + i, start + i + 1) for i, label in enumerate(labels)], id=str(number))


def corpus(count: int, seed: int = 0) -> list[Document]:
    """Documents as corpora have them: a frequent label and rare ones, some documents with many mentions, some with none."""
    rng = random.Random(seed)
    weights = [400, 150, 60, 20, 8]
    return [document(rng.choices(LABELS, weights, k=rng.choice([0, 0, 1, 1, 2, 3, 6])), i) for i in range(count)]


def mentions(documents: Sequence[Document]) -> Counter[str]:
    return Counter(entity.label for document in documents for entity in document.entities)


@st.composite
def grouped_documents(draw: st.DrawFn) -> tuple[list[Document], list[int]]:
    labels = draw(st.lists(st.lists(st.sampled_from(LABELS), max_size=5), min_size=4, max_size=40))
    groups = draw(st.lists(st.integers(0, 12), min_size=len(labels), max_size=len(labels)))
    return [document(names, number) for number, names in enumerate(labels)], groups


@settings(deadline=None)
@given(grouped_documents(), st.floats(0.05, 0.45), st.floats(0.05, 0.45), st.integers(0, 99))
def test_every_document_is_in_one_part_and_no_group_straddles(
    given_documents: tuple[list[Document], list[int]], validation: float, test: float, seed: int
) -> None:
    documents, groups = given_documents
    options = {"validation": validation, "test": test, "seed": seed, "groups": groups}
    try:
        three = split_three(documents, **options)
    except InputError:
        return
    assert sorted(sum(three, ()), key=documents.index) == documents
    assert all(list(part) == sorted(part, key=documents.index) for part in three)
    sides = [{groups[documents.index(document)] for document in part} for part in three]
    assert sum(map(len, sides)) == len(set(groups))
    assert split_three(documents, **options) == three


@settings(deadline=None)
@given(grouped_documents(), st.integers(2, 6), st.integers(0, 99))
def test_every_document_is_held_out_in_one_fold(
    given_documents: tuple[list[Document], list[int]], folds: int, seed: int
) -> None:
    documents, groups = given_documents
    try:
        made = split_folds(documents, folds=folds, seed=seed, groups=groups)
    except InputError:
        return
    assert sorted((d for fold in made for d in fold.held_out), key=documents.index) == documents
    for train, held_out in made:
        assert sorted((*train, *held_out), key=documents.index) == documents
        assert not {groups[documents.index(d)] for d in train} & {groups[documents.index(d)] for d in held_out}


@settings(deadline=None)
@given(grouped_documents(), st.integers(1, 4), st.integers(0, 99))
def test_a_few_of_each_label_are_taken_and_the_rest_is_the_rest(
    given_documents: tuple[list[Document], list[int]], count: int, seed: int
) -> None:
    documents, groups = given_documents
    try:
        few = few_shot(documents, mentions=count, seed=seed, groups=groups)
    except InputError:
        return
    assert sorted((*few.taken, *few.rest), key=documents.index) == documents
    assert not {groups[documents.index(d)] for d in few.taken} & {groups[documents.index(d)] for d in few.rest}
    there, have = mentions(documents), mentions(few.taken)
    assert all(have[label] >= min(count, there[label]) for label in there)
    assert few.short == {label: there[label] for label in there if there[label] < count}
    assert few.over == {label: have[label] for label in have if have[label] > 2 * count}


def test_sizes_are_exact_where_each_document_stands_alone() -> None:
    documents = corpus(500)
    three = split_three(documents, validation=0.1, test=77, seed=1, groups=groups_of(documents, "none"))
    assert [len(part) for part in three] == [373, 50, 77]
    folds = split_folds(documents, folds=7, seed=1, groups=groups_of(documents, "none"))
    assert sorted({len(fold.held_out) for fold in folds}) == [71, 72]


def off_target(documents: Sequence[Document], held_out: Sequence[Document]) -> float:
    """How far the labels' shares in the held-out part are from a tenth, on average."""
    there, have = mentions(documents), mentions(held_out)
    return sum(abs(have[label] / there[label] - 0.1) for label in there) / len(there)


def test_labels_have_their_shares_more_nearly_than_in_a_random_split() -> None:
    stratified, at_random = [], []
    for seed in range(10):
        documents = corpus(1_000, seed)
        alone = groups_of(documents, "none")
        stratified.append(
            off_target(documents, split_stratified(documents, held_out=0.1, seed=seed, groups=alone).held_out)
        )
        at_random.append(off_target(documents, split(documents, held_out=0.1, seed=seed).held_out))
    assert all(near < far for near, far in zip(stratified, at_random, strict=True))
    assert sum(stratified) < sum(at_random) / 5


def test_every_label_is_within_a_mention_of_its_share_in_every_part() -> None:
    documents = corpus(1_500)
    alone = groups_of(documents, "none")
    three = split_three(documents, validation=0.1, test=0.2, seed=5, groups=alone)
    folds = [fold.held_out for fold in split_folds(documents, folds=10, seed=5, groups=alone)]
    for part, share in [(three.validation, 0.1), (three.test, 0.2), *((fold, 0.1) for fold in folds)]:
        have = mentions(part)
        assert all(abs(have[label] - share * count) <= 1.5 for label, count in mentions(documents).items())


def test_documents_with_many_mentions_are_in_all_parts() -> None:
    documents = corpus(2_000)
    three = split_three(documents, validation=0.1, test=0.1, seed=3, groups=groups_of(documents, "none"))
    many = [sum(len(document.entities) == 6 for document in part) / len(part) for part in three]
    assert max(many) - min(many) < 0.05


def test_pinned_on_every_platform() -> None:
    documents = corpus(60)
    first = split_stratified(documents, held_out=6, seed=1024)
    assert [document.id for document in first.held_out] == ["1", "24", "26", "33", "43", "47"]
    assert split_stratified(documents, held_out=0.1, seed=1024) == first
    assert split_stratified(documents, held_out=6, seed=1025) != first
    few = few_shot(documents, mentions=2, seed=1024)
    assert [document.id for document in few.taken] == ["0", "28", "51", "53", "56"]
    assert (few.short, few.over) == ({}, {"人名": 6})


def test_near_duplicates_stay_on_one_side_and_nothing_else_does_when_asked() -> None:
    sentence = "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读"
    documents = [Document(sentence + mark) for mark in "。！？，"] + [
        Document(f"第{n}句：{n * 7919}。") for n in range(16)
    ]
    assert groups_of(documents, "near")[:4] == [0, 0, 0, 0]
    assert groups_of(documents, "exact") == groups_of(documents, "none") == list(range(20))
    assert groups_of([Document("a"), Document("a")], "exact") == [0, 0]
    for seed in range(20):
        parts = split_stratified(documents, held_out=0.3, seed=seed)
        assert sum(document.text.startswith("浙商") for document in parts.held_out) in (0, 4)


def test_a_group_larger_than_a_part_goes_where_the_most_room_is() -> None:
    documents = [document([], number) for number in range(10)]
    train, held_out = split_stratified(documents, held_out=2, seed=0, groups=[0] * 6 + [1, 2, 3, 4])
    assert (len(train), len(held_out)) == (8, 2)


def test_what_cannot_be_split_is_said() -> None:
    same = [Document("same")] * 4
    with pytest.raises(InputError, match="4 documents in 1 groups cannot be split into 2 parts"):
        split_stratified(same, held_out=2, seed=0)
    with pytest.raises(InputError, match="cannot hold out 5 and 5 of 10 documents: nothing would be left"):
        split_three(corpus(10), validation=0.5, test=5, seed=0)
    with pytest.raises(InputError, match="cannot make 2 folds of 4 documents in 1 groups"):
        split_folds(same, folds=2, seed=0)
    with pytest.raises(InputError, match="cannot make 1 folds"):
        split_folds(corpus(10), folds=1, seed=0)
    with pytest.raises(InputError, match="none of the 4 documents holds an entity"):
        few_shot(same, mentions=1, seed=0)
    with pytest.raises(InputError, match="take all 2 documents, and none is left"):
        few_shot([document(["人名"]), document(["地点"])], mentions=1, seed=0)
    with pytest.raises(InputError, match="must be 1 or more, found 0"):
        few_shot(corpus(10), mentions=0, seed=0)
