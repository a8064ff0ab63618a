"""The Recognizer on texts of any length: requests that fit the model, the same entities, and traces of what was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nertune.errors import InputError
from nertune.evaluate import evaluate
from nertune.extract import Recognizer, Trace
from nertune.extract.budget import SMALLEST_WINDOW, window_size
from nertune.generate import Completion, Request
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.schema import Document, LabelSet

LABELS = LabelSet(("name", "address"))
NAMES = {"叶老桂": "name", "杭州": "address", "José\u0301": "name", "𠮷野": "name"}
SENTENCES = ["叶老桂博士在浙商银行工作，", "他来自杭州。\r\n", "𠮷野家在杭州！", "“José\u0301也来”；", "没有。👩‍👩‍👧"]


def renderer_of(family: Any, answer: str = "inline", around: str = "<输入文本>\n{text}\n</输入文本>") -> Renderer:
    return Renderer(family.tokenizer, PromptSpec(PromptTemplate(around, "专家"), LABELS, answer_format(answer)))


def annotated(text: str) -> Document:
    spans = [(NAMES[found[0]], found.start(), found.end()) for found in re.finditer("|".join(NAMES), text)]
    return Document.of(text, spans)


class Oracle:
    """Reads the text from the prompt, finds every name in it, and answers as a perfect model does."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        self.requests += requests
        completions = []
        for number, request in enumerate(requests, 1):
            prompt = self.renderer.tokenizer.decode(list(request.prompt_ids), skip_special_tokens=False)
            text = prompt.partition("<输入文本>\n")[2].rpartition("\n</输入文本>")[0]
            ids = tuple(self.renderer.answer_ids(self.renderer.spec.answer.write(annotated(text))))
            stop = "end" if len(ids) <= request.max_new_tokens else "length"
            completions.append(Completion(ids[: request.max_new_tokens], stop))
            if done:
                done(number)
        return completions


@pytest.mark.parametrize("answer", ["inline", "json"])
@pytest.mark.parametrize("name", ["qwen3", "gemma-3", "llama-2"])
def test_a_long_text_gives_what_its_sentences_hold(family_of: Any, name: str, answer: str) -> None:
    renderer = renderer_of(family_of(name), answer)
    engine = Oracle(renderer)
    long, short = "".join(SENTENCES * 40), "叶老桂来自杭州"
    told: list[int] = []
    first, second = Recognizer(renderer, engine, window=200).extract_many([long, short], done=told.append)
    expected = annotated(long).entities
    if answer == "inline":
        assert first.entities == expected
    else:  # a format that names each label and text once places the first of each answer
        assert set(first.entities) <= set(expected)
        assert {(e.label, e.text) for e in first.entities} == {(e.label, e.text) for e in expected}
    assert second.entities == annotated(short).entities
    assert (first.stop, first.cut, second.windows) == ("end", False, 1)
    assert first.windows == len(engine.requests) - 1 > 5
    assert list(engine.requests[-1].prompt_ids) == renderer.prompt_ids(short)
    assert told == sorted(told)
    assert told[-1] == 2
    assert {"windows", "cut"} <= first.to_json().keys()
    assert second.to_json().keys() == {"id", "text", "entities", "ungrounded", "stop"}


def test_each_window_has_the_grammar_and_draft_of_its_own_text(family_of: Any) -> None:
    renderer = renderer_of(family_of("qwen3"))
    engine = Oracle(renderer)
    Recognizer(renderer, engine, window=200, constrained=True).extract("".join(SENTENCES * 20))
    grammars = {request.grammar for request in engine.requests}
    assert len({request.prompt_ids for request in engine.requests}) == len(grammars) > 1


@pytest.mark.parametrize("tokens", [None, 30])
@pytest.mark.parametrize("context", [700, 4000])
@pytest.mark.parametrize("text", ["".join(SENTENCES * 30), "字" * 1500, "e\u0301" * 800, "a,b " * 500, "</s>" * 200])
@pytest.mark.parametrize("name", ["qwen2", "llama-2", "gemma-3", "base"])
def test_no_long_text_is_too_long_for_the_model(
    family_of: Any, name: str, context: int, tokens: int | None, text: str
) -> None:
    renderer = renderer_of(family_of(name))
    size = window_size(renderer, asked=None, trained=None, context=context, max_new_tokens=tokens)
    engine = Oracle(renderer)
    recognizer = Recognizer(renderer, engine, max_new_tokens=tokens, window=size)
    recognizer.extract(text)
    assert all(len(request.prompt_ids) + request.max_new_tokens <= context for request in engine.requests)


@pytest.mark.parametrize("answer", ["inline", "json"])
def test_what_could_have_been_trained_is_read_in_one_piece(family: Any, answer: str) -> None:
    renderer = renderer_of(family, answer)
    text = "没有什么，" * 70
    longest = len(renderer.row(Document(text)).ids_T)
    size = window_size(renderer, asked=None, trained=longest, context=100_000, max_new_tokens=None)
    own = len(renderer.answer_ids(text))
    assert own <= size <= own + 24
    assert Recognizer(renderer, Oracle(renderer), window=size).extract(text).windows == 1


def test_the_size_of_a_window(family_of: Any) -> None:
    renderer = renderer_of(family_of("qwen3"))

    def size(**given: int) -> int | None:
        return window_size(
            renderer, **{"asked": None, "trained": None, "context": None, "max_new_tokens": None, **given}
        )

    assert size() is None
    assert size(asked=5000) == 5000
    assert size(trained=10) == 64
    assert size(trained=10, context=130) == SMALLEST_WINDOW
    assert size(context=900) < size(context=900, max_new_tokens=50) < 900
    with pytest.raises(InputError, match=r"window of 5000 tokens does not fit.*holds 900\. Give \d+ at most"):
        size(asked=5000, context=900)
    with pytest.raises(InputError, match="allow shorter answers"):
        size(asked=100, context=900, max_new_tokens=890)
    with pytest.raises(InputError, match="holds no sentence; give 16"):
        size(asked=15)


def test_a_cut_answer_and_a_cut_sentence_are_flagged_and_counted(family_of: Any) -> None:
    renderer = renderer_of(family_of("qwen3"))
    recognizer = Recognizer(renderer, Oracle(renderer), window=200)
    texts = ["叶老桂", "没有" * 400, "".join(SENTENCES * 20)]
    assert [p.cut for p in recognizer.extract_many(texts)] == [False, True, False]
    shorter = replace(recognizer, max_new_tokens=150).extract_many(texts)
    assert [(p.stop, p.cut) for p in shorter] == [("end", False), ("length", True), ("length", True)]
    documents = [Document(text) for text in texts]
    assert evaluate(documents, recognizer.extract_many(texts)).truncated == 1
    assert evaluate(documents, shorter).truncated == 2


def test_unusable_texts_are_refused_before_anything_is_cut(family_of: Any) -> None:
    renderer = renderer_of(family_of("qwen3"))
    recognizer = Recognizer(renderer, Oracle(renderer), window=16)
    with pytest.raises(InputError, match="text 2 holds a lone surrogate at character 900"):
        recognizer.extract_many(["好" * 500, "好" * 900 + "\ud800"])
    assert recognizer.extract_many([]) == []
    assert recognizer.engine.requests == []


def test_traces_tell_what_was_sent_for_each_window(family_of: Any) -> None:
    renderer = renderer_of(family_of("qwen3"))
    engine = Oracle(renderer)
    recognizer = Recognizer(renderer, engine, window=200)
    texts, traces = ["".join(SENTENCES * 10), "叶老桂"], list[Trace]()
    predictions = recognizer.extract_many(texts, trace=traces.append)
    assert predictions == recognizer.extract_many(texts)
    assert [(t.text, t.part, t.parts) for t in traces[-2:]] == [(1, 4, 4), (2, 1, 1)]
    for trace, request in zip(traces, engine.requests, strict=False):
        shown = texts[trace.text - 1][trace.window.start : trace.window.end]
        assert trace.prompt == renderer.prompt_text(shown)
        assert trace.prompt_ids == request.prompt_ids
        assert trace.attention_mask == (1,) * len(request.prompt_ids)
        assert trace.answer == renderer.decode(trace.new_ids) == renderer.spec.answer.write(annotated(shown))


def test_debug_prints_prompt_ids_and_answer_to_stderr_alone(family_of: Any, capsys: Any) -> None:
    renderer = renderer_of(family_of("qwen3"))
    recognizer = Recognizer(renderer, Oracle(renderer), window=200)
    prediction = recognizer.extract("叶老桂[注]", debug=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert prediction == recognizer.extract("叶老桂[注]")
    assert capsys.readouterr().err == ""
    ids = renderer.prompt_ids("叶老桂[注]")
    answer = r"[叶老桂 | name]\[注\]"
    for part in (
        renderer.prompt_text("叶老桂[注]"),
        f"input_ids\n{ids}",
        f"attention_mask\n{[1] * len(ids)}",
        "ended by itself",
    ):
        assert part in printed.err
    assert f"{renderer.answer_ids(answer)}\nanswer\n{answer}\n" in printed.err
    recognizer.extract("".join(SENTENCES * 10), debug=True)
    assert "text 1, window 4 of 4, characters" in capsys.readouterr().err
