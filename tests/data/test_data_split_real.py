"""Splits of the real corpora, where a development machine has them beside the repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from nertune.data import groups_of, read, split, split_three
from nertune.data.similar import folded, near_pairs
from nertune.schema import Document

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real corpora are not on this machine")


def mentions(documents: Sequence[Document]) -> Counter[str]:
    return Counter(entity.label for document in documents for entity in document.entities)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "groups", "together"),
    [("cluener/train.jsonl", 10_701, 85), ("ccfbdci/train.jsonl", 11_741, 1_112), ("cmeee/train.json", 4_000, 0)],
)
def test_no_near_duplicate_straddles_and_labels_have_their_shares(file: str, groups: int, together: int) -> None:
    documents = read(DATA / file).documents
    numbers = groups_of(documents, "near")
    sizes = Counter(numbers)
    assert (len(sizes), sum(size for size in sizes.values() if size > 1)) == (groups, together)
    train, validation, test = split_three(documents, validation=0.1, test=0.1, seed=1024, groups=numbers)
    assert len(validation) == len(test) == round(len(documents) / 10)
    assert not near_pairs([d.text for d in train], [d.text for d in (*validation, *test)])
    assert not {folded(d.text) for d in validation} & {folded(d.text) for d in test}
    there = mentions(documents)
    at_random = mentions(split(documents, held_out=0.1, seed=1024).held_out)
    for part in (validation, test):
        have = mentions(part)
        off = sum(abs(have[label] / there[label] - 0.1) for label in there)
        assert off < 0.3 * sum(abs(at_random[label] / there[label] - 0.1) for label in there)
