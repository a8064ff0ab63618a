"""`nertune parity`: a server that does as the run does, and servers that differ in template, answer or entities."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nertune import data
from nertune.cli import main
from nertune.extract import Recognizer
from nertune.generate import Completion, ScriptedEngine
from nertune.generate.endpoint import Endpoint
from nertune.generate.remote import RemoteEngine
from nertune.parity import Parity, _parting, compare, compare_prompts
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.schema import Document, LabelSet

TEXTS = ["叶老桂来自杭州", "没有"]
ANSWERS = ["[叶老桂 | name]来自[杭州 | address]", "没有"]
OTHERS = ["[叶老桂 | name]来自杭州", "没有"]
DATED = "{{- '今天是星期一\n' -}}"


@pytest.fixture
def renderer(family_of) -> Renderer:
    spec = PromptSpec(PromptTemplate("句：{text}", "专家"), LabelSet(("name", "address")), answer_format("inline"))
    return Renderer(family_of("qwen3").tokenizer, spec)


@pytest.fixture
def sides(renderer, served, fake) -> Callable[..., tuple[Recognizer, Recognizer, Any]]:
    """A function from what the server answers, and its template, to the run here, the server's recognizer and the server."""

    def build(answers: list[str], *, before: str = "", tells: str = "ids", owner: str = "vllm", finish: str = "stop"):
        tokenizer = renderer.tokenizer

        def prompt_of(body: dict) -> list[int]:
            switches = body.get("chat_template_kwargs", {"enable_thinking": False})
            text = tokenizer.apply_chat_template(
                body["messages"],
                chat_template=before + tokenizer.chat_template,
                tokenize=False,
                add_generation_prompt=True,
                **switches,
            )
            return tokenizer.encode(text, add_special_tokens=False)

        by_prompt = {tuple(renderer.prompt_ids(text)): answer for text, answer in zip(TEXTS, answers, strict=True)}
        by_text = dict(zip(TEXTS, answers, strict=True))

        def complete(body: dict) -> dict:
            ids = renderer.answer_ids(by_prompt[tuple(body["prompt"])])
            return fake.completion([*ids, renderer.tail_ids[0]] if finish == "stop" else ids, finish=finish)

        def chat(body: dict) -> dict:
            said = by_text[body["messages"][-1]["content"].removeprefix("句：")]
            return fake.chat(said, prompt_tokens=None if tells == "nothing" else len(prompt_of(body)))

        posted = {"/v1/completions": complete, "/v1/chat/completions": chat}
        if tells == "ids":
            posted["/tokenize"] = lambda body: {"tokens": prompt_of(body)}
        server = served(posted, owner=owner)
        local = ScriptedEngine([Completion(tuple(renderer.answer_ids(answer)), "end") for answer in ANSWERS])
        return Recognizer(renderer, local), Recognizer(renderer, RemoteEngine(Endpoint(server.url))), server

    return build


def found_by(local: Recognizer, there: Recognizer, _: Any) -> Parity:
    return compare(local, there, TEXTS)


def test_a_server_that_does_as_the_run_does(sides):
    found = found_by(*sides(ANSWERS))
    assert (found.equal, found.prompts_by, found.documents) == (True, "ids", 2)
    assert found.lines()[-1] == "equal"
    assert found.to_json()["differing"] == {"prompt": 0, "answer": 0, "entities": 0}


def test_neither_side_is_constrained(sides):
    local, there, server = sides(ANSWERS)
    assert local.constrained
    assert there.constrained
    compare(local, there, TEXTS)
    assert [request.grammar for request in local.engine.requests] == [None, None]
    assert all("structured_outputs" not in asked.body for asked in server.posts())


def test_a_template_that_drifts_is_shown_where_it_parts(sides, renderer):
    found = found_by(*sides(ANSWERS, before=DATED))
    assert (found.differing("prompt"), found.differing("answer"), found.differing("entities")) == (2, 0, 0)
    first = found.partings[0]
    assert (first.text, first.what, first.token, first.context) == (1, "prompt", 0, "")
    assert "<|im_start|>" in first.local
    assert "今" in first.served
    assert "prompts:  0 equal, 2 differ" in found.lines()


@pytest.mark.parametrize(("before", "equal"), [("", 2), (DATED, 0)])
def test_prompts_alone_are_compared_without_an_answer(sides, before, equal):
    _, there, server = sides(ANSWERS, before=before)
    found = compare_prompts(there, TEXTS)
    assert found.lines()[-1] == f"prompts:  {equal} equal, {2 - equal} differ"
    assert found.equal == (equal == 2)
    assert all(asked.path == "/tokenize" for asked in server.posts())


def test_a_template_that_drifts_at_its_end(sides, renderer):
    """The server's users leave thinking on: the prompt ends earlier there."""
    found = found_by(*sides(ANSWERS, before="{%- set enable_thinking = true -%}"))
    parting = found.partings[0]
    assert parting.token is not None
    assert parting.token > 5
    assert parting.context.endswith("<|im_start|>assistant\n")
    assert parting.served == "the end"
    assert "<think>" in parting.local


def test_an_answer_that_parts_is_shown_with_its_context_and_probability(sides, renderer):
    found = found_by(*sides(OTHERS))
    answer, entities = found.partings
    ours, theirs = (renderer.answer_ids(side[0]) for side in (ANSWERS, OTHERS))
    place = next(place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    assert (answer.text, answer.what, answer.token) == (1, "answer", place)
    assert answer.context.startswith("[叶老桂 | name]")
    assert "自[杭州" in answer.local
    assert "自杭州" in answer.served
    assert answer.chance == pytest.approx(0.6065, abs=1e-4)
    assert (entities.what, entities.token) == ("entities", None)
    assert entities.local == "杭州 address [5, 7)"
    assert entities.served == "nothing more"
    assert not found.equal


def test_an_answer_that_parts_within_a_character_is_shown_whole(renderer):
    """Two characters that share the first of their tokens: none of the words shown begins or ends in the middle of one."""
    ours, theirs = renderer.answer_ids("天龘地"), renderer.answer_ids("天龙地")
    place = next(place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    assert "\ufffd" in renderer.decode(ours[:place])
    (parting,) = _parting(renderer, 1, "answer", ours, theirs)
    assert (parting.token, parting.context) == (place, "天")
    assert parting.local.startswith("'龘")
    assert parting.served.startswith("'龙")
    assert "\ufffd" not in parting.local + parting.served + parting.context


def test_an_answer_cut_off_at_the_same_tokens_parts_too(sides):
    found = found_by(*sides(ANSWERS, finish="length"))
    assert {(parting.local, parting.served) for parting in found.partings} == {("stop: end", "stop: length")}


def test_windows_of_a_long_text_are_counted_as_one(renderer, served, fake):
    """Each window's answer is the window itself here, and nothing there."""
    window = PlainAnswers(renderer)
    server = served({"/v1/completions": lambda body: fake.completion([renderer.tail_ids[0]])})
    local = Recognizer(renderer, window, window=16)
    there = Recognizer(renderer, RemoteEngine(Endpoint(server.url)))
    found = compare(local, there, ["没有。", "他来自杭州。" * 20])
    assert len(window.requests) > 3
    assert {parting.text for parting in found.partings if parting.what == "answer"} == {1, 2}
    assert (found.documents, found.differing("answer")) == (2, 2)


class PlainAnswers:
    """An engine that copies."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.requests: list[Any] = []

    def generate(self, requests, *, done=None):
        self.requests += requests
        texts = [request.messages[-1][1].removeprefix("句：") for request in requests]
        return [Completion(tuple(self.renderer.answer_ids(text)), "end") for text in texts]


@pytest.mark.parametrize(("before", "prompts"), [("", 0), (DATED, 2)])
def test_elsewhere_the_number_of_tokens_and_the_answers_words_are_compared(sides, before, prompts):
    found = found_by(*sides(OTHERS, before=before, tells="number", owner="library"))
    assert found.prompts_by == "number"
    assert (found.differing("prompt"), found.differing("answer"), found.differing("entities")) == (prompts, 1, 1)
    assert next(parting for parting in found.partings if parting.what == "answer").served == OTHERS[0]
    assert any("tells only how many" in line for line in found.lines())


def test_a_server_that_tells_nothing_of_its_prompts(sides):
    found = found_by(*sides(ANSWERS, tells="nothing", owner="library"))
    assert found.prompts_by is None
    assert found.equal
    assert any("does not tell" in line for line in found.lines())


@pytest.mark.parametrize(("answers", "code"), [(ANSWERS, 0), (OTHERS, 3)])
def test_the_command_ends_with_0_where_equal_and_3_where_not(sides, monkeypatch, tmp_path, capsys, answers, code):
    local, there, server = sides(answers)
    monkeypatch.setattr("nertune.parity.load", lambda run, **_: local)
    monkeypatch.setattr("nertune.parity.connect", lambda address, **_: there)
    path = tmp_path / "texts.jsonl"
    data.write([Document.of(TEXTS[0], [("name", 0, 3)]), Document(TEXTS[1])], path, format="entities")
    assert main(["parity", "run", server.url, "--data", str(path), "--json"]) == code
    value = json.loads(capsys.readouterr().out)
    assert value["equal"] is (code == 0)
    assert value["documents"] == 2
