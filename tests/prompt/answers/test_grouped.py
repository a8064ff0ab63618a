"""The grouped format, and what all listing formats share: answers that were cut off, drafts, places in the answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.prompt import answer_format
from nertune.schema import Document, Mention, ParseOutcome

GROUPED, JSON, LINES = answer_format("grouped"), answer_format("json"), answer_format("jsonl")
CLEAN, REPAIRED, INVALID = ParseOutcome.CLEAN, ParseOutcome.REPAIRED, ParseOutcome.INVALID
TEXT = '南京的"南京大学"在南京'


def test_labels_stand_in_the_order_of_their_first_mention() -> None:
    document = Document.of("桂在杭州和桂", [("地点", 2, 4), ("n", 0, 1), ("n", 5, 6)])
    assert GROUPED.write(document) == '{"n": ["桂", "桂"], "地点": ["杭州"]}'
    assert answer_format("grouped", {"distinct": True}).write(document) == '{"n": ["桂"], "地点": ["杭州"]}'
    assert GROUPED.write(Document("无")) == "{}"


@pytest.mark.parametrize(
    ("answer", "outcome", "mentions"),
    [
        ('{"n": ["桂", "叶"], "p": ["桂"]}', CLEAN, [("n", "桂"), ("n", "叶"), ("p", "桂")]),
        ('{"n": ["桂"], "p": ["桂"], "n": ["叶"]}', CLEAN, [("n", "桂"), ("p", "桂"), ("n", "叶")]),
        ("{}", CLEAN, []),
        ('{"n": []}', CLEAN, []),
        ("```json\n{}\n```", REPAIRED, []),
        ('```json\n{"n": ["桂"]}\n```', REPAIRED, [("n", "桂")]),
        ('{"n": "桂"}', REPAIRED, [("n", "桂")]),
        ('{"n": ["桂", 3, ""], "p": null}', REPAIRED, [("n", "桂")]),
        ('{"n": ["桂", "叶', REPAIRED, [("n", "桂"), ("n", "叶")]),
        ('{"n": [3]}', INVALID, []),
        ('["桂"]', INVALID, []),
        ("没有。", INVALID, []),
        ("", INVALID, []),
    ],
)
def test_outcomes(answer: str, outcome: ParseOutcome, mentions: list[tuple[str, str]]) -> None:
    parsed = GROUPED.parse(answer)
    assert (parsed.outcome, parsed.mentions) == (outcome, tuple(Mention(*mention) for mention in mentions))
    assert len(parsed.written) == (len(mentions) if outcome is CLEAN else 0)


@settings(max_examples=150, deadline=None)
@given(answer=st.text(max_size=60) | st.text('[]{}",:\\ a1\n`', max_size=60), cut=st.booleans())
def test_any_answer_can_be_read(answer: str, cut: bool) -> None:
    for form in (GROUPED, JSON, LINES):
        parsed = form.parse(answer, cut=cut)
        assert all(mention.label and mention.text for mention in parsed.mentions)
        assert isinstance(form.draft(TEXT, answer), str)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("piece", ["[", '{"a": ', '{"a": ["', '"', "\\", '{"a": ["桂"], ', '"a", ', "{", "{}", '\\"'])
def test_monstrous_answers_are_read_in_one_go(piece: str, cut: bool) -> None:
    for form in (GROUPED, JSON, LINES):
        for answer in (piece * 20_000, '{"entity_text": "' + piece * 20_000):
            assert all(mention.text for mention in form.parse(answer, cut=cut).mentions)
            assert isinstance(form.draft(TEXT, answer), str)


@pytest.mark.parametrize(
    ("form", "answer", "outcome", "texts"),
    [
        (JSON, '[{"label": "n", "text": "桂"}, {"label": "n", "text": "叶老', REPAIRED, ["桂"]),
        (JSON, '[{"label": "n", "text": "桂"}', REPAIRED, ["桂"]),
        (JSON, '[{"label": "n", "text": "桂"}]', CLEAN, ["桂"]),
        (JSON, '```json\n[{"label": "n", "text": "桂"}, {"lab', REPAIRED, ["桂"]),
        (JSON, '[{"label": "n", "text": "桂"', INVALID, []),
        (JSON, "[", INVALID, []),
        (LINES, '{"entity_text": "桂", "entity_label": "n"}\n{"entity_text": "叶老', REPAIRED, ["桂"]),
        (
            LINES,
            '{"entity_text": "桂", "entity_label": "n"}\n{"entity_text": "叶", "entity_label": "n"}',
            CLEAN,
            "桂叶",
        ),
        (LINES, '{"entity_text": "桂", "entity_label": "n', INVALID, []),
        (LINES, "没有找到", INVALID, []),
        (GROUPED, '{"n": ["桂", "叶老', REPAIRED, ["桂"]),
        (GROUPED, '{"n": ["桂"], "p"', REPAIRED, ["桂"]),
        (GROUPED, '{"n": ["桂"], "p": ["[]", "叶\\', REPAIRED, ["桂", "[]"]),
        (GROUPED, '{"n": ["', INVALID, []),
    ],
)
def test_of_an_answer_that_was_cut_off_what_is_whole_is_kept(form, answer, outcome, texts) -> None:
    parsed = form.parse(answer, cut=True)
    assert (parsed.outcome, [mention.text for mention in parsed.mentions]) == (outcome, list(texts))


@settings(max_examples=100, deadline=None)
@given(st.text('甲乙"\\[{\n', min_size=1, max_size=8), st.data())
def test_what_is_read_of_a_cut_answer_was_written(text: str, draw: st.DataObject) -> None:
    spans = [("n", place, place + 1 + place % 2) for place in range(len(text) - 1)]
    document = Document.of(text, spans)
    for name in ("json", "jsonl", "grouped"):
        form = answer_format(name, {"distinct": False})
        answer = form.write(document)
        parsed = form.parse(answer[: draw.draw(st.integers(0, len(answer)))], cut=True)
        assert parsed.mentions == form.parse(answer).mentions[: len(parsed.mentions)]


@pytest.mark.parametrize(
    ("begun", "draft"),
    [
        ("南", '京的\\"南京大学\\"在南京'),
        ("南京大", '学\\"在南京'),
        ("的\\", '"南京大学\\"在南京'),
        ('的\\"', '南京大学\\"在南京'),
        ("的\\u00", ""),
        ("", ""),
        ("北", ""),
        ('南京"', ""),
        ("南京大学", '\\"在南京'),
    ],
)
def test_drafts_go_on_with_the_text_inside_an_entity(begun: str, draft: str) -> None:
    assert JSON.draft(TEXT, f'[{{"label": "n", "text": "{begun}') == draft
    assert LINES.draft(TEXT, f'{{"entity_text": "{begun}') == draft
    assert GROUPED.draft(TEXT, f'{{"n": ["{begun}') == draft


def test_a_draft_goes_along_the_text_and_is_made_of_entities_alone() -> None:
    assert GROUPED.draft(TEXT, '{"n": ["大学", "南京') == ""
    assert GROUPED.draft(TEXT, '{"n": ["南京的", "大') == '学\\"在南京'
    assert GROUPED.draft("甲乙，甲丙", '{"n": ["，"], "南') == ""
    assert JSON.draft("甲乙，甲丙", '[{"label": "n", "text": "，"}, {"label": "n", "text": "甲') == "丙"
    assert JSON.draft(TEXT, '[{"label": "南') == ""
    assert JSON.draft(TEXT, '[{"label": "n", "te') == ""


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        (JSON, '[{"label": "n", "text": "a\\"b"}, {"text": "桂", "label": "地 点"}]'),
        (LINES, '{"entity_text": "a\\"b", "entity_label": "n"}\n{"entity_text": "桂", "entity_label": "地 点"}'),
        (GROUPED, '{"n": ["a\\"b"], "地 点": ["桂"]}'),
    ],
)
def test_places_in_the_answer_are_told(form, answer: str) -> None:
    parsed = form.parse(answer)
    assert [answer[slice(*written.span)] for written in parsed.written] == ['a\\"b"', '桂"']
    assert [answer[slice(*written.label)] for written in parsed.written] == ["n", "地 点"]


def test_places_that_cannot_be_told_are_not() -> None:
    assert JSON.parse('[{"label": "n", "text": "桂", "why": {"text": "x"}}]').written == ()
    assert JSON.parse('[{"label": "n", "label": "p", "text": "桂"}]').mentions == (Mention("p", "桂"),)
