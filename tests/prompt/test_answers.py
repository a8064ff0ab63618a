"""Answer formats: what is written is read back, and nothing a model writes can break the reader."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import InputError
from nertune.extract import ground
from nertune.prompt import answer_format
from nertune.schema import Document, ParseOutcome

TEXTS = st.text(st.sampled_from("叶老桂 a[]|\\\n𠮷😀\"'{}，"), min_size=1, max_size=24)


@st.composite
def nested_documents(draw) -> Document:
    """A text with spans that never cross."""
    text = draw(TEXTS)
    spans: list[tuple[str, int, int]] = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        if all(end <= s or e <= start or (s <= start and end <= e) or (start <= s and e <= end) for _, s, e in spans):
            spans.append((draw(st.sampled_from(["name", "地点"])), start, end))
    return Document.of(text, dict.fromkeys(spans))


@settings(max_examples=300, deadline=None)
@given(nested_documents())
def test_inline_gives_every_document_back(document):
    if not document.text.strip():
        return
    form = answer_format("inline", {"depth": 5})
    parsed = form.parse(form.write(document))
    assert parsed.outcome is ParseOutcome.CLEAN
    assert parsed.copy == document.text
    assert ground(document.text, parsed).entities == document.entities


@pytest.mark.parametrize("name", ["json", "jsonl"])
@settings(max_examples=150, deadline=None)
@given(document=nested_documents())
def test_listed_formats_give_the_mentions_back(name, document):
    form = answer_format(name, {"distinct": False})
    parsed = form.parse(form.write(document))
    assert parsed.outcome is ParseOutcome.CLEAN
    assert [(m.label, m.text) for m in parsed.mentions] == [(e.label, e.text) for e in document.entities]


@pytest.mark.parametrize("name", ["inline", "xml", "json", "jsonl", "grouped"])
@settings(max_examples=150, deadline=None)
@given(answer=st.text(st.sampled_from('[]{}|\\": ,name叶\n'), max_size=60))
def test_no_answer_breaks_a_reader(name, answer):
    assert answer_format(name).parse(answer).outcome in ParseOutcome


@pytest.mark.parametrize("name", ["inline", "xml", "json", "jsonl", "grouped"])
@pytest.mark.parametrize("answer", ["[" * 10_000, '[{"label": "a", ' * 12_000, "{" * 200_000, "叶" * 200_000, ""])
def test_monstrous_answers_end_soon(name, answer):
    outcome = answer_format(name).parse(answer).outcome
    assert outcome is not ParseOutcome.CLEAN or name in ("inline", "xml")


@pytest.mark.parametrize(
    ("answer", "outcome", "count"),
    [
        ('[{"label": "name", "text": "叶"}]', ParseOutcome.CLEAN, 1),
        ("[]", ParseOutcome.CLEAN, 0),
        ('```json\n[{"label": "name", "text": "叶"}]\n```', ParseOutcome.REPAIRED, 1),
        ('[{"label": "name", "text": "叶"}, {"label": "na', ParseOutcome.REPAIRED, 1),
        ('[{"label": "name", "text": "叶"}, {"label": 3, "text": "x"}]', ParseOutcome.REPAIRED, 1),
        ('[{"label": 3}]', ParseOutcome.INVALID, 0),
        ("好的，没有实体。", ParseOutcome.INVALID, 0),
    ],
)
def test_json_outcomes(answer, outcome, count):
    parsed = answer_format("json").parse(answer)
    assert parsed.outcome is outcome
    assert len(parsed.mentions) == count


def test_jsonl_without_line_breaks_and_with_nothing_found():
    form = answer_format("jsonl")
    row = '{"entity_text": "南京", "entity_label": "地点"}'
    assert [m.text for m in form.parse(row + row).mentions] == ["南京", "南京"]
    assert form.write(Document("无")) == "没有找到任何实体"
    assert form.parse("没有找到任何实体").outcome is ParseOutcome.CLEAN


def test_inline_refuses_crossing_entities():
    with pytest.raises(InputError, match="cross"):
        answer_format("inline").write(Document.of("甲乙丙", [("a", 0, 2), ("b", 1, 3)]))


def test_unknown_formats_and_options_say_what_is_known():
    with pytest.raises(InputError, match="did you mean 'json'"):
        answer_format("jsn")
    with pytest.raises(InputError, match="no option 'key'"):
        answer_format("json", {"key": "x"})
    with pytest.raises(InputError, match="must be a bool"):
        answer_format("json", {"distinct": 1})
