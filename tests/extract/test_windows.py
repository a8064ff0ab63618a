"""Texts cut into windows and put together again: nothing is lost, nothing is told twice, every offset is global."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.extract.sentences import parts_cluster
from nertune.extract.windows import Parts, Window, merge, split
from nertune.schema import Entity, Mention, ParseOutcome, Prediction, in_reading_order

# Ways to count tokens: by character, by byte (as byte fallback does), and by pieces that cross every bound.
COUNTS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "bytes": lambda text: len(text.encode()),
    "pairs": lambda text: (len(text) + 1) // 2,
    "words": lambda text: len(re.findall(r"\s?\w{1,4}|.", text, re.DOTALL)),
}
SPECIAL = ["e\u0301", "𠮷", "👩‍👩‍👧", "🇨🇳", "👍🏽", "각", "\r\n", "\n", " ", "。", "！”", "，", ". ", "Ⅷ", "\u3000"]
TEXTS = st.lists(st.sampled_from([*SPECIAL, *"甲乙丙丁甲乙丙丁ab。，"]), min_size=1, max_size=250).map("".join)


def found(text: str, *entities: tuple[str, int, int], **more) -> Prediction:
    return Prediction(text, tuple(Entity(label, start, end, text[start:end]) for label, start, end in entities), **more)


def oracle(text: str, names: list[str]) -> Prediction:
    """Every occurrence of every name, overlapping ones too; the label is the name's place in the list."""
    spans = [
        (str(number), match.start(), match.start() + len(name))
        for number, name in enumerate(names)
        for match in re.finditer(f"(?={re.escape(name)})", text)
    ]
    return found(text, *spans)


def read(text: str, parts: Parts, reader: Callable[[str], Prediction]) -> Prediction:
    return merge(text, parts, [reader(text[window.start : window.end]) for window in parts.windows])


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS.filter(str.strip), size=st.integers(64, 90))
def test_windows_show_everything_overlap_and_part_no_character(count, text, size):
    windows, cut = split(text, size, count)
    if count(text) <= size:
        assert (windows, cut) == ((Window(0, len(text)),), False)
        return
    shown = set()
    for window in windows:
        shown |= set(range(window.start, window.end))
        piece = text[window.start : window.end]
        assert piece == piece.strip() != ""
        assert not parts_cluster(text, window.start)
        assert not parts_cluster(text, window.end)
        assert count(piece) <= size
    assert all(text[place].isspace() for place in set(range(len(text))) - shown)
    for left, right in pairwise(windows):
        assert left.start < right.start
        assert left.end < right.end
        between = text[right.start : left.end] or text[left.end : right.start]
        assert right.start < left.end or between.isspace()


@settings(max_examples=150, deadline=None)
@given(
    text=TEXTS.filter(str.strip),
    size=st.integers(40, 80),
    names=st.lists(st.text("甲乙丙丁ab", min_size=1, max_size=2), unique=True, max_size=8),
)
def test_an_oracle_finds_the_same_in_windows_as_in_the_whole(text, size, names):
    parts = split(text, size, len)
    prediction = read(text, parts, lambda piece: oracle(piece, names))
    assert prediction.entities == oracle(text, names).entities
    assert prediction.windows == len(parts.windows)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), text=TEXTS.filter(str.strip), size=st.integers(16, 40))
def test_whatever_windows_say_the_result_is_sound(data, text, size):
    """Slices are checked by Prediction itself; entities are distinct, and none crosses one from elsewhere unsaid."""
    parts = split(text, size, len)
    predictions = []
    for window in parts.windows:
        piece = text[window.start : window.end]
        start = st.integers(0, len(piece) - 1)
        spans = data.draw(
            st.lists(st.tuples(st.sampled_from("np"), start, start).filter(lambda s: s[1] < s[2]), max_size=4)
        )
        prediction = found(piece, *dict.fromkeys(spans), stop=data.draw(st.sampled_from(["end", "length"])))
        predictions.append(replace(prediction, outcome=data.draw(st.sampled_from(list(ParseOutcome)))))
    merged = merge(text, parts, predictions)
    assert merged.entities == in_reading_order(set(merged.entities))
    assert merged == merge(text, parts, predictions)
    assert merged.cut >= parts.cut or merged.windows == 1
    assert (merged.stop == "length") == any(p.stop == "length" for p in predictions)


def test_windows_end_after_sentences_and_begin_one_earlier():
    text = "一二三四五六七。" * 10
    windows, cut = split(text, 40, len)
    assert not cut
    assert all(window.start % 8 == 0 and window.end % 8 == 0 for window in windows)
    assert all(left.end - right.start >= 8 for left, right in pairwise(windows))


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("他说：“走！”她没走。好", ["他说：“走！”", "她没走。", "好"]),
        ("Dr. A. Smith left. He paid 3.50; then? No.", ["Dr. A. Smith left. ", "He paid 3.50; ", "then? ", "No."]),
        ("a\r\n\r\nb\u2028c", ["a\r\n\r\n", "b\u2028", "c"]),
        ("http://x?a=1;b=2!c", ["http://x?a=1;b=2!c"]),
        ("真的?!真的。", ["真的?!", "真的。"]),
    ],
)
def test_sentences(text, bounds):
    from nertune.extract.sentences import _pieces

    assert [text[start:end] for start, end in _pieces(text, 0, len(text), 3, 8)] == bounds


def test_a_sentence_longer_than_a_window_is_cut_at_commas_then_anywhere_and_says_so():
    clauses = split("一二三四五六七，" * 20, 40, len)
    assert clauses.cut
    assert all(window.end % 8 == 0 for window in clauses.windows)
    nowhere = split("字" * 5000, 200, len)
    assert nowhere.cut
    assert all(left.end - right.start >= 25 for left, right in pairwise(nowhere.windows))
    assert len(nowhere.windows) < 40


def test_words_are_not_counted_one_by_one():
    """A space before a word is part of its token, after it a token of its own: sums of words would be too high."""
    count = COUNTS["words"]
    text = "Mr. Smith paid the bank. " * 40
    windows, _ = split(text, 80, count)
    assert all(count(text[window.start : window.end]) > 60 for window in windows[:-1])


def test_a_sentence_that_just_fits_is_not_cut():
    text = "短。" + "字" * 33 + "。" + "短。" + "，".join(["句"] * 17) + "。" + "短。" * 3
    windows, cut = split(text, 40, len)
    assert not cut
    assert any("字" * 33 + "。" in text[window.start : window.end] for window in windows)


def test_long_texts_take_time_in_proportion():
    counted = 0

    def count(text: str) -> int:
        nonlocal counted
        counted += len(text)
        return len(text)

    for text in (
        "这是一句话，有两部分。" * 10_000,
        "字" * 100_000,
        "word " * 20_000,
        "\n" * 50_000 + "字",
        "🇨🇳" * 20_000,
    ):
        counted = 0
        split(text, 200, count)
        assert counted < 12 * len(text)


# Two windows, [0, 10) and [6, 16), of sixteen characters.
TEXT = "零一二三四五六七八九拾甲乙丙丁戊"
TWO = Parts((Window(0, 10), Window(6, 16)), cut=False)
LEFT, RIGHT = TEXT[:10], TEXT[6:]


def spans(prediction: Prediction) -> list[tuple[str, int, int]]:
    return [(entity.label, entity.start, entity.end) for entity in prediction.entities]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([("n", 7, 9)], [("n", 1, 3)], [("n", 7, 9)]),  # both: once
        ([("n", 6, 8)], [], [("n", 6, 8)]),  # farther from the left window's edge
        ([("n", 8, 10)], [], []),  # the right window saw more around it, and named nothing
        ([], [("n", 2, 4)], [("n", 8, 10)]),
        ([("n", 8, 10)], [("n", 2, 6)], [("n", 8, 12)]),  # not halved
        ([("n", 4, 10)], [("n", 0, 6)], [("n", 4, 12)]),  # longer than the overlap: put together
        ([("n", 4, 10)], [("p", 0, 6)], [("n", 4, 10)]),  # of other labels: one of them
        ([("n", 5, 9)], [("p", 2, 6)], [("p", 8, 12)]),  # crossing: the one farther from its edge
        ([("n", 6, 9)], [("p", 2, 4)], [("p", 8, 10)]),  # whose window saw the other and did not name it
        ([("n", 6, 9)], [("p", 2, 4), ("n", 0, 3)], [("n", 6, 9), ("p", 8, 10)]),  # or named it as well
        ([("n", 5, 10)], [("p", 2, 4)], [("n", 5, 10), ("p", 8, 10)]),  # around it, and that window could not see it
        ([("n", 7, 8)], [("p", 0, 6)], [("p", 6, 12), ("n", 7, 8)]),
        ([("n", 0, 2), ("p", 0, 2)], [("n", 9, 10)], [("n", 0, 2), ("p", 0, 2), ("n", 15, 16)]),
    ],
)
def test_which_window_is_believed(left, right, expected):
    assert spans(merge(TEXT, TWO, [found(LEFT, *left), found(RIGHT, *right)])) == expected


@pytest.mark.parametrize("failure", [{"stop": "length"}, {"outcome": ParseOutcome.INVALID}])
def test_silence_of_an_answer_that_did_not_end_is_no_judgement(failure):
    merged = merge(TEXT, TWO, [found(LEFT, ("n", 8, 10)), found(RIGHT, **failure)])
    assert spans(merged) == [("n", 8, 10)]
    assert merged.stop == failure.get("stop", "end")
    assert merged.outcome is failure.get("outcome", ParseOutcome.CLEAN)


def test_what_windows_could_not_ground_is_joined_and_cuts_are_flagged():
    left = found(LEFT, ungrounded=(Mention("n", "子"),), outcome=ParseOutcome.REPAIRED)
    merged = merge(TEXT, replace_cut(TWO), [left, found(RIGHT, ungrounded=(Mention("p", "丑"),))])
    assert merged.ungrounded == (Mention("n", "子"), Mention("p", "丑"))
    assert (merged.stop, merged.outcome, merged.windows, merged.cut) == ("end", ParseOutcome.REPAIRED, 2, True)
    assert merged.to_json() | {"windows": 2, "cut": True, "stop": "end"} == merged.to_json()


def replace_cut(parts: Parts) -> Parts:
    return parts._replace(cut=True)


def test_joined_parts_keep_the_lower_scores():
    left = Prediction(LEFT, (Entity("n", 4, 10, LEFT[4:], 0.9, 0.9, 1.0),))
    right = Prediction(RIGHT, (Entity("n", 0, 6, RIGHT[:6], 0.4, 0.95, None),))
    (entity,) = merge(TEXT, TWO, [left, right]).entities
    assert (entity.start, entity.end) == (4, 12)
    assert (entity.score, entity.span_score, entity.label_score) == (0.4, 0.9, 1.0)


def test_entities_keep_all_their_scores_at_their_place_in_the_whole_text():
    right = Prediction(RIGHT, (Entity("n", 3, 5, RIGHT[3:5], 0.4, 0.5, 0.8),))
    (entity,) = merge(TEXT, TWO, [found(LEFT), right]).entities
    assert (entity.start, entity.score, entity.span_score, entity.label_score) == (9, 0.4, 0.5, 0.8)


@pytest.mark.parametrize(
    "sequence", ["e\u0301", "\r\n", "👩‍👩‍👧", "👍🏽", "🇨🇳", "각", "🏴\U000e0067\U000e0062\U000e007f", "กำ", "ｶﾞ"]
)
def test_what_is_seen_as_one_character_is_one(sequence):
    text = "a" + sequence + sequence + "b"
    inside = set(range(2, 1 + len(sequence))) | set(range(2 + len(sequence), 1 + 2 * len(sequence)))
    assert {place for place in range(len(text) + 1) if parts_cluster(text, place)} == inside
