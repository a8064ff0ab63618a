"""Texts to tokens and back: scripts with spaces and without."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data.formats.tokens import Joiner, aligned, tokens_of


def tokens(text: str, cuts: tuple[int, ...] = ()) -> list[str]:
    return [text[start:end] for start, end in tokens_of(text, cuts)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("叶老桂1997年", "叶 老 桂 1 9 9 7 年"),
        ("EU rejects German call .", "EU rejects German call ."),
        ('He said: "don\'t!"', 'He said : " don\'t ! "'),
        ("the U.S. -- $5 ... #tag (x)", "the U.S. -- $ 5 ... # tag ( x )"),
        ("The 北京 office of Hewlett Packard", "The 北 京 office of Hewlett Packard"),
        ("한국어 문장", "한국어 문장"),
        ("-DOCSTART-", "- DOCSTART -"),
        (" \t\u3000", ""),
    ],
)
def test_tokens(text: str, expected: str) -> None:
    assert tokens(text) == expected.split()


def test_tokens_are_cut_where_entities_begin_and_end() -> None:
    assert tokens("non-EU rules", (4, 6)) == ["non-", "EU", "rules"]


@given(st.text(max_size=40), st.sets(st.integers(0, 40), max_size=5))
@settings(max_examples=200, deadline=None)
def test_tokens_hold_all_but_the_white_space(text: str, cuts: set[int]) -> None:
    spans = tokens_of(text, cuts)
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())
    assert aligned([text[start:end] for start, end in spans], text) == spans
    edges = {edge for span in spans for edge in span}
    assert all(
        cut in edges for cut in cuts if 0 < cut < len(text) and not text[cut].isspace() and not text[cut - 1].isspace()
    )


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        (["EU", "rejects", "."], "EU rejects ."),
        (["叶", "老", "1", "9"], "叶老19"),
        (["中国", "的", "iPhone", "6", "和", "Mac"], "中国的iPhone 6和Mac"),
        (["คน", "ไทย"], "คนไทย"),
        (["a", " ", "b", "", "c"], "a b c"),
    ],
)
def test_auto_joins_by_the_script(sentence: list[str], text: str) -> None:
    joined, spans = Joiner.of([sentence]).join(sentence)
    assert joined == text
    assert [joined[start:end] for start, end in spans] == sentence


def test_the_joiner_may_be_named() -> None:
    assert Joiner.of([["叶", "a"]], "space").join(["叶", "a"])[0] == "叶 a"
    assert Joiner.of([["EU"]], "none").join(["E", "U"])[0] == "EU"


@pytest.mark.parametrize(("tokens", "text"), [(["a"], "b"), (["a"], "a b"), (["a", "b"], "ba")])
def test_tokens_that_do_not_make_up_a_text(tokens: list[str], text: str) -> None:
    assert aligned(tokens, text) is None
