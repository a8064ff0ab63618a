"""What the formats of annotation tools say they can hold comes back whole, whatever is in the text."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data import detect, read, writer
from nertune.schema import Document, Entity

PARTS = [
    "a",
    "b",
    "中",
    "😀",
    "𠀀",
    "e\u0301",
    "\U0001f468\u200d\U0001f469",
    "\r\n",
    "\n",
    "\r",
    "\t",
    " ",
    "\u3000",
    "\ufeff",
]
PARTS += ["\u2028", "\x85", "\x0c", "\x1e", '"', "\\", "\\n", ";", "#"]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    parts = st.sampled_from(PARTS) | st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    text = "".join(draw(st.lists(parts, max_size=16)))
    spans = st.tuples(st.integers(0, max(len(text) - 1, 0)), st.integers(1, max(len(text), 1)))
    labels = st.sampled_from(["地点", "PER", "two words", "a;b", "7"])
    chosen = draw(st.sets(st.tuples(labels, spans), max_size=5)) if text else set()
    scores = draw(st.sampled_from([st.none(), st.none() | st.floats(0, 1)]))
    places = [(label, s, e, text[s:e], draw(scores)) for label, (s, e) in chosen if s < e]
    entities = [Entity(*place, None if place[4] is None else draw(scores)) for place in places]
    return Document(text, tuple(entities), draw(st.none() | st.text("iD中/.\\ :", max_size=4)))


@pytest.mark.parametrize("format", ["doccano", "labelstudio", "brat"])
@settings(max_examples=40, deadline=None)
@given(given_documents=st.lists(documents(), min_size=1, max_size=5))
def test_what_is_expressed_comes_back(format: str, given_documents: list[Document]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "out"
        chosen = writer(format, path=path)
        expressed = [document for d in given_documents if (document := chosen.express(d).document) is not None]
        assert len(expressed) == len(given_documents)
        chosen.write(expressed, path)
        assert detect(path) == format
        found = read(path, offsets="code-points").documents
        assert found == tuple(expressed)
        # Entities are equal whatever their scores.
        assert [[(e.score, e.span_score, e.label_score) for e in d.entities] for d in found] == [
            [(e.score, e.span_score, e.label_score) for e in d.entities] for d in expressed
        ]


@pytest.mark.parametrize("format", ["doccano", "labelstudio", "brat"])
@settings(max_examples=40, deadline=None)
@given(document=documents())
def test_nothing_is_left_out_but_what_is_named(format: str, document: Document) -> None:
    expressed, losses = writer(format, path="x").express(document)
    assert expressed is not None
    gone = [loss.entity for loss in losses if loss.left_out]
    assert sorted(map(repr, set(document.entities))) == sorted(
        {repr(original(document, e)) for e in (*expressed.entities, *gone) if e is not None}
    )
    assert (expressed.text, expressed.id) == (document.text, document.id)


def original(document: Document, entity: Entity) -> Entity:
    """The document's entity, with its scores."""
    return next(e for e in document.entities if e == entity)
