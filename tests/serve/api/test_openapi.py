"""Requests made up from our own OpenAPI document, good and bad ones, over HTTP: no failure, and answers as described."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis.strategies import sampled_from
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nertune.serve.http import HttpServer
from nertune.serve.keys import VARIABLE
from nertune.serve.settings import Settings

apps = pytest.importorskip("nertune.serve.app")
models = pytest.importorskip("nertune.serve.models")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture(scope="module")
def scripted_app(family_of, fake_steppings) -> Iterator[Any]:
    """The application with a base model and a run, over that engine."""
    from nertune.extract import Recognizer
    from nertune.generate import EngineLoop, ScriptedEngine
    from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format
    from nertune.schema import LabelSet

    spec = PromptSpec(PromptTemplate("句：{text}", "专家"), LabelSet(("name", "address")), answer_format("inline"))
    renderer = Renderer(family_of("qwen3").tokenizer, spec)
    engine = fake_steppings.Brief(renderer.answer_ids("[叶老桂 | name]博士"))
    loop = EngineLoop(lambda: engine)
    common = {
        "tokenizer": renderer.tokenizer,
        "stop_ids": renderer.stop_ids,
        "vocabulary": len(renderer.tokenizer),
        "context": 2048,
    }
    recognizer = Recognizer(renderer, ScriptedEngine(()), window=200)
    run = models.ServedModel("ner", root="runs/ner", parent="base", recognizer=recognizer, **common)
    yield apps.build_app({"base": models.ServedModel("base", root="org/base", **common), "ner": run}, loop)
    loop.close(finish=False)


@pytest.fixture(scope="module")
def openapi(scripted_app) -> Iterator[Any]:
    """The document of an application behind the HTTP shell; strings may hold NUL."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        server = HttpServer(scripted_app, Settings(port=0))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        stack.callback(thread.join, 20)
        stack.callback(server.stop)
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        schema.config.generation.update(modes=list(GenerationMode), allow_x00=True, database="none")
        yield schema


def ask(operation: Any, examples: int, mode: GenerationMode) -> int:
    sent = 0

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode), sampled_from(["ner", "base", None]))
    def each(case: Any, model: str | None) -> None:
        nonlocal sent
        if model is not None and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = model  # a made-up name would end most requests where they begin
        case.call_and_validate(checks=CHECKS)
        sent += 1

    each()
    return sent


def ask_every_route(schema: Any, examples: int, mode: GenerationMode) -> dict[str, int]:
    """So many requests to each route; how many were sent, by route. Without a body there is nothing to ask badly."""
    sent: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        if mode is GenerationMode.POSITIVE or operation.body:
            sent[operation.label] = ask(operation, examples, mode)
    return sent


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode)
def test_fifty_requests_to_a_route_fail_nowhere_and_are_answered_as_described(openapi, mode):
    sent = ask_every_route(openapi, 50, mode)
    assert "POST /v1/extract" in sent


@pytest.mark.soak
@pytest.mark.parametrize("mode", GenerationMode)
def test_a_thousand_requests_to_a_route_fail_nowhere_and_are_answered_as_described(openapi, mode):
    sent = ask_every_route(openapi, 1000, mode)
    print(sent)
    assert "POST /v1/extract" in sent
