"""The formats that copy the text: xml as it is written and read, depth, answers that were cut off, drafts, places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import InputError
from nertune.extract import ground
from nertune.prompt import Placed, answer_format, refuse_unwritable
from nertune.schema import Document, LabelSet, ParseOutcome

XML, INLINE = answer_format("xml"), answer_format("inline")
CLEAN, REPAIRED, INVALID = ParseOutcome.CLEAN, ParseOutcome.REPAIRED, ParseOutcome.INVALID
LABELS = LabelSet(("name", "loc", "location", "机构"))


@pytest.mark.parametrize(
    ("text", "spans", "answer"),
    [
        ("叶老桂博士", [("name", 0, 3)], "<name>叶老桂</name>博士"),
        ("南京大学", [("机构", 0, 4), ("地点", 0, 2)], "<机构><地点>南京</地点>大学</机构>"),
        ("桂", [("a", 0, 1), ("b", 0, 1)], "<a><b>桂</b></a>"),
        ("a<b>&c;", [("x", 1, 4)], "a<x>&lt;b&gt;</x>&amp;c;"),
        ("&lt;", [], "&amp;lt;"),
        ("无", [], "无"),
    ],
)
def test_xml_is_written_so(text: str, spans: list[tuple[str, int, int]], answer: str) -> None:
    document = Document.of(text, spans)
    assert XML.write(document) == answer
    assert ground(text, XML.parse(answer)).entities == document.entities


@pytest.mark.parametrize(
    ("answer", "outcome", "copy", "placed"),
    [
        ("<a>甲</a>乙", CLEAN, "甲乙", [("a", 0, 1)]),
        ("<a>甲乙", REPAIRED, "甲乙", []),
        ("甲</a>乙", REPAIRED, "甲乙", []),
        ("<a><b>甲</a>乙</b>", REPAIRED, "甲乙", [("a", 0, 1)]),
        ("<a></a>甲", REPAIRED, "甲", []),
        ("甲 < 乙 > 丙", REPAIRED, "甲 < 乙 > 丙", []),
        ("甲 & 乙", REPAIRED, "甲 & 乙", []),
        ("<a b>甲</a b>", REPAIRED, "<a b>甲</a b>", []),
        ("", INVALID, "", []),
        (" \n", INVALID, "", []),
    ],
)
def test_xml_outcomes(answer: str, outcome: ParseOutcome, copy: str, placed: list[tuple[str, int, int]]) -> None:
    parsed = XML.parse(answer)
    assert (parsed.outcome, parsed.copy) == (outcome, copy)
    assert parsed.placed == tuple(Placed(*place) for place in placed)


@pytest.mark.parametrize("form", [XML, INLINE], ids=["xml", "inline"])
@settings(max_examples=150, deadline=None)
@given(answer=st.text("[]|\\<>/&;ampl \n甲", max_size=40), cut=st.booleans())
def test_any_answer_can_be_read_and_any_place_is_in_the_copy(form, answer, cut) -> None:
    parsed = form.parse(answer, cut=cut)
    assert all(0 <= place.start < place.end <= len(parsed.copy) for place in parsed.placed)
    assert (parsed.outcome is INVALID) == (not answer.strip())


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("piece", ["<a>", "</a>", "<", "&", "&amp;", "<a>甲</a>", "[", "|", "\\", "[甲|"])
def test_monstrous_answers_are_read_in_one_go(piece: str, cut: bool) -> None:
    for form in (XML, INLINE):
        for answer in (piece * 20_000, "<b>" * 10_000 + piece * 10_000, "[" + piece * 20_000):
            assert len(form.parse(answer, cut=cut).copy) <= len(answer)
            assert isinstance(form.draft("甲", answer, LABELS), str)


@pytest.mark.parametrize("form", [XML, INLINE], ids=["xml", "inline"])
def test_what_is_nested_too_deep_is_refused_with_the_option_s_name(form) -> None:
    document = Document.of("甲乙丙丁", [("a", 0, 4), ("b", 0, 3), ("c", 0, 2), ("d", 0, 1)])
    with pytest.raises(InputError, match=rf"'甲' \[0, 1\) is nested 4 deep.*answer: {{format: {form.name}, depth: 4}}"):
        form.write(document)
    deeper = answer_format(form.name, {"depth": 4})
    assert ground(document.text, deeper.parse(deeper.write(document))).entities == document.entities
    assert answer_format(form.name, {}).options() == {"depth": 3}


def test_all_documents_that_cannot_be_written_are_counted_in_one_message() -> None:
    crossing = Document.of("甲乙丙", [("a", 0, 2), ("b", 1, 3)])
    deep = Document.of("甲", [("a", 0, 1), ("b", 0, 1), ("c", 0, 1), ("d", 0, 1)])
    fine = Document("无")
    rows = [(f"f: document {n}", INLINE, crossing) for n in range(1, 7)]
    rows += [
        ("f: document 7", XML, deep),
        ("f: document 8", XML, fine),
        ("g: document 1", answer_format("json"), crossing),
    ]
    with pytest.raises(InputError) as raised:
        refuse_unwritable(rows)
    message = str(raised.value)
    assert message.startswith(
        "7 of 9 documents cannot be written in their answer format: 6 with entities that cross (inline), "
        "1 with entities nested deeper than 3 (xml)\n  f: document 1: '甲乙' [0, 2) and '乙丙' [1, 3) cross\n"
    )
    assert "and 2 more" in message
    assert "answer: json" in message
    assert "depth: 4" in message
    refuse_unwritable(rows[-2:])


@pytest.mark.parametrize(
    ("form", "answer", "outcome", "copy", "count"),
    [
        (INLINE, "[南京 | loc]大", CLEAN, "南京大", 1),
        (INLINE, "[[南京 | loc]大", REPAIRED, "南京大", 1),
        (INLINE, "[[南京 | loc]大学 | 机", REPAIRED, "南京大学", 1),
        (INLINE, "[南京 | loc", REPAIRED, "南京", 0),
        (INLINE, "[南京 |", REPAIRED, "南京", 0),
        (INLINE, "[南京 | loc][大 |", REPAIRED, "南京大", 1),
        (INLINE, "南京\\", REPAIRED, "南京", 0),
        (INLINE, "[南京 | loc]大学\\\\", CLEAN, "南京大学\\", 1),
        (XML, "<loc>南京</loc>大", CLEAN, "南京大", 1),
        (XML, "<机构><loc>南京</loc>大学</机", REPAIRED, "南京大学", 1),
        (XML, "<loc>南京</", REPAIRED, "南京", 0),
        (XML, "<loc>南京</loc><", REPAIRED, "南京", 1),
        (XML, "<loc>南京</loc>&am", REPAIRED, "南京", 1),
    ],
)
def test_answers_that_were_cut_off_keep_what_is_closed(form, answer, outcome, copy, count) -> None:
    parsed = form.parse(answer, cut=True)
    assert (parsed.outcome, parsed.copy, len(parsed.placed)) == (outcome, copy, count)


@settings(max_examples=150, deadline=None)
@given(st.text("甲乙 [|\\<&]", min_size=1, max_size=10).filter(str.strip), st.data())
def test_what_is_read_of_a_cut_answer_was_written(text: str, draw: st.DataObject) -> None:
    end = draw.draw(st.integers(1, len(text)))
    document = Document.of(text, [("name", 0, end), *([("loc", end, len(text))] if end < len(text) else [])])
    for form in (XML, INLINE):
        answer = form.write(document)
        parsed = form.parse(answer[: draw.draw(st.integers(0, len(answer)))], cut=True)
        whole = [(place.label, place.start, place.end) for place in form.parse(answer).placed]
        assert [(place.label, place.start, place.end) for place in parsed.placed] == whole[: len(parsed.placed)]
        assert text.startswith(parsed.copy.rstrip(" ")) or parsed.outcome is INVALID


@pytest.mark.parametrize(
    ("form", "answer", "draft"),
    [
        (INLINE, "", "在南京[\\]大学".replace("[", "\\[")),
        (INLINE, "在", "南京\\[\\]大学"),
        (INLINE, "在[", "南京\\[\\]大学"),
        (INLINE, "在[南京 | loc]", "\\[\\]大学"),
        (INLINE, "在[南京 | loc]\\", "[\\]大学"),
        (INLINE, "在[南京 | loc]\\[", "\\]大学"),
        (INLINE, "在[南京 | na", "me]\\[\\]大学"),
        (INLINE, "在[南京 | loc", "]\\[\\]大学"),
        (INLINE, "在[南京 | lo", ""),
        (INLINE, "在[南京 | x", ""),
        (INLINE, "在[南京 |", ""),
        (INLINE, "在[南京 ", ""),
        (INLINE, "另一句话", ""),
        (INLINE, "在[南京 | loc]\\[\\]大学", ""),
        (XML, "在<loc>", "南京[]大学"),
        (XML, "在<loc>南京</loc>", "[]大学"),
        (XML, "在<loc>南京<", ""),
        (XML, "在<loc>南京</", "loc>[]大学"),
        (XML, "在<loc>南京</l", "oc>[]大学"),
        (XML, "在<loc>南京</n", ""),
        (XML, "在<na", "me>南京[]大学"),
        (XML, "在<lo", ""),
        (XML, "在<", ""),
    ],
)
def test_drafts_go_on_with_the_text(form, answer: str, draft: str) -> None:
    assert form.draft("在南京[]大学", answer, LABELS) == draft


def test_drafts_write_escapes_to_their_end() -> None:
    assert XML.draft("a&b<c", "a") == "&amp;b&lt;c"
    assert XML.draft("a&b<c", "a&a") == "mp;b&lt;c"
    assert XML.draft("a&b<c", "a&l") == ""
    assert INLINE.draft("在南京", "在[南京 | loc") == ""


def test_a_draft_finds_its_place_again_after_an_altered_copy() -> None:
    text = "甲" + "".join(map(chr, range(0x4E00, 0x4E40)))
    assert INLINE.draft(text, text[3:40]) == text[40:]


@settings(max_examples=200, deadline=None)
@given(st.text("甲乙 [|\\<&]", min_size=1, max_size=12), st.data())
def test_a_draft_after_any_part_of_an_unmarked_answer_is_the_rest_of_it(text: str, draw: st.DataObject) -> None:
    for form in (XML, INLINE):
        answer = form.write(Document(text))
        cut = draw.draw(st.integers(0, len(answer)))
        assert form.draft(text, answer[:cut], LABELS) == answer[cut:]


def test_places_in_the_answer_are_told() -> None:
    for form, answer in ((INLINE, "在[[南京 | loc]大学 | 机构]"), (XML, "在<机构><loc>南京</loc>大学</机构>")):
        parsed = form.parse(answer)
        assert [place.label for place in parsed.placed] == ["loc", "机构"]
        assert [answer[slice(*written.label)] for written in parsed.written] == ["loc", "机构"]
        spans = [answer[slice(*written.span)] for written in parsed.written]
        if form is INLINE:
            assert spans == ["[南京 | ", "[[南京 | loc]大学 | "]
        else:
            assert spans == ["<loc>南京</loc>", "<机构><loc>南京</loc>大学</机构>"]
