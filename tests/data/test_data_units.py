"""Code points or UTF-16 units, told from spans alone: only where they say so clearly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nertune.data import read
from nertune.data.units import Ballot
from nertune.errors import DataError, InputError
from nertune.schema import Document

Jsonl = Callable[..., Path]

EMOJI = "😀 Anna lives in Berlin"  # one code point, two UTF-16 units


def test_a_span_past_the_end_that_fits_in_utf_16_is_evidence(jsonl: Jsonl) -> None:
    corpus = read(jsonl({"text": EMOJI, "label": [[17, 23, "LOC"]]}))
    assert [e.text for e in corpus.documents[0].entities] == ["Berlin"]
    assert corpus.notes == (
        "spans: half-open UTF-16 units told from spans alone, because no mention names its surface; of 1 behind a "
        "character beyond U+FFFF 1 fit their text only so and 0 have clean edges only so (code points: 0 and 0); "
        "if it is wrong, say --offsets",
    )


def test_a_span_that_cuts_a_surrogate_pair_is_evidence_against(jsonl: Jsonl) -> None:
    rows = [{"text": "ab😀", "label": [[0, 3, "X"]]}, {"text": EMOJI, "label": [[2, 6, "PER"]]}]
    corpus = read(jsonl(*rows))
    assert [[e.text for e in d.entities] for d in corpus.documents] == [["ab😀"], ["Anna"]]
    assert "half-open assumed" in corpus.notes[0]
    assert "1 fit their text only so and 1 have clean edges only so (UTF-16 units: 0 and 0)" in corpus.notes[0]


def test_clean_edges_decide_where_there_are_enough_of_them(jsonl: Jsonl) -> None:
    row = {"text": EMOJI + ".", "label": [[3, 7, "PER"], [17, 23, "LOC"]]}
    two, four = read(jsonl(row, name="two.jsonl")), read(jsonl(row, row, name="four.jsonl"))
    assert [e.text for e in two.documents[0].entities] == ["nna ", "erlin."]
    assert [e.text for e in four.documents[0].entities] == ["Anna", "Berlin"]


def test_one_faulty_span_does_not_outvote_the_others(jsonl: Jsonl) -> None:
    sound = {"text": EMOJI, "label": [[2, 6, "PER"], [16, 22, "LOC"]]}
    corpus = read(jsonl(sound, sound, {"text": EMOJI, "label": [[17, 23, "LOC"]]}))
    assert [e.text for e in corpus.documents[0].entities] == ["Anna", "Berlin"]
    assert corpus.notes[1] == "1 mention without a surface left out: empty, or not within the text"


def test_without_evidence_code_points_are_assumed_and_that_is_said(jsonl: Jsonl) -> None:
    corpus = read(jsonl({"text": "😀中中中中中", "label": [[2, 4, "X"]]}))
    assert [(e.start, e.end) for e in corpus.documents[0].entities] == [(2, 4)]
    assert corpus.notes[0].endswith(
        "of 1 behind a character beyond U+FFFF none tells it from UTF-16 units; if it is wrong, say --offsets"
    )


def test_nothing_is_said_of_units_where_both_are_the_same(jsonl: Jsonl) -> None:
    corpus = read(jsonl({"text": "Anna 😀", "label": [[0, 4, "PER"]]}))
    assert corpus.notes == ("spans: half-open assumed, because no mention names its surface",)


@pytest.mark.parametrize(("offsets", "surface"), [("code-points", "nna "), ("utf-16", "Anna")])
def test_what_the_caller_says_is_taken(jsonl: Jsonl, offsets: str, surface: str) -> None:
    path = jsonl({"text": EMOJI, "label": [[3, 7, "PER"]]})
    corpus = read(path, offsets=offsets)  # type: ignore[arg-type]
    assert [e.text for e in corpus.documents[0].entities] == [surface]
    assert corpus.notes[0].endswith(", as told; no mention names its surface")


def test_the_unit_that_is_told_leaves_the_ends_to_the_file(jsonl: Jsonl) -> None:
    places = [
        {"start": 3, "end": 6, "label": "PER", "text": "Anna"},
        {"start": 0, "end": 1, "label": "E", "text": "😀"},
    ]
    path = jsonl({"text": EMOJI, "entities": places})
    corpus = read(path, offsets="utf-16")
    assert corpus.documents == (Document.of(EMOJI, [("E", 0, 1), ("PER", 2, 6)]),)
    assert corpus.notes == ("spans: inclusive UTF-16 units, by 2 of 2 mentions",)
    # Told wrongly, the spans do not fit, and each mention is found by its surface.
    assert "did not match the slice" in read(path, offsets="code-points").notes[1]


def test_offsets_are_not_told_to_formats_that_have_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"instruction": "", "input": "a", "output": "[]"}]))
    with pytest.raises(DataError, match="alpaca has one way to count"):
        read(path, offsets="utf-16")
    with pytest.raises(InputError, match="offsets must be one of code-points, utf-16, found 'utf-32'"):
        read(path, offsets="utf-32")  # type: ignore[arg-type]


def test_readings_that_are_alike_do_not_vote() -> None:
    ballot = Ballot()
    ballot.count("ab", (0, 1), (0, 1))
    assert not ballot.said
    assert not ballot.utf_16
