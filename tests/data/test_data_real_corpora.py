"""Real, noisy corpora, where a development machine has them beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from nertune.data import read, write

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real corpora are not on this machine")


@pytest.mark.parametrize(
    ("file", "format", "rows", "entities", "labels", "notes"),
    [
        ("cluener/train.jsonl", "cluener", 10_748, 23_972, 10, ("spans: inclusive, by 23,972 of 23,972 mentions",)),
        (
            "ccfbdci/train.jsonl",
            "entities",
            12_724,
            10_154,
            4,
            (
                "spans: half-open, by 10,117 of 10,154 mentions (one-based half-open 1)",
                "37 mentions did not match the slice: 15 taken at their start, where the surface stands and only the end is "
                "wrong, 16 re-anchored (the surface occurs once), 6 re-anchored at the nearest of several occurrences",
                "re-anchored where there was a choice: line 86: 侨务委员会 at [30, 35), of 2 places; line 86: 侨务委员会 at "
                "[38, 43), of 2 places; line 92: 高行健 at [22, 25), of 2 places; line 92: 高行健 at [71, 74), of 2 places; "
                "line 503: 台湾 at [23, 25), of 2 places; …",
            ),
        ),
        (
            "cmeee/train.json",
            "entities",
            4_000,
            21_006,
            9,
            ("spans: inclusive, by 21,006 of 21,006 mentions (one-based inclusive 1)",),
        ),
    ],
)
def test_corpus(
    tmp_path: Path, file: str, format: str, rows: int, entities: int, labels: int, notes: tuple[str, ...]
) -> None:
    wanted = ("地点", "人名", "地理实体", "组织")
    corpus = read(DATA / file, labels=wanted)
    assert (corpus.format, len(corpus.documents)) == (format, rows)
    assert sum(len(document.entities) for document in corpus.documents) == entities
    assert len(corpus.labels) == labels
    assert [note for note in corpus.notes if "wanted" not in note] == list(notes)
    assert all(d.text[e.start : e.end] == e.text for d in corpus.documents for e in d.entities)
    write(corpus.documents, tmp_path / "canonical.jsonl", format="entities")
    assert read(tmp_path / "canonical.jsonl").documents == corpus.documents


def test_display_names_of_ccfbdci() -> None:
    corpus = read(DATA / "ccfbdci/train.jsonl", labels=("地点", "人名", "地理实体", "组织"), limit=2_000)
    assert set(corpus.labels) == {"地点", "人名", "地理实体", "组织"}
    assert not any("wanted" in note for note in corpus.notes)
