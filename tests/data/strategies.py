"""Documents for property tests: what a reader of files might meet."""

from __future__ import annotations

from hypothesis import strategies as st

from nertune.schema import Document

__all__ = ["documents"]

# Marks of column files, white space of all kinds, marks that do not stand alone, characters beyond the first plane.
_AWKWARD = list(
    "\t\n\r \u3000\u00a0\u0085\u2028\x1c\ufeff#-_OBI.,'\"{[|=:叶老桂北京カแAbz0१é\u0301\u200d😀👩\U00020000"
)
_TEXT = st.text(st.one_of(st.sampled_from(_AWKWARD), st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
_WORDS = st.lists(
    st.sampled_from(["EU", "rejects", "U.S.", "--", "-DOCSTART-", "#", "# id = 3", "叶", "don't", "O", "B-X"])
)
_LABELS = st.sampled_from(["PER", "地点", "a b", "I-X", "B", "O", "x-B", "PERSON", "t\tb", "", " edge", "E_x"])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A document of any text, with entities anywhere in it."""
    text = draw(st.one_of(_TEXT, _WORDS.map(" ".join)))
    spans = set()
    if text:
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(text) - 1))
            spans.add((draw(_LABELS), start, draw(st.integers(start + 1, min(len(text), start + 8)))))
    own = draw(st.one_of(st.none(), st.sampled_from(["", "7", " x", "a = b", "x\ny", "O\tO", "名"])))
    return Document.of(text, sorted(spans), id=own)
