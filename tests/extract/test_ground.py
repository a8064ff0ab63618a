"""Grounding: every entity at its place, and nothing that is not there."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.extract import ground
from nertune.prompt import ParsedAnswer, answer_format
from nertune.schema import Document, LabelSet, Mention, ParseOutcome


def _listed(text: str, *mentions: tuple[str, str]):
    answer = ParsedAnswer(ParseOutcome.CLEAN, tuple(Mention(*mention) for mention in mentions))
    entities, ungrounded = ground(text, answer)
    return [(e.label, e.start) for e in entities], [m.text for m in ungrounded]


def test_the_nth_mention_goes_to_the_nth_occurrence():
    assert _listed("桂和桂和桂", ("n", "桂"), ("n", "桂")) == ([("n", 0), ("n", 2)], [])


def test_a_repetition_without_a_place_is_ungrounded():
    assert _listed("桂", ("n", "桂"), ("n", "桂"), ("n", "叶")) == ([("n", 0)], ["桂", "叶"])


def test_one_place_may_have_two_labels():
    assert _listed("桂", ("n", "桂"), ("p", "桂")) == ([("n", 0), ("p", 0)], [])


def test_an_unknown_label_is_ungrounded():
    answer = ParsedAnswer(ParseOutcome.CLEAN, (Mention("x", "桂"),))
    assert ground("桂", answer, LabelSet(("n",))) == ((), (Mention("x", "桂"),))


def test_an_altered_copy_is_aligned():
    text = "甲在杭州，乙在杭州。"
    for answer in ("甲在杭州,乙在[杭州 | 地点]。", "在杭州，乙在[杭州 | 地点]", "甲甲在杭州，乙在[杭州 | 地点]。"):
        (entity,) = ground(text, answer_format("inline").parse(answer)).entities
        assert (entity.start, entity.text) == (7, "杭州")


def test_a_long_copy_is_aligned_past_its_alteration():
    text = "".join(f"第{n}个在杭州，" for n in range(2000)) + "完。"
    for altered in (text[1:], "哦" + text, text[:5000] + "啊" + text[5000:], text[:-2]):
        marked = altered.replace("第1500个在杭州", "第1500个在[杭州 | 地点]")
        (entity,) = ground(text, answer_format("inline").parse(marked)).entities
        assert text[entity.start - 7 : entity.end] == "第1500个在杭州"


def test_an_answer_that_runs_away_is_grounded_all_the_same():
    """Matching it whole would take time with the square of its length."""
    copy = "在杭州" * 5000
    (entity,) = ground("他在杭州", answer_format("inline").parse(copy[:3000] + "[杭州 | 地点]" + copy)).entities
    assert entity.start == 2


def test_stripped_edges_are_no_alteration():
    (entity,) = ground("  桂 ", answer_format("inline").parse("[桂 | n]")).entities
    assert entity.start == 2


def test_a_composed_answer_finds_the_decomposed_text():
    """Qwen's tokenizer normalizes to NFC: what it copies of 'e + accent' or of Hangul jamo comes back as one character."""
    text = unicodedata.normalize("NFD", "在 café 见 김밥 店")
    assert len(text) > len("在 café 见 김밥 店")
    inline = answer_format("inline").parse("在 [café | n] 见 [김밥 | p] 店")
    listed = ParsedAnswer(ParseOutcome.CLEAN, (Mention("n", "café"), Mention("p", "김밥")))
    for answer in (inline, listed):
        entities, ungrounded = ground(text, answer)
        assert [unicodedata.normalize("NFC", e.text) for e in entities] == ["café", "김밥"]
        assert all(text[e.start : e.end] == e.text for e in entities)
        assert ungrounded == ()


def test_a_verbatim_answer_to_decomposed_text_keeps_its_places():
    text = "e\u0301a"
    (entity,) = ground(text, answer_format("inline").parse("[e\u0301 | n]a")).entities
    assert (entity.start, entity.end) == (0, 2)


def test_a_verbatim_answer_is_not_composed():
    """Composed, the first e would be the only one left, and the marked one be taken for it."""
    for text in ("ee\u0301a", "\u0301a\u0301a\u0301a"):
        document = Document.of(text, [("n", 1, 2)])
        answer = answer_format("inline").parse(answer_format("inline").write(document))
        assert ground(text, answer) == (document.entities, ())


@settings(max_examples=200, deadline=None)
@given(st.text("e\u0301\u1100\u1161\u11a8Å甲", min_size=1, max_size=12), st.data())
def test_decomposed_texts_round_trip_through_nfc(text, draw):
    start = draw.draw(st.integers(0, len(text) - 1))
    document = Document.of(text, [("n", start, draw.draw(st.integers(start + 1, len(text))))])
    answer = unicodedata.normalize("NFC", answer_format("inline").write(document))
    entities, _ = ground(text, answer_format("inline").parse(answer))
    assert all(text[e.start : e.end] == e.text for e in entities)


@settings(max_examples=200, deadline=None)
@given(st.text("甲乙[]| ab", min_size=1, max_size=20), st.text("甲乙[]| ab", max_size=30))
def test_every_entity_is_its_slice(text, answer):
    entities, _ = ground(text, answer_format("inline").parse(answer))
    assert all(text[e.start : e.end] == e.text for e in entities)
