"""Grounding in detail: mentions by their order, altered copies by alignment, and no entity that is not in the text."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.extract import Grounded, ground
from nertune.prompt import ParsedAnswer, Placed, answer_format
from nertune.schema import Document, Entity, LabelSet, Mention, ParseOutcome, in_reading_order

CLEAN = ParseOutcome.CLEAN
SMALL = st.text("甲乙丙 ab", max_size=16)


def listed(text: str, mentions: str, labels: LabelSet | None = None) -> tuple[list[tuple[str, int]], list[str]]:
    """(label, start) of the entities and the ungrounded surfaces of mentions written `label:surface label:surface`."""
    named = tuple(Mention(*mention.split(":")) for mention in mentions.split())
    entities, ungrounded = ground(text, ParsedAnswer(CLEAN, named), labels)
    return [(e.label, e.start) for e in entities], [m.text for m in ungrounded]


def copied(text: str, answer: str) -> list[tuple[str, int, int]]:
    entities, ungrounded = ground(text, answer_format("inline").parse(answer))
    assert ungrounded == ()
    return [(e.label, e.start, e.end) for e in entities]


@pytest.mark.parametrize(
    ("text", "mentions", "entities", "ungrounded"),
    [
        ("桂和桂和桂", "n:桂 n:桂 n:桂", [("n", 0), ("n", 2), ("n", 4)], []),
        ("桂和桂", "n:桂 p:桂", [("n", 0), ("p", 2)], []),
        ("桂和桂", "n:桂 n:桂 n:桂 n:桂", [("n", 0), ("n", 2)], ["桂", "桂"]),
        ("桂和桂", "n:桂 n:桂 p:桂 p:桂", [("n", 0), ("p", 0), ("n", 2)], ["桂"]),
        ("桂", "n:桂 p:桂 q:桂", [("n", 0), ("p", 0), ("q", 0)], []),
        ("桂", "n:叶 n:桂 n:南京", [("n", 0)], ["叶", "南京"]),
        ("aaa", "n:aa n:aa", [("n", 0)], ["aa"]),
        ("南京大学", "o:大学 o:南京大学 l:南京", [("o", 0), ("l", 0), ("o", 2)], []),
        ("𠮷野家", "n:野家", [("n", 1)], []),
        ("", "n:桂", [], ["桂"]),
    ],
)
def test_mentions(text: str, mentions: str, entities: list[tuple[str, int]], ungrounded: list[str]) -> None:
    assert listed(text, mentions) == (entities, ungrounded)


def test_unknown_labels_are_kept_visible() -> None:
    assert listed("桂叶", "n:桂 x:叶 x:丁", LabelSet(("n",))) == ([("n", 0)], ["丁", "叶"])
    inline = ground("桂叶", answer_format("inline").parse("[桂 | n][叶 | x]"), LabelSet(("n",)))
    assert inline == Grounded((Entity("n", 0, 1, "桂"),), (Mention("x", "叶"),))


TEXT = "甲在杭州，乙在杭州。"


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (TEXT, "甲在杭州，乙在[杭州 | a]。", [("a", 7, 9)]),
        (TEXT, "甲在杭州,乙在[杭州 | a]。", [("a", 7, 9)]),
        (TEXT, "在杭州，乙在[杭州 | a]。", [("a", 7, 9)]),
        (TEXT, "甲甲在杭州，乙在[杭州 | a]。", [("a", 7, 9)]),
        (TEXT, "丙在[杭州 | a]，乙在[杭州 | a]。", [("a", 2, 4), ("a", 7, 9)]),
        (TEXT, "[杭州 | a]", [("a", 2, 4)]),
        (TEXT, "甲在[杭州 | a]", [("a", 2, 4)]),
        (TEXT, "甲在杭州，乙在[杭州 | a]。\n以上。", [("a", 7, 9)]),
        ("  桂来 ", "[桂 | n]来", [("n", 2, 3)]),
        ("桂来", " [桂 | n]来\n", [("n", 0, 1)]),
        ("桂桂桂桂", "[桂 | n]桂桂桂桂桂", [("n", 0, 1)]),
        ("杭州甲杭州乙杭州丙", "乙[杭州 | a]丙", [("a", 6, 8)]),
        ("杭州甲杭州乙杭州丙", "好的，原句如下：杭州[甲 | b][杭州 | a]乙", [("b", 2, 3), ("a", 3, 5)]),
    ],
)
def test_copies(text: str, answer: str, expected: list[tuple[str, int, int]]) -> None:
    assert copied(text, answer) == expected


def test_an_altered_entity_is_ungrounded() -> None:
    answer = answer_format("inline").parse("甲在[杭洲 | a]，乙在[杭州 | a]。")
    assert ground(TEXT, answer) == Grounded((Entity("a", 7, 9, "杭州"),), (Mention("a", "杭洲"),))


def test_one_place_is_given_once() -> None:
    entities, ungrounded = ground("桂", answer_format("inline").parse("[桂 | n][桂 | n][桂 | p]"))
    assert [(e.label, e.start) for e in entities] == [("n", 0), ("p", 0)]
    assert ungrounded == (Mention("n", "桂"),)


def right(text: str, grounded: Grounded, named: list[Mention]) -> None:
    """Slices, reading order, no duplicates, and every named thing accounted for at most once."""
    for entity in grounded.entities:
        assert text[entity.start : entity.end] == entity.text
    assert grounded.entities == in_reading_order(set(grounded.entities))
    Document(text, grounded.entities)
    got = Counter([*(Mention(e.label, e.text) for e in grounded.entities), *grounded.ungrounded])
    assert got <= Counter(named)
    assert set(got) == set(named)


@settings(max_examples=200, deadline=None)
@given(SMALL, st.lists(st.builds(Mention, st.sampled_from("np"), SMALL.filter(len)), max_size=8))
def test_any_mentions(text: str, mentions: list[Mention]) -> None:
    right(text, ground(text, ParsedAnswer(CLEAN, tuple(mentions))), mentions)


@st.composite
def copies(draw: st.DrawFn) -> ParsedAnswer:
    copy = draw(SMALL.filter(len))
    places = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(copy) - 1))
        places.append(Placed(draw(st.sampled_from("np")), start, draw(st.integers(start + 1, len(copy)))))
    return ParsedAnswer(CLEAN, copy=copy, placed=tuple(places))


@settings(max_examples=300, deadline=None)
@given(SMALL, copies())
def test_any_copy(text: str, answer: ParsedAnswer) -> None:
    named = [Mention(place.label, answer.copy[place.start : place.end]) for place in answer.placed]
    right(text, ground(text, answer), named)


@settings(max_examples=150, deadline=None)
@given(copies(), st.integers(0, 3), st.integers(0, 3))
def test_white_space_around_a_copy_changes_nothing(answer: ParsedAnswer, before: int, after: int) -> None:
    text = " " * before + answer.copy.strip() + " " * after
    inner = [p for p in answer.placed if answer.copy[p.start : p.end].strip() == answer.copy[p.start : p.end]]
    if answer.copy.strip():
        shift = before - (len(answer.copy) - len(answer.copy.lstrip()))
        expected = {(p.label, p.start + shift, p.end + shift) for p in inner}
        entities, ungrounded = ground(text, ParsedAnswer(CLEAN, copy=answer.copy, placed=tuple(inner)))
        assert {(e.label, e.start, e.end) for e in entities} == expected
        assert ungrounded == ()
