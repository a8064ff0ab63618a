"""The sliding window: engines that take requests at any time never wait for a chunk, and outcomes stay in order."""

from __future__ import annotations

from collections import deque

import pytest

from nertune.errors import EndpointError, InputError
from nertune.extract import Recognizer
from nertune.extract.bulk import recognize_steadily
from nertune.generate import Completion
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.schema import LabelSet, SourceText


@pytest.fixture
def renderer(family_of):
    spec = PromptSpec(PromptTemplate("句：{text}", "系统"), LabelSet(("name",)), answer_format("inline"))
    return Renderer(family_of("qwen3").tokenizer, spec)


class Backwards:
    """Answers the last of what was asked first, one a step; refuses what begins with 毒 and copies the rest."""

    at_once = 4

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.most = self.steps = 0
        self.closed = False
        self._waiting: deque = deque()

    def asking(self) -> Backwards:
        return self

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key, request) -> None:
        self._waiting.append((key, request))
        self.most = max(self.most, len(self._waiting))

    def step(self) -> dict:
        key, request = self._waiting.pop()
        self.steps += 1
        text = request.messages[-1][1].removeprefix("句：")
        if "断" in text:
            raise EndpointError("the server is gone")
        if "毒" in text:
            return {key: InputError("text 1: does not fit")}
        return {key: Completion(tuple(self.renderer.answer_ids(text)), "end")}

    def close(self) -> None:
        self.closed = True


def _rows(texts: list[str]) -> list[SourceText]:
    return [SourceText(str(row), text, row) for row, text in enumerate(texts, 1)]


def test_outcomes_keep_the_order_of_the_rows_and_the_engine_is_kept_busy(renderer):
    engine = Backwards(renderer)
    rows = _rows([f"第{number}句" for number in range(50)])
    found = [o for group in recognize_steadily(Recognizer(renderer, engine), engine, rows) for o in group]
    assert [(o.source.row, o.prediction.text, o.prediction.id) for o in found] == [
        (row.row, row.text, row.id) for row in rows
    ]
    assert engine.most == 2 * engine.at_once
    assert engine.closed


def test_what_was_read_ahead_is_bounded(renderer):
    engine = Backwards(renderer)
    read = 0

    def rows():
        nonlocal read
        for row in _rows(["句"] * 40):
            read += 1
            yield row

    given = 0
    for group in recognize_steadily(Recognizer(renderer, engine), engine, rows(), ahead=10):
        given += len(group)
        assert read <= given + 10


def test_refused_rows_fail_alone(renderer):
    engine = Backwards(renderer)
    rows = _rows(["好", "毒", " ", "好" * 90 + "。" + "毒" + "坏" * 90, "好"])
    rows[0] = rows[0]._replace(problem="no text")
    recognizer = Recognizer(renderer, engine, window=64)
    found = [o for group in recognize_steadily(recognizer, engine, rows) for o in group]
    assert [o.reason for o in found] == [
        "no text",
        "does not fit",
        "the text is empty: there is nothing to extract from",
        "does not fit",
        None,
    ]


def test_a_server_that_fails_ends_the_job(renderer):
    engine = Backwards(renderer)
    with pytest.raises(EndpointError):
        list(recognize_steadily(Recognizer(renderer, engine), engine, _rows(["好", "断"])))
    assert engine.closed
