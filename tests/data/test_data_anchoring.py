"""The nearest place is the nearest, and what is found there is the surface, whatever texts and offsets there are."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from nertune.data.anchoring import Anchors

LETTERS = "aA京Ａé\u0301㎞ \u3000\n😀"


def folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKD", text).split())


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(-20, 20))
def test_the_nearest_of_all_places_is_taken(text: str, surface: str, start: int) -> None:
    places = [place for place in range(len(text)) if text.startswith(surface, place)]
    found = Anchors(text, []).find(surface, start, None)
    assert (found is None) == (not places)
    if found is not None:
        assert found.start == min(places, key=lambda place: (abs(place - start), place))
        assert (found.end, found.places > 1) == (found.start + len(surface), len(places) > 1 and found.how == "moved")


@given(
    st.text(LETTERS, max_size=12),
    st.lists(st.tuples(st.text(LETTERS, max_size=4), st.integers(-3, 14), st.integers(1, 5)), max_size=5),
)
def test_what_is_found_is_the_surface_but_for_its_form(text: str, mentions: list[tuple[str, int, int]]) -> None:
    anchors = Anchors(text, [(surface, start) for surface, start, _ in mentions])
    for surface, start, length in mentions:
        span = (start, start + length) if start >= 0 and start + length <= len(text) else None
        found = anchors.find(surface, start, span)
        if found is None:
            assert not surface or surface not in text
            continue
        assert 0 <= found.start < found.end <= len(text)
        assert folded(text[found.start : found.end]) == folded(surface)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(-30, 30))
def test_mentions_with_different_starts_have_different_places_while_there_are_some(gaps: list[int], shift: int) -> None:
    text, places = "", []
    for gap in gaps:
        text += "。" * gap
        places.append(len(text))
        text += "北京"
    anchors = Anchors(text, [("北京", place + shift) for place in places])
    found = [anchors.find("北京", place + shift, None) for place in places]
    assert sorted(one.start for one in found if one is not None) == places
