"""Display names: a model sees and writes them, entities bear the labels, in every answer format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from nertune.errors import InputError
from nertune.extract import ground
from nertune.extract.scores import mention_scores
from nertune.prompt import (
    ANSWER_FORMATS,
    ParsedAnswer,
    PlainTokenizer,
    PromptSpec,
    PromptTemplate,
    Renderer,
    answer_format,
)
from nertune.prompt.answers.base import Placed, Written
from nertune.schema import Document, LabelSet, Mention, ParseOutcome

TEXT = st.text(st.sampled_from("叶老桂 aLOC地点[]|\\\n𠮷😀<>&\"'{}，"), min_size=1, max_size=24).filter(str.strip)
SETS = [
    LabelSet(("LOC", "PER", "ORG"), {"LOC": "地点", "PER": "人名"}),
    LabelSet(("LOC", "PER", "ORG"), {"LOC": "PER", "PER": "LOC", "ORG": "LOCATION"}),
    LabelSet(("LOC", "PER", "ORG"), {"LOC": "地", "PER": "地点", "ORG": "a.b"}, {"LOC": "城市"}),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "inline": {"depth": 8}, "xml": {"depth": 8}, "json": {"distinct": False}, "jsonl": {}, "grouped": {}
}  # fmt: skip
BYTES = LLTokenizer("byte")


@st.composite
def documents(draw, *, listed: bool) -> Document:
    """Spans that never cross; for formats that list mentions all of other texts, so that places are told by these."""
    text = draw(TEXT)
    spans: list[tuple[str, int, int]] = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        surface = text[start:end]
        crosses = any(s < start < e < end or start < s < end < e for _, s, e in spans)
        known = listed and (any(text[s:e] == surface for _, s, e in spans) or text.find(surface) != start)
        if not crosses and not known:
            spans.append((draw(st.sampled_from(SETS[0].names)), start, end))
    return Document.of(text, dict.fromkeys(spans))


@pytest.mark.parametrize("labels", SETS)
@pytest.mark.parametrize("name", ANSWER_FORMATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_document_comes_back_from_its_answer_under_its_labels(name: str, labels: LabelSet, data: Any) -> None:
    document = data.draw(documents(listed=name not in ("inline", "xml")))
    renderer = Renderer(
        PlainTokenizer(), PromptSpec(PromptTemplate("{text}"), labels, answer_format(name, OPTIONS[name]))
    )
    answer = renderer.spec.write(document)
    parsed = renderer.spec.answer.parse(answer)
    assert parsed.outcome is ParseOutcome.CLEAN
    named = [item.label for item in (*parsed.mentions, *parsed.placed)]
    assert sorted(named) == sorted(labels.display.get(e.label, e.label) for e in document.entities)
    assert ground(document.text, parsed, labels) == (document.entities, ())
    grammar = LLMatcher(BYTES, LLMatcher.grammar_from_lark(renderer.grammar(document.text)), log_level=0)
    assert grammar.try_consume_tokens(list(answer.encode())) == len(answer.encode())
    assert grammar.is_accepting()


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_the_grammar_knows_display_names_alone(name: str) -> None:
    renderer = Renderer(PlainTokenizer(), PromptSpec(PromptTemplate("{text}"), SETS[0], answer_format(name)))
    wrong = LabelSet(SETS[0].names)
    answer = PromptSpec(PromptTemplate("{text}"), wrong, answer_format(name)).write(
        Document.of("在青川", [("LOC", 1, 3)])
    )
    grammar = LLMatcher(BYTES, LLMatcher.grammar_from_lark(renderer.grammar("在青川")), log_level=0)
    assert grammar.try_consume_tokens(list(answer.encode())) < len(answer.encode())


def test_the_json_schema_and_guesses_are_of_display_names() -> None:
    renderer = Renderer(PlainTokenizer(), PromptSpec(PromptTemplate("{text}"), SETS[0], answer_format("json")))
    schema = renderer.schema()
    assert schema is not None
    assert schema["items"]["properties"]["label"]["enum"] == ["地点", "人名", "ORG"]
    inline = Renderer(PlainTokenizer(), PromptSpec(PromptTemplate("{text}"), SETS[0], answer_format("inline")))
    assert inline.draft("青川好")("[青川 | 地") == "点]好"


def test_prompt_and_messages_hold_display_names_and_descriptions() -> None:
    labels = LabelSet(("LOC", "PER"), {"LOC": "地点"}, {"LOC": "城市、国家", "PER": "人"})
    template = PromptTemplate("找出{labels:、}。{descriptions}\n句：{text}", "类别{descriptions:: }")
    renderer = Renderer(PlainTokenizer(), PromptSpec(template, labels, answer_format("inline")))
    user, system = "找出地点、PER。\n地点：城市、国家\nPER：人\n句：桂", "类别\n地点: 城市、国家\nPER: 人"
    assert renderer.messages("桂") == (("system", system), ("user", user))
    assert user in renderer.prompt_text("桂")


def test_what_rebuilds_the_prompt_goes_through_json() -> None:
    labels = LabelSet(("LOC", "PER"), {"LOC": "地点"}, {"PER": "人"})
    spec = PromptSpec(PromptTemplate("{labels}{descriptions}{text}"), labels, answer_format("inline"))
    value = json.loads(json.dumps(spec.to_json()))
    assert (value["labels"], value["display"], value["descriptions"]) == (
        ["LOC", "PER"],
        {"LOC": "地点"},
        {"PER": "人"},
    )
    assert PromptSpec.from_json(value) == spec
    assert PromptSpec.from_json(value).filled() == spec.filled()
    plain = PromptSpec(spec.template, LabelSet(("LOC", "PER")), spec.answer)
    assert set(plain.to_json()) == {"system", "user", "labels", "answer"}
    assert PromptSpec.from_json(plain.to_json()) == plain


def test_an_unknown_name_is_ungrounded_under_what_was_written_and_a_known_one_under_its_label() -> None:
    answer = ParsedAnswer(ParseOutcome.CLEAN, (Mention("地点", "桂"), Mention("书名", "桂"), Mention("地点", "不在")))
    entities, ungrounded = ground("桂", answer, SETS[0])
    assert [(e.label, e.start) for e in entities] == [("LOC", 0)]
    assert set(ungrounded) == {Mention("LOC", "不在"), Mention("书名", "桂")}


def test_labels_are_told_apart_in_scores_by_what_is_written() -> None:
    # 地 begins 地点: the character after it belongs to the decision for 地. LOC begins no other label.
    answer = ParsedAnswer(
        ParseOutcome.CLEAN, copy="桂", placed=(Placed("地", 0, 1),), written=(Written((0, 4), (4, 5)),)
    )
    places, chances = [(number, number + 1) for number in range(6)], [0.0] * 4 + [-1.0, -2.0]
    shown = mention_scores(places, chances, answer, SETS[2].shown())[0]
    assert shown.label == pytest.approx(2.718281828**-3)
    assert ground("桂", answer, SETS[2]).entities[0].label == "LOC"


def test_a_display_name_that_the_format_cannot_write_is_refused() -> None:
    labels = LabelSet(("LOC",), {"LOC": "地 点"})
    PromptSpec(PromptTemplate("{text}"), labels, answer_format("inline"))
    with pytest.raises(InputError, match=r"cannot name a tag '地 点'.* give them other display names"):
        PromptSpec(PromptTemplate("{text}"), labels, answer_format("xml"))
    # And one mends a label that it could not.
    PromptSpec(PromptTemplate("{text}"), LabelSet(("地 点",), {"地 点": "地点"}), answer_format("xml"))


def test_a_description_cannot_become_the_place_of_the_text() -> None:
    spec = PromptSpec(
        PromptTemplate("{descriptions}{text}"), LabelSet(("a",), {}, {"a": "{text}"}), answer_format("json")
    )
    with pytest.raises(InputError, match=r"label 'a' or its description holds {text}"):
        spec.filled()
