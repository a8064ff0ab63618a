"""Words of a growing answer: put together they are the whole, however the tokens come, and none stands behind a stop."""

from __future__ import annotations

import random

import pytest

from nertune.serve.words import Words

TEXT = "叶老桂😀 came from  杭州，\n\n[浙商 | name]�龘 end"


def grown(words: Words, ids: list[int], sizes: list[int]) -> list[str]:
    """The pieces, tokens coming in as many at a time as `sizes` says."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(words.add(ids[start : start + size]))
        start += size
    return [*pieces, words.end()]


def cuts(total: int, seed: int) -> list[int]:
    draw, sizes = random.Random(seed), []
    while sum(sizes) < total:
        sizes.append(min(draw.randint(1, 4), total - sum(sizes)))
    return sizes


@pytest.mark.parametrize("seed", [0, 1])
def test_pieces_are_the_whole(family, seed):
    tokenizer = family.tokenizer
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    for sizes in ([1] * len(ids), cuts(len(ids), seed)):
        pieces = grown(Words(tokenizer), ids, sizes)
        assert "".join(pieces) == whole
        assert all("�" not in piece for piece in pieces if "�" not in whole)


def test_control_tokens_are_left_out_unless_asked_for(family_of):
    tokenizer = family_of("qwen3").tokenizer
    ids = tokenizer.encode("叶<|im_end|>老", add_special_tokens=False)
    assert "".join(grown(Words(tokenizer), ids, [1] * len(ids))) == "叶老"
    assert "".join(grown(Words(tokenizer, special=True), ids, [1] * len(ids))) == "叶<|im_end|>老"


@pytest.mark.parametrize(
    "stops", [["杭州"], ["from  杭", "zz"], ["name]"], ["\n\n["], ["e", "a"], ["😀"], ["not there"]]
)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_stands_behind_the_first_stop(family_of, stops, seed):
    tokenizer = family_of("qwen3").tokenizer
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    words = Words(tokenizer, stops=stops)
    found = "".join(grown(words, ids, cuts(len(ids), seed)))
    places = [place for place in map(TEXT.find, stops) if place >= 0]
    assert found == (TEXT[: min(places)] if places else TEXT)
    assert words.stopped == bool(places)


def test_no_more_is_held_back_than_may_be_a_stop(family_of):
    tokenizer = family_of("qwen3").tokenizer
    words = Words(tokenizer, stops=["abc"])
    assert words.add(tokenizer.encode("xab", add_special_tokens=False)) == "x"
    assert words.add(tokenizer.encode("abd", add_special_tokens=False)) == "ababd"
    assert words.end() == ""
