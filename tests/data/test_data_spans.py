"""Conventions are told from the slices, and no mention is placed anywhere but on its surface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data.spans import HALF_OPEN, INCLUSIVE, Convention, Moved, Placing, RawDocument, RawMention, unit_index
from nertune.schema import Document

TEXT = "在北京😀的上海和北京"


def encoded(text: str, convention: Convention, start: int, end: int) -> tuple[int, int]:
    """The span [start, end) as a file of that convention writes it."""

    def count(prefix: str) -> int:
        if convention.unit == "UTF-16 units":
            return len(prefix.encode("utf-16-le")) // 2
        return len(prefix.encode()) if convention.unit == "UTF-8 bytes" else len(prefix)

    return count(text[:start]) + convention.origin, count(text[:end]) + convention.origin - convention.inclusive


class Placed(NamedTuple):
    documents: tuple[Document, ...]
    notes: tuple[str, ...]


def place(raw: Sequence[RawDocument], *, limit: int | None, preferred: Convention) -> Placed:
    placing = Placing(preferred)
    documents = tuple(row.document for row in placing.rows(raw, limit=limit))
    return Placed(documents, placing.notes())


def raw(*mentions: RawMention, text: str = TEXT) -> RawDocument:
    return RawDocument(text, mentions, None)


@pytest.mark.parametrize("origin", [0, 1])
@pytest.mark.parametrize("inclusive", [0, 1])
@pytest.mark.parametrize("unit", ["code points", "UTF-16 units", "UTF-8 bytes"])
def test_each_convention_is_recognized(origin: int, inclusive: int, unit: str) -> None:
    convention = Convention(origin, inclusive, unit)  # type: ignore[arg-type]
    places = [(1, 3), (5, 7), (8, 10)]
    mentions = [RawMention("地点", *encoded(TEXT, convention, *span), TEXT[slice(*span)]) for span in places]
    placed = place([raw(*mentions)], limit=None, preferred=HALF_OPEN)
    assert [(e.start, e.end) for e in placed.documents[0].entities] == places
    assert placed.notes[0].startswith(f"spans: {convention.name}, by 3 of 3 mentions")


@given(st.text(alphabet="a中é😀\u0301", min_size=1, max_size=30), st.data())
def test_unit_index_inverts_encoding(text: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(text)))
    for unit, size in (("UTF-8 bytes", len(text[:position].encode())), ("UTF-16 units", 0)):
        size = size if unit == "UTF-8 bytes" else len(text[:position].encode("utf-16-le")) // 2
        index = unit_index(text, unit)  # type: ignore[arg-type]
        assert (size if index is None else index[size]) == position


def test_the_majority_of_the_file_wins_and_the_rest_is_counted() -> None:
    sound = raw(RawMention("x", 1, 3, "北京"), RawMention("x", 5, 7, "上海"))
    off = raw(
        RawMention("x", 5, 6, "上海"),  # once in the text: re-anchored, and then given twice
        RawMention("y", 4, 6, "上海"),  # re-anchored
        RawMention("x", 2, 4, "北京"),  # twice in the text: the nearer of the two
        RawMention("x", 0, 2, "南京"),  # nowhere: left out
        RawMention("x", 5, 7, "上海"),
    )
    placed = place([sound, off], limit=None, preferred=INCLUSIVE)
    assert [(e.label, e.start, e.end) for e in placed.documents[1].entities] == [("x", 1, 3), ("x", 5, 7), ("y", 5, 7)]
    assert placed.notes == (
        "spans: starts from zero, by 4 of 7 mentions; their ends follow no convention",
        "4 mentions did not match the slice: 1 taken at their start, where the surface stands and only the end is wrong, "
        "1 re-anchored (the surface occurs once), 1 re-anchored at the nearest of several occurrences, 1 left out",
        "re-anchored where there was a choice: 北京 at [1, 3), of 2 places",
        "1 mention given twice, kept once",
    )


def test_overlapping_occurrences_count_as_two() -> None:
    placed = place([raw(RawMention("x", 3, 9, "aa"), text="aaa")], limit=None, preferred=HALF_OPEN)
    assert [(e.start, e.end) for e in placed.documents[0].entities] == [(1, 3)]
    assert "of 2 places" in placed.notes[-1]


@pytest.mark.parametrize(
    ("text", "surface", "start", "end"),
    [
        ("New\nYork city", "New York", 0, 8),
        ("在北 京市", "北京市", 1, 5),
        ("ＡＢＣ公司", "ABC公司", 0, 5),
        ("cafe\u0301 noir", "caf\u00e9", 0, 5),
        ("a\r\nb", "a\nb", 0, 4),
    ],
)
def test_a_surface_of_another_form_is_its_slice(text: str, surface: str, start: int, end: int) -> None:
    placed = place([raw(RawMention("x", start, end, surface), text=text)], limit=None, preferred=HALF_OPEN)
    (entity,) = placed.documents[0].entities
    assert (entity.start, entity.end, entity.text) == (start, end, text[start:end])
    assert "1 mention taken as the text has it" in placed.notes[-1]


@pytest.mark.parametrize("origin", [0, 1])
def test_starts_that_are_right_are_enough(origin: int) -> None:
    """Ends of start + length - 2, which is no convention, and surfaces that occur several times."""
    text = "北京和北京和上海，北京人在上海"
    starts = [(0, "北京"), (3, "北京"), (9, "北京人"), (6, "上海"), (13, "上海")]
    mentions = [RawMention("x", at + origin, at + origin + len(word) - 2, word) for at, word in starts]
    placed = place([raw(*mentions, text=text)], limit=None, preferred=HALF_OPEN)
    assert {(e.start, e.text) for e in placed.documents[0].entities} == set(starts)
    counted = "from one" if origin else "from zero"
    assert placed.notes[0] == f"spans: starts {counted}, by 5 of 5 mentions; their ends follow no convention"


@pytest.mark.parametrize(
    ("text", "surface", "start", "end", "found"),
    [
        ("去 北京 吧", "北京", 1, 4, (2, 4)),  # white space that the surface has not is no part of it
        ("去北京 吧", "北京", 1, 4, (1, 3)),
        ("去北京 吧", "北京", 9, 4, (1, 3)),
        ("ＡＢＣ公司在ＸＹＺ", "XYZ", 1, 4, (6, 9)),  # elsewhere, in another form
        ("first\r\nNew\r\nYork", "New\nYork", 6, 14, (7, 16)),  # counted with one character a line break
        ("cafe\u0301s", "cafe", 0, 9, (0, 4)),
        ("㎞和㎏", "k", 0, 5, None),  # half of a character is no place
        ("I now", "In", 0, 1, None),  # words do not run into each other
    ],
)
def test_a_surface_of_another_form_is_found_where_it_is(
    text: str, surface: str, start: int, end: int, found: tuple[int, int] | None
) -> None:
    placed = place([raw(RawMention("x", start, end, surface), text=text)], limit=None, preferred=HALF_OPEN)
    assert [(e.start, e.end) for e in placed.documents[0].entities] == ([] if found is None else [found])


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("shift", [-7, 7, 8])
def test_mentions_of_one_surface_that_a_changed_text_has_shifted_stay_two(order: int, shift: int) -> None:
    """Each takes a place of its own, though one place is the nearest to both."""
    text = "一二三四五六七八九十北京和上海，去北京。"
    starts = (10, 17)
    mentions = [RawMention("x", start + shift, start + shift + 2, "北京") for start in starts][::order]
    placed = place([raw(*mentions, text=text)], limit=None, preferred=HALF_OPEN)
    assert tuple(e.start for e in placed.documents[0].entities) == starts


def test_two_labels_of_one_span_and_the_same_mention_given_twice_are_moved_together() -> None:
    mentions = [RawMention(label, 0, 2, "北京") for label in ("x", "y", "x")]
    (row,) = Placing(HALF_OPEN).rows([raw(*mentions)])
    assert [(e.label, e.start) for e in row.document.entities] == [("x", 1), ("y", 1)]
    assert len(row.twice) == 1


def test_a_mention_that_stands_where_it_says_keeps_its_place_from_others() -> None:
    sound, off = RawMention("x", 8, 10, "北京"), RawMention("x", 7, 9, "北京")
    for mentions in ((sound, off), (off, sound)):
        placed = place([raw(*mentions)], limit=None, preferred=HALF_OPEN)
        assert [e.start for e in placed.documents[0].entities] == [1, 8]


@pytest.mark.parametrize("unit", ["UTF-16 units", "UTF-8 bytes"])
def test_nearness_counts_code_points_whatever_the_file_counts(unit: str) -> None:
    text = "😀" * 40 + "北京" + "😀" * 8 + "北京"
    convention = Convention(0, 0, unit)  # type: ignore[arg-type]
    sound = [RawMention("x", *encoded(text, convention, at, at + 1), "😀") for at in range(5)]
    off = RawMention("y", *encoded(text, convention, 39, 41), "北京")
    placed = place([raw(*sound, off, text=text)], limit=None, preferred=HALF_OPEN)
    assert [e.start for e in placed.documents[0].entities if e.label == "y"] == [40]


@pytest.mark.parametrize("preferred", [HALF_OPEN, INCLUSIVE])
def test_equal_votes_go_to_the_preferred(preferred: Convention) -> None:
    mentions = (RawMention("x", 1, 3, "北京"), RawMention("x", 5, 6, "上海"))
    placed = place([raw(*mentions)], limit=None, preferred=preferred)
    assert placed.notes[0].startswith(f"spans: {preferred.name}, by 1 of 2")


def test_without_surfaces_the_preferred_is_assumed_and_said() -> None:
    mentions = (RawMention("x", 1, 3, None), RawMention("x", 3, 3, None), RawMention("x", 9, 99, None))
    placed = place([raw(*mentions)], limit=None, preferred=HALF_OPEN)
    assert [e.text for e in placed.documents[0].entities] == ["北京"]
    assert placed.notes == (
        "spans: half-open assumed, because no mention names its surface",
        "2 mentions without a surface left out: empty, or not within the text",
    )


def test_a_mention_without_surface_follows_the_file() -> None:
    mentions = (RawMention("x", 1, 2, "北京"), RawMention("x", 5, 6, None))
    placed = place([raw(*mentions)], limit=None, preferred=HALF_OPEN)
    assert [e.text for e in placed.documents[0].entities] == ["北京", "上海"]


def test_negative_and_empty_spans_are_never_taken_as_they_are() -> None:
    mentions = (RawMention("x", -2, 3, "北京"), RawMention("x", 3, 1, ""), RawMention("x", 5, 7, "上海"))
    placed = place([raw(*mentions)], limit=None, preferred=HALF_OPEN)
    assert [(e.start, e.text) for e in placed.documents[0].entities] == [(1, "北京"), (5, "上海")]


def test_no_mentions_no_notes() -> None:
    assert place([raw()], limit=None, preferred=HALF_OPEN).notes == ()


def test_documents_beyond_the_limit_vote() -> None:
    ambiguous = raw(RawMention("x", 0, 1, "aa"), text="aaa")
    voter = raw(RawMention("x", 5, 6, "上海"))
    placed = place([ambiguous, voter], limit=1, preferred=HALF_OPEN)
    assert len(placed.documents) == 1
    assert [(e.start, e.end) for e in placed.documents[0].entities] == [(0, 2)]
    assert placed.notes[0].endswith("in the first 2 records")


@given(
    st.lists(
        st.tuples(
            st.text(alphabet="ab中😀", max_size=8),
            st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 12), st.text(alphabet="ab中😀", max_size=3))),
        ),
        max_size=4,
    )
)
def test_whatever_the_file_says_every_span_is_its_slice(
    rows: list[tuple[str, list[tuple[int, int, str]]]],
) -> None:
    documents = [raw(*(RawMention("x", *mention) for mention in mentions), text=text) for text, mentions in rows]
    placed = place(documents, limit=None, preferred=HALF_OPEN)
    assert len(placed.documents) == len(rows)
    for document, (_, mentions) in zip(placed.documents, rows, strict=True):
        named = {surface for _, _, surface in mentions}
        assert all(document.text[e.start : e.end] == e.text and e.text in named for e in document.entities)


def test_a_row_says_what_became_of_each_mention() -> None:
    sound, off = RawMention("x", 1, 3, "北京"), RawMention("x", 5, 6, "上海")
    again, nowhere = RawMention("x", 5, 7, "上海"), RawMention("x", 0, 2, "南京")
    (row,) = Placing(HALF_OPEN).rows([raw(sound, off, again, nowhere)])
    assert [e.text for e in row.document.entities] == ["北京", "上海"]
    assert (row.moved, row.twice, row.lost) == ((Moved(off, 5, 7),), (again,), (nowhere,))


def test_a_fixed_convention_is_not_put_to_the_vote() -> None:
    inclusive = raw(RawMention("x", 1, 2, "北京"), RawMention("x", 5, 6, "上海"))
    placing = Placing(HALF_OPEN, elects=False)
    (row,) = placing.rows([inclusive])
    assert [(e.start, e.end) for e in row.document.entities] == [(1, 3), (5, 7)]
    assert any("2 taken at their start" in note for note in placing.notes())
    assert not any(note.startswith("spans:") for note in placing.notes())


def test_mentions_without_offsets_are_placed_by_order_of_occurrence() -> None:
    named = [RawMention("x", None, None, text) for text in ("北京", "上海", "北京", "南京")]
    placing = Placing(HALF_OPEN)
    (row,) = placing.rows([raw(*named)])
    assert [(e.start, e.text) for e in row.document.entities] == [(1, "北京"), (5, "上海"), (8, "北京")]
    assert [mention.text for mention in row.lost] == ["南京"]


def test_documents_are_placed_as_they_come_after_the_vote() -> None:
    taken = []

    def documents() -> Iterator[RawDocument]:
        for number in range(30_000):
            taken.append(number)
            yield raw(RawMention("x", 1, 2, "北京"))

    placing = Placing(HALF_OPEN)
    rows = placing.rows(documents())
    assert next(rows).document.entities[0].text == "北京"
    assert len(taken) == 20_001
    assert placing.notes()[0].endswith("in the first 20,000 records")
