"""Near-duplicates: what is alike is found, nothing else is, and crowds do not slow it down."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.similar import Pair, folded, near_pairs, similar_groups
from nertune.errors import InputError

SENTENCE = "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。"


def jaccard(one: str, other: str) -> float:
    """The same by its definition: sets of strings."""
    sets = [{text[i : i + 3] for i in range(max(1, len(text) - 2))} for text in (folded(one), folded(other))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@st.composite
def texts_and_variants(draw: st.DrawFn) -> list[str]:
    """Texts, and copies with a few characters changed."""
    texts = draw(st.lists(st.text(st.sampled_from("甲乙丙丁戊己庚辛ab \n😀é"), max_size=40), min_size=1, max_size=8))
    for _ in range(draw(st.integers(0, 8))):
        text = list(draw(st.sampled_from(texts)))
        for _ in range(draw(st.integers(0, 3))):
            text.insert(draw(st.integers(0, len(text))), draw(st.sampled_from("甲乙xy")))
        texts.append("".join(text))
    return texts


@settings(max_examples=100, deadline=None)
@given(texts_and_variants(), st.sampled_from([0.5, 0.7, 0.8, 1.0]))
def test_groups_are_chains_of_pairs_at_the_threshold(texts: list[str], threshold: float) -> None:
    groups = similar_groups(texts, threshold=threshold)
    alike = [[jaccard(one, other) for other in texts] for one in texts]
    for i, row in enumerate(alike):
        # Far above the threshold a pair is missed once in a thousand million times; at it, once in a thousand.
        surely = (1 + threshold) / 2
        assert all(groups[i] == groups[j] for j, similarity in enumerate(row) if similarity >= surely)
        reached, new = {i}, {i}
        while new:
            new = {j for k in new for j, similarity in enumerate(alike[k]) if similarity >= threshold} - reached
            reached |= new
        assert {j for j, group in enumerate(groups) if group == groups[i]} <= reached
    assert list(dict.fromkeys(groups)) == list(range(len(set(groups))))


@settings(max_examples=100, deadline=None)
@given(texts_and_variants())
def test_a_text_is_paired_with_the_most_alike_before_it(texts: list[str]) -> None:
    pairs = near_pairs(texts, threshold=0.6)
    assert [pair.j for pair in pairs] == sorted({pair.j for pair in pairs})
    for i, j, similarity in pairs:
        assert i < j
        assert similarity == jaccard(texts[i], texts[j]) >= 0.6
    best = [max((jaccard(text, before) for before in texts[:j]), default=0) for j, text in enumerate(texts)]
    assert {j for j, similarity in enumerate(best) if similarity >= 0.8} <= {pair.j for pair in pairs}
    assert all(similarity == best[j] for _, j, similarity in pairs if best[j] >= 0.8)


@settings(max_examples=100, deadline=None)
@given(texts_and_variants())
def test_between_two_files_a_text_is_paired_with_the_most_alike_in_the_other(texts: list[str]) -> None:
    ours, theirs = texts[::2], texts[1::2]
    pairs = near_pairs(ours, theirs, threshold=0.6)
    assert [pair.j for pair in pairs] == sorted({pair.j for pair in pairs})
    assert all(similarity == jaccard(ours[i], theirs[j]) >= 0.6 for i, j, similarity in pairs)
    best = [max(jaccard(text, one) for one in ours) for text in theirs]
    assert {j for j, similarity in enumerate(best) if similarity >= 0.8} <= {pair.j for pair in pairs}
    assert all(similarity == best[j] for _, j, similarity in pairs if best[j] >= 0.8)
    exact = {j: i for i, j, similarity in pairs if folded(ours[i]) == folded(theirs[j])}
    assert all([folded(text) for text in ours].index(folded(theirs[j])) == i for j, i in exact.items())


def test_one_character_changed_is_near_and_many_are_not() -> None:
    changed = SENTENCE.replace("叶老桂", "叶小桂")
    assert similar_groups([SENTENCE, "别的句子。", changed, SENTENCE[::-1]]) == [0, 1, 0, 2]
    assert near_pairs([SENTENCE], [changed]) == [Pair(0, 0, jaccard(SENTENCE, changed))]


def test_width_case_and_white_space_make_no_difference() -> None:
    assert similar_groups(["Ａpple １号  店", " apple 1号 店\n", "APPLE 1号　店", "apple 1号店"]) == [0, 0, 0, 1]


def test_short_and_empty_texts_are_alike_only_when_equal() -> None:
    assert similar_groups(["", "甲", "乙", "甲乙", " ", "甲", "甲乙"]) == [0, 1, 2, 3, 0, 1, 3]
    assert similar_groups([]) == near_pairs([]) == near_pairs([], ["甲"]) == []


def test_lone_surrogates_and_the_last_code_point_are_characters_like_others() -> None:
    odd = SENTENCE + "\U0010ffff\ud800\udfff"
    assert similar_groups([odd, odd + "。", "\U0010ffff" * 40]) == [0, 0, 1]


def test_copies_give_a_pair_each_and_no_more() -> None:
    texts = [SENTENCE] * 10_000
    assert set(similar_groups(texts)) == {0}
    assert near_pairs(texts) == [Pair(0, copy, 1.0) for copy in range(1, 10_000)]
    assert near_pairs(texts, [SENTENCE + "。", SENTENCE]) == [
        Pair(0, 0, jaccard(SENTENCE, SENTENCE + "。")),
        Pair(0, 1, 1.0),
    ]


def test_a_crowd_of_filled_in_forms_is_one_group() -> None:
    forms = [
        f"患者{number}因发热三天入院，查体未见异常，予以对症治疗后好转出院，嘱定期复查。" for number in range(3_000)
    ]
    assert set(similar_groups(forms)) == {0}
    pairs = near_pairs(forms)
    assert {place for i, j, _ in pairs for place in (i, j)} == set(range(3_000))
    assert len(pairs) < 3_000


def test_in_a_crowd_just_below_the_threshold_the_few_that_are_near_are_found() -> None:
    rng = random.Random(5)
    form = "".join(rng.choice("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏") for _ in range(60))
    own = ["".join(chr(rng.randrange(0x5000, 0x9000)) for _ in range(20)) for _ in range(400)]
    crowd = [form + text for text in own]
    twins = [form + text[:-1] + "某" for text in own[::10]]
    assert max(jaccard(crowd[0], other) for other in crowd[1:]) < 0.7
    groups = similar_groups(crowd + twins)
    assert groups[:400] == list(range(400))
    assert groups[400:] == list(range(0, 400, 10))


def test_the_same_on_every_machine() -> None:
    rng = random.Random(3)
    texts = ["甲乙丙丁戊己庚辛壬癸子丑寅卯" + "".join(rng.choice("天地") for _ in range(10)) for _ in range(40)]
    groups = similar_groups(texts, threshold=0.9)
    assert sorted(Counter(groups).values()) == [1, 1, 1, 4, 10, 23]


@pytest.mark.parametrize("threshold", [0.0, 0.49, 1.01, float("nan"), -1])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(InputError, match="is not a similarity from"):
        similar_groups(["a"], threshold=threshold)
