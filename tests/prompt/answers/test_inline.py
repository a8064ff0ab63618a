"""The inline format: any text and any nesting comes back; nothing a model writes breaks the reader."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import InputError
from nertune.extract import ground
from nertune.prompt import ParsedAnswer, Placed, answer_format
from nertune.schema import Document, ParseOutcome

INLINE = answer_format("inline", {"depth": 8})
CLEAN, REPAIRED, INVALID = ParseOutcome.CLEAN, ParseOutcome.REPAIRED, ParseOutcome.INVALID


@st.composite
def nested_documents(draw: st.DrawFn) -> Document:
    """Any text, spans that never cross, one span with two labels among them."""
    anything = st.text(min_size=1, max_size=30) | st.text("a桂 []|\\\n😀", min_size=1, max_size=30)
    text = draw(anything.filter(str.strip))
    spans: set[tuple[str, int, int]] = set()
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        crosses = any(s < start < e < end or start < s < end < e for _, s, e in spans)
        if not crosses:
            spans.add((draw(st.sampled_from(["name", "地 点", "a/b", "{x}"])), start, end))
    return Document.of(text, spans)


@settings(max_examples=200, deadline=None)
@given(nested_documents())
def test_every_document_comes_back(document: Document) -> None:
    parsed = INLINE.parse(INLINE.write(document))
    assert (parsed.outcome, parsed.copy) == (CLEAN, document.text)
    assert ground(document.text, parsed) == (document.entities, ())


@pytest.mark.parametrize(
    ("text", "spans", "answer"),
    [
        ("叶老桂博士", [("name", 0, 3)], "[叶老桂 | name]博士"),
        ("南京大学", [("org", 0, 4), ("loc", 0, 2)], "[[南京 | loc]大学 | org]"),
        ("桂", [("a", 0, 1), ("b", 0, 1)], "[[桂 | b] | a]"),
        (" 桂 ", [("a", 0, 3)], "[ 桂  | a]"),
        ("a|[b]\\", [("x", 1, 5)], "a[\\|\\[b\\] | x]\\\\"),
        ("𠮷\n野", [("x", 0, 2), ("x", 2, 3)], "[𠮷\n | x][野 | x]"),
        ("无", [], "无"),
    ],
)
def test_answers_are_written_so(text: str, spans: list[tuple[str, int, int]], answer: str) -> None:
    document = Document.of(text, spans)
    assert INLINE.write(document) == answer
    assert ground(text, INLINE.parse(answer)).entities == document.entities


def test_crossing_entities_are_named() -> None:
    crossing = Document.of("甲乙丙丁", [("a", 0, 2), ("b", 1, 3)])
    with pytest.raises(InputError, match=r"'甲乙' \[0, 2\) and '乙丙' \[1, 3\) cross.*answer: json"):
        INLINE.write(crossing)
    hidden = Document.of("甲乙丙丁", [("a", 0, 4), ("b", 0, 2), ("c", 1, 3)])
    with pytest.raises(InputError, match="cross"):
        INLINE.write(hidden)
    assert INLINE.write(Document.of("甲乙", [("a", 0, 1), ("b", 1, 2)])) == "[甲 | a][乙 | b]"


@pytest.mark.parametrize(
    ("answer", "outcome", "copy", "placed"),
    [
        ("[甲|a]", CLEAN, "甲", [("a", 0, 1)]),
        ("[甲 |a]乙", CLEAN, "甲乙", [("a", 0, 1)]),
        ("[甲", REPAIRED, "甲", []),
        ("甲]", REPAIRED, "甲]", []),
        ("甲 | 乙", REPAIRED, "甲 | 乙", []),
        ("[甲]", REPAIRED, "甲]", []),
        ("[ | a]甲", REPAIRED, "甲", []),
        ("[甲 | ]", REPAIRED, "甲", []),
        ("[甲 | a", REPAIRED, "甲 | a", []),
        ("[甲 | a\n]", REPAIRED, "甲 | a\n]", []),
        ("[[甲 | a]乙", REPAIRED, "甲乙", [("a", 0, 1)]),
        ("\\甲", REPAIRED, "\\甲", []),
        ("", INVALID, "", []),
        (" \n", INVALID, "", []),
    ],
)
def test_outcomes(answer: str, outcome: ParseOutcome, copy: str, placed: list[tuple[str, int, int]]) -> None:
    parsed = INLINE.parse(answer)
    assert (parsed.outcome, parsed.copy) == (outcome, copy)
    assert parsed.placed == tuple(Placed(*place) for place in placed)
    assert len(parsed.written) == (len(placed) if outcome is CLEAN else 0)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text("[]|\\ a\n", max_size=60))
def test_any_answer_can_be_read(answer: str) -> None:
    parsed = INLINE.parse(answer)
    assert parsed.copy is not None
    assert all(0 <= place.start < place.end <= len(parsed.copy) for place in parsed.placed)
    assert (parsed.outcome is INVALID) == (not answer.strip())


@pytest.mark.parametrize("piece", ["[", "]", "|", "\\", "[a|", "[a | b]", "桂", "[|]"])
def test_endless_answers_are_read_in_one_go(piece: str) -> None:
    answer = piece * (200_000 // len(piece))
    parsed = INLINE.parse(answer)
    assert len(parsed.copy) + sum(place.end - place.start for place in parsed.placed) <= 2 * len(answer)
    assert ground("桂", ParsedAnswer(parsed.outcome, copy=parsed.copy[:100])) == ((), ())
