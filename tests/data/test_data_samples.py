"""The bundled sample corpus: every offset, the promised variety, and no sentence pattern in both parts."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from nertune import data
from nertune.data.samples import HELDOUT, TRAIN
from nertune.schema import Document


@pytest.fixture(scope="module")
def train() -> tuple[Document, ...]:
    return data.read(TRAIN).documents


@pytest.fixture(scope="module")
def held_out() -> tuple[Document, ...]:
    return data.read(HELDOUT).documents


@pytest.mark.parametrize("path", [TRAIN, HELDOUT])
def test_every_offset_names_its_slice(path):
    mentions = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for entity in record["entities"]:
            assert record["text"][entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"] == entity["text"].strip()
            mentions += 1
    assert mentions > 250


def test_size_labels_and_ids(train, held_out):
    assert len(train) >= 400
    assert len(held_out) >= 100
    labels = {entity.label for document in train for entity in document.entities}
    assert labels == {entity.label for document in held_out for entity in document.entities}
    assert len(labels) >= 6
    ids = [document.id for document in (*train, *held_out)]
    assert len(set(ids)) == len(ids)
    assert len({document.text for document in (*train, *held_out)}) == len(ids)


VARIETY = {
    "no entity": lambda d: not d.entities,
    "repeated mention": lambda d: max(Counter((e.label, e.text) for e in d.entities).values(), default=0) > 1,
    "nested": lambda d: any(a != b and a.start <= b.start and b.end <= a.end for a in d.entities for b in d.entities),
    "Latin name": lambda d: any(re.search(r"[A-Za-z]{2}", e.text) for e in d.entities),
    "straight quote": lambda d: '"' in d.text,
    "backslash": lambda d: "\\" in d.text,
    "bracket": lambda d: "[" in d.text,
    "full-width digit": lambda d: re.search("[０-９]", d.text),
    "beyond the BMP": lambda d: any(ord(character) > 0xFFFF for character in d.text),
    "beyond the BMP in an entity": lambda d: any(ord(c) > 0xFFFF for e in d.entities for c in e.text),
}


@pytest.mark.parametrize("feature", VARIETY)
def test_both_parts_hold_every_kind_of_sentence(train, held_out, feature):
    assert sum(bool(VARIETY[feature](document)) for document in train) >= 5
    assert sum(bool(VARIETY[feature](document)) for document in held_out) >= 2


def test_no_entity_text_is_left_unmarked_where_it_recurs(train, held_out):
    for document in (*train, *held_out):
        for surface in {e.text for e in document.entities if len(e.text) > 1}:
            for match in re.finditer(re.escape(surface), document.text):
                assert any(e.start <= match.start() and match.end() <= e.end for e in document.entities), document.text


def test_the_parts_share_no_sentence_pattern(train, held_out):
    """Without their entities, no two sentences of the two parts have most of their character trigrams in common."""
    trained = [_pattern(document) for document in train]
    for document in held_out:
        own = _pattern(document)
        for other in trained:
            assert len(own & other) / len(own | other) <= 0.4, document.text


def _pattern(document: Document) -> set[str]:
    text, position = "", 0
    for entity in document.entities:
        if entity.start >= position:
            text += document.text[position : entity.start] + "\0"
            position = entity.end
    text = re.sub(r"[\s，。！？、；：“”\"（）]", "", text + document.text[position:])
    return {text[i : i + 3] for i in range(max(1, len(text) - 2))}
