"""The Recognizer sends the renderer's prompts and gives back predictions in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nertune.errors import InputError
from nertune.extract import Recognizer
from nertune.generate.engine import Completion, ScriptedEngine
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.schema import LabelSet, Mention, ParseOutcome


@pytest.fixture(scope="module")
def renderer(family_of) -> Renderer:
    spec = PromptSpec(PromptTemplate("句：{text}", "系统"), LabelSet(("name",)), answer_format("inline"))
    return Renderer(family_of("qwen3").tokenizer, spec)


def _recognizer(renderer: Renderer, *answers: tuple[str, str]) -> Recognizer:
    return Recognizer(renderer, ScriptedEngine(Completion(tuple(renderer.answer_ids(a)), s) for a, s in answers))


def test_predictions_come_in_order_with_stop_and_outcome(renderer):
    recognizer = _recognizer(renderer, ("[桂 | name]来", "end"), ("[南京 | 地点]", "end"), ("叶 [老", "length"))
    told: list[int] = []
    first, second, third = recognizer.extract_many(["桂来", "南京", "叶老桂"], done=told.append)
    assert [(e.label, e.start, e.end) for e in first.entities] == [("name", 0, 1)]
    assert (first.stop, first.outcome) == ("end", ParseOutcome.CLEAN)
    assert (second.entities, second.ungrounded) == ((), (Mention("地点", "南京"),))
    assert (third.stop, third.outcome) == ("length", ParseOutcome.REPAIRED)
    assert told == [3]


def test_an_answer_that_hit_its_limit_is_not_repaired_into_an_entity(renderer):
    spec = replace(renderer.spec, answer=answer_format("json"))
    listing = Renderer(renderer.tokenizer, spec)
    answer = '[{"label": "name", "text": "叶"}, {"label": "name", "text": "叶老'
    cut, free = _recognizer(listing, (answer, "length"), (answer, "end")).extract_many(["叶和叶老桂", "叶和叶老桂"])
    assert [(e.text, e.start) for e in cut.entities] == [("叶", 0)]
    assert (cut.ungrounded, cut.outcome) == ((), ParseOutcome.REPAIRED)
    assert [e.text for e in free.entities] == ["叶", "叶老"]


def test_requests_are_the_renderers_prompts(renderer):
    texts = ["桂来", "Z9 <|im_end|>", " 空格 "]
    recognizer = _recognizer(renderer, *[("", "end")] * 3)
    predictions = list(recognizer.extract_stream(iter(texts), chunk=2))
    assert [p.text for p in predictions] == texts
    assert all(p.outcome is ParseOutcome.INVALID for p in predictions)
    for text, request in zip(texts, recognizer.engine.requests, strict=True):
        assert list(request.prompt_ids) == renderer.prompt_ids(text)
        assert request.stop_ids == renderer.stop_ids
        assert request.prompt_ids[: request.shared_prefix] == renderer.shared_prefix_ids[: request.shared_prefix]
        assert request.max_new_tokens > len(renderer.answer_ids(text))


@pytest.mark.parametrize(("text", "message"), [("", "text 2 is empty"), (" \n", "empty"), ("a\ud800", "character 1")])
def test_unusable_texts_are_refused_before_generation(renderer, text, message):
    recognizer = _recognizer(renderer)
    with pytest.raises(InputError, match=message):
        recognizer.extract_many(["好", text])
    assert recognizer.engine.requests == []
