"""Where tokens stand in the text they are decoded to: exact for any ids of every family's tokenizer, and linear."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.prompt.places import TokenPlaces

FAMILIES = ["qwen2", "qwen3", "phi-3", "phi-4", "llama-2", "llama-2-first", "mistral-0.3", "gemma-3"]
TEXTS = st.text(st.sampled_from('叶老桂 a[]|{}"\n𠮷野👩‍👧é龘\u0301\ufffd▁Ġ') | st.characters(exclude_categories=["Cs"]))


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def tile(places: Sequence[tuple[int, int]], text: str) -> None:
    """Each token begins where the one before it ended, or at the character that it shares with it."""
    assert places[0][0] == 0
    assert places[-1][1] == len(text)
    for (start, end), (following, following_end) in pairwise(places):
        assert start <= end
        assert following in (end, end - 1)
        assert following_end >= end


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_ids_tile_what_they_are_decoded_to(family_of: Any, name: str, data: st.DataObject) -> None:
    """Also ids that no text is encoded to: halves of characters, byte tokens that are no UTF-8, control tokens."""
    tokenizer = family_of(name).tokenizer
    low = st.integers(0, min(300, len(tokenizer) - 1))  # bytes stand first in every vocabulary
    ids = data.draw(st.lists(low | st.integers(0, len(tokenizer) - 1), min_size=1, max_size=24))
    text = decoded(tokenizer, ids)
    tile(TokenPlaces(tokenizer).find(ids, text), text)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS.filter(len))
def test_no_character_is_cut_at_a_boundary(family_of: Any, name: str, text: str) -> None:
    tokenizer = family_of(name).tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    places = TokenPlaces(tokenizer)
    whole = [0]
    for count, _ in places.whole(ids):
        whole.append(whole[-1] + count)
    for place in range(len(ids) + 1):
        assert places.boundary(ids, place) == max(end for end in whole if end <= place)


def test_an_answer_that_ends_within_a_surrogate_tiles_its_text(family_of: Any) -> None:
    """Two bytes of one are shown as two marks, both at the end."""
    tokenizer = family_of("qwen3").tokenizer
    ids = tokenizer.convert_tokens_to_ids(["a", "í", "ł"])  # the bytes ED and A0 in the vocabulary's alphabet
    text = decoded(tokenizer, ids)
    assert text == "a\ufffd\ufffd"
    assert TokenPlaces(tokenizer).find(ids, text) == [(0, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_groups_of_tokens_are_whole_characters(family_of: Any, name: str, data: st.DataObject) -> None:
    """Of a text, each group is what the tokenizer decodes it to; a token's own bytes are those of the text."""
    tokenizer = family_of(name).tokenizer
    ids = tokenizer.encode(data.draw(TEXTS.filter(len)), add_special_tokens=False)
    places = TokenPlaces(tokenizer)
    groups = places.whole(ids)
    assert sum(count for count, _ in groups) == len(ids)
    whole = "".join(text for _, text in groups)
    assert whole.removeprefix(" ") == decoded(tokenizer, ids).removeprefix(" ")
    assert b"".join(map(places.bytes_of, ids)).decode() == whole


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS.filter(len))
def test_prefixes_of_an_encoded_text_end_where_their_last_token_does(family_of: Any, name: str, text: str) -> None:
    """Independent of how the ranges are found: the tokenizer decodes the first n tokens to what they complete."""
    tokenizer = family_of(name).tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    whole = decoded(tokenizer, ids)
    places = TokenPlaces(tokenizer).find(ids, whole)
    tile(places, whole)
    for number, (start, end) in enumerate(places, 1):
        so_far = decoded(tokenizer, ids[:number])
        assert start <= end
        if "\ufffd" not in so_far:
            assert (so_far, len(so_far)) == (whole[:end], end)


def test_a_character_split_over_tokens_is_shared_by_them(family_of: Any) -> None:
    tokenizer = family_of("gemma-3").tokenizer
    ids = tokenizer.encode("叶𠮷a", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["叶", "<0xF0>", "<0xA0>", "<0xAE>", "<0xB7>", "a"]
    assert TokenPlaces(tokenizer).find(ids, "叶𠮷a") == [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3)]


def test_a_token_that_begins_a_character_after_a_space(family_of: Any) -> None:
    """Qwen2 writes 龘 after a space as ` é`, `¾`, `ĺ` in its byte alphabet."""
    tokenizer = family_of("qwen2").tokenizer
    ids = tokenizer.encode("在 龘", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids)[1:] == ["Ġé", "¾", "ĺ"]
    assert TokenPlaces(tokenizer).find(ids, "在 龘") == [(0, 1), (1, 3), (2, 3), (2, 3)]


def test_the_space_before_the_first_word_is_no_character(family_of: Any) -> None:
    tokenizer = family_of("llama-2").tokenizer
    ids = tokenizer.encode("叶", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids)[0].startswith("▁")
    assert decoded(tokenizer, ids) == "叶"
    tile(TokenPlaces(tokenizer).find(ids, "叶"), "叶")


def test_another_text_than_the_decoded_one_has_no_places(family_of: Any) -> None:
    tokenizer = family_of("gemma-3").tokenizer
    assert TokenPlaces(tokenizer).find(tokenizer.encode("叶老", add_special_tokens=False), "叶") is None


def test_a_long_answer_is_decoded_in_one_pass(family_of: Any) -> None:
    """The tokenizer is asked for the text of single tokens only, once for each kind: no prefix is decoded again."""
    tokenizer = family_of("phi-3").tokenizer
    ids = tokenizer.encode("叶老桂𠮷" * 500, add_special_tokens=False)
    asked: list[int] = []

    class Counting:
        encode = staticmethod(tokenizer.encode)
        convert_ids_to_tokens = staticmethod(tokenizer.convert_ids_to_tokens)

        @staticmethod
        def decode(ids: Sequence[int], **settings: Any) -> str:
            asked.append(len(ids))
            return tokenizer.decode(ids, **settings)

    assert len(TokenPlaces(Counting()).find(ids, decoded(tokenizer, ids))) == len(ids)
    assert max(asked) <= 3
    assert len(asked) <= 2 * len(set(ids))


@pytest.mark.slow
@pytest.mark.usefixtures("converted")
def test_gemmas_own_tokenizer() -> None:
    from nertune.models import load_tokenizer

    tokenizer = load_tokenizer("builtin:gemma3-270m")
    places = TokenPlaces(tokenizer)
    for text in ("[叶老桂 | name]博士在𠮷野家，👩‍👧。", "a  b\n\n\tc", "龘 <end_of_turn> <0xE4>", "é\u0301"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        tile(places.find(ids, decoded(tokenizer, ids)), decoded(tokenizer, ids))
    ids = [*range(230, 260), 5, *range(400, 420), 300, *range(238, 242)]
    tile(places.find(ids, decoded(tokenizer, ids)), decoded(tokenizer, ids))
