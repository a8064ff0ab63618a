"""The Recognizer on small real tokenizers: what it asks of the engine, and what it makes of any answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import InputError
from nertune.extract import Recognizer
from nertune.generate import Completion, ScriptedEngine
from nertune.prompt import ANSWER_FORMATS, PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.schema import Document, LabelSet, ParseOutcome

LABELS = LabelSet(("name", "address"))


_RENDERERS: dict[tuple[str, str], Renderer] = {}


def renderer_of(family: Any, answer: str = "inline") -> Renderer:
    """Made once; those of a family have one encoder: it is the tokenizer's alone, and may copy a large vocabulary."""
    if (family.name, answer) not in _RENDERERS:
        spec = PromptSpec(PromptTemplate("<输入文本>\n{text}", "专家"), LABELS, answer_format(answer))
        _RENDERERS[family.name, answer] = renderer = Renderer(family.tokenizer, spec)
        if answer != "inline":
            renderer._encoder = renderer_of(family)._encoder
    return _RENDERERS[family.name, answer]


def scripted(renderer: Renderer, *answers: str) -> ScriptedEngine:
    return ScriptedEngine([Completion(tuple(renderer.answer_ids(answer)), "end") for answer in answers])


@pytest.mark.parametrize("answer", ANSWER_FORMATS)
def test_what_was_trained_is_what_is_extracted(family: Any, answer: str) -> None:
    """A perfect model: the engine gives the trained part of each row, and the documents come back."""
    documents = [
        Document.of("叶老桂来自杭州", [("name", 0, 3), ("address", 5, 7)]),
        Document.of("杭州 <|im_end|></s>", [("address", 0, 2)]),
        Document("没有"),
    ]
    renderer = renderer_of(family, answer)
    rows = [renderer.row(document) for document in documents]
    engine = ScriptedEngine([Completion(tuple(row.ids_T[row.prompt_length :]), "end") for row in rows])
    predictions = Recognizer(renderer, engine).extract_many([document.text for document in documents])
    assert [p.entities for p in predictions] == [d.entities for d in documents]
    assert {(p.outcome, p.stop, p.ungrounded) for p in predictions} == {(ParseOutcome.CLEAN, "end", ())}
    prompts = [request.prompt_ids for request in engine.requests]
    assert prompts == [tuple(row.ids_T[: row.prompt_length]) for row in rows]


def test_the_shared_prefix_begins_the_prompt_or_is_zero(family: Any) -> None:
    renderer = renderer_of(family)
    texts = ["甲", "Z9 b", "\n\n次行", " 甲", "</s>", "]", "\u0301"]
    engine = scripted(renderer, *texts)
    Recognizer(renderer, engine).extract_many(texts)
    shared = renderer.shared_prefix_ids
    for request in engine.requests:
        merged = request.prompt_ids[: len(shared)] != shared
        assert request.shared_prefix == (0 if merged else len(shared))
    assert engine.requests[0].shared_prefix == len(shared) > 0


def test_a_text_that_merges_with_the_prefix_shares_nothing(family_of: Any) -> None:
    renderer = renderer_of(family_of("qwen3"))
    engine = scripted(renderer, "甲", "\n甲")
    Recognizer(renderer, engine).extract_many(["甲", "\n甲"])
    assert [request.shared_prefix for request in engine.requests] == [len(renderer.shared_prefix_ids), 0]


@pytest.mark.parametrize("limit", [None, 7])
def test_answers_are_limited(family_of: Any, limit: int | None) -> None:
    renderer = renderer_of(family_of("gemma-3"))
    engine = scripted(renderer, "", "")
    Recognizer(renderer, engine, max_new_tokens=limit).extract_many(["甲", "叶老桂" * 100])
    short, long = engine.requests
    if limit:
        assert short.max_new_tokens == long.max_new_tokens == limit
    else:
        assert short.max_new_tokens >= 48
        assert long.max_new_tokens >= 48 + 3 * len(renderer.answer_ids("叶老桂" * 100))


def test_a_stream_is_read_a_chunk_at_a_time(family_of: Any) -> None:
    renderer = renderer_of(family_of("phi-4"))
    engine = scripted(renderer, *"甲乙丙丁戊")
    taken: list[str] = []

    def texts() -> Iterator[str]:
        for text in "甲乙丙丁戊":
            taken.append(text)
            yield text

    stream = Recognizer(renderer, engine).extract_stream(texts(), chunk=2)
    assert taken == []
    assert next(stream).text == "甲"
    assert (taken, len(engine.requests)) == (["甲", "乙"], 2)
    assert [prediction.text for prediction in stream] == ["乙", "丙", "丁", "戊"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text 2 is empty"),
        (" \n\u3000", "text 2 is empty"),
        (None, "text 2 is empty"),
        ("甲\ud800乙", "text 2 holds a lone surrogate at character 1"),
        ("\udfff", "at character 0"),
    ],
)
def test_unusable_texts(family_of: Any, text: Any, message: str) -> None:
    engine = ScriptedEngine([])
    with pytest.raises(InputError, match=message):
        Recognizer(renderer_of(family_of("base")), engine).extract_many(["甲", text])
    assert engine.requests == []


def test_cut_answers_say_so(family_of: Any) -> None:
    renderer = renderer_of(family_of("llama-3"))
    engine = ScriptedEngine([Completion(tuple(renderer.answer_ids("[桂 | name]和[杭")), "length")])
    prediction = Recognizer(renderer, engine).extract("桂和杭州")
    assert (prediction.stop, prediction.outcome) == ("length", ParseOutcome.REPAIRED)
    assert [(e.label, e.start) for e in prediction.entities] == [("name", 0)]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), answer=st.sampled_from(list(ANSWER_FORMATS)))
def test_any_ids_give_a_prediction(family_of: Any, data: st.DataObject, answer: str) -> None:
    """A model may write any tokens: stop tokens in the middle, half characters, control tokens."""
    family = family_of("phi-3")
    ids = data.draw(st.lists(st.integers(0, len(family.tokenizer) - 1), max_size=30))
    engine = ScriptedEngine([Completion(tuple(ids), "end")])
    prediction = Recognizer(renderer_of(family, answer), engine).extract("杭州[")
    assert all(prediction.text[e.start : e.end] == e.text for e in prediction.entities)
    assert all(e.label in LABELS for e in prediction.entities)
