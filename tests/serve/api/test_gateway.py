"""The gateway: `/v1/extract` over a server behind it that is stood for here, and that server's own routes, passed on."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from nertune import load
from nertune.cli import main
from nertune.errors import InputError, UnknownModelError
from nertune.gateway import Gateway, GatewaySettings, open_gateway, open_readers

TEXTS = ["叶老桂来自杭州", "A.B.来自北京。", "😀甲乙"]
CHAT = {"model": "ner", "messages": [{"role": "user", "content": "叶老桂"}]}


@pytest.fixture(scope="module")
def local(tiny_run):
    return load(tiny_run, max_new_tokens=12)


@pytest.fixture(scope="module")
def known(local) -> dict[tuple[int, ...], Any]:
    """What the run answers here, by prompt."""
    requests = local.prepare(TEXTS).requests
    answers = local.engine.generate(requests)
    return {request.prompt_ids: answer for request, answer in zip(requests, answers, strict=True)}


@pytest.fixture
def vllm(served, fake, known) -> Any:
    """Stands for vLLM: answers to known prompts as the run does here."""

    def complete(body: dict[str, Any]) -> dict[str, Any]:
        answer = known[tuple(body["prompt"])]
        ids = [*answer.ids, body["stop_token_ids"][0]] if answer.stop == "end" else list(answer.ids)
        finish = "stop" if answer.stop == "end" else "length"
        return fake.completion(ids, finish=finish, logprobs=list(answer.logprobs))

    return served({"/v1/completions": complete, "/v1/chat/completions": lambda body: fake.chat("好")})


class Served:
    def __init__(self, url: str, gateway: Gateway) -> None:
        self.url, self.gateway = url, gateway
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=30)


@pytest.fixture
def fronted(tiny_run, listening) -> Iterator[Callable[..., Served]]:
    """A function from the address behind to a running gateway."""
    with ExitStack() as running:

        def build(address: str, *, key: str = "behind-key", **settings: Any) -> Served:
            chosen = GatewaySettings(**{"max_new_tokens": 12, "timeout": 20, **settings})
            gateway = open_gateway(address, open_readers({"ner": tiny_run}, chosen), chosen, key=key)
            running.callback(gateway.pool.close)
            found = Served(running.enter_context(listening(gateway.app)), gateway)
            running.callback(found.http.close)
            return found

        yield build


# ---- /v1/extract


def test_what_is_extracted_through_vllm_is_what_is_extracted_here(vllm, fronted, local):
    served = fronted(vllm.url)
    here = [prediction.to_json() for prediction in local.extract_many(TEXTS)]
    found = served.http.post("/v1/extract", json={"texts": TEXTS}).json()
    assert [{key: row[key] for key in expected} for row, expected in zip(found["data"], here, strict=True)] == here
    assert any(row["entities"] for row in here)
    assert served.http.post("/v1/extract", json={"model": "ner", "text": TEXTS[0]}).json()["text"] == TEXTS[0]
    sent = vllm.posts("/v1/completions")
    assert len(sent) == 4
    for asked in sent:
        assert asked.headers["authorization"] == "Bearer behind-key"
        assert asked.body["structured_outputs"]["grammar"].startswith("%llguidance")
        assert asked.body["model"] == "ner"


def test_nobody_can_read_with_what_was_not_trained_to(vllm, fronted, fake):
    vllm.listed = fake.Trouble(200, {"data": [{"id": name, "owned_by": "vllm"} for name in ("base", "ner")]})
    served = fronted(vllm.url)
    answer = served.http.post("/v1/extract", json={"model": "base", "text": "甲"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "base model" in answer.json()["error"]["message"]
    assert served.http.post("/v1/extract", json={"model": "nre", "text": "甲"}).status_code == 404


def test_texts_of_many_clients_go_out_together(vllm, fronted):
    behind = vllm.answers["/v1/completions"]
    both = threading.Barrier(3, timeout=20)

    def together(body: dict[str, Any]) -> dict[str, Any]:
        both.wait()
        return behind(body)

    vllm.answers["/v1/completions"] = together
    served = fronted(vllm.url, concurrency=3)
    assert all("error" not in row for row in served.http.post("/v1/extract", json={"texts": TEXTS}).json()["data"])


def test_a_server_behind_that_fails_is_status_502_without_its_words(vllm, fronted, fake):
    served = fronted(vllm.url)
    vllm.troubles = [fake.Trouble(500, {"error": {"message": "CUDA error at /secret"}})] * 2
    answer = served.http.post("/v1/extract", json={"text": TEXTS[0]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "server_behind_failed")
    assert "secret" not in answer.text
    assert vllm.url not in answer.text
    assert served.http.post("/v1/extract", json={"text": TEXTS[0]}).status_code == 200


def test_a_text_that_vllm_finds_too_long_is_the_clients(vllm, fronted, fake):
    served = fronted(vllm.url)
    long = {"error": {"message": "This model's maximum context length is 16 tokens", "code": 400}}
    vllm.troubles = [fake.Trouble(400, long)]
    answer = served.http.post("/v1/extract", json={"text": TEXTS[0]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_full_queue_is_status_429_for_every_route(vllm, fronted):
    served = fronted(vllm.url, capacity=1)
    with served.gateway.pool.place():
        for path, body in (("/v1/extract", {"text": TEXTS[0]}), ("/v1/chat/completions", CHAT)):
            answer = served.http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
            assert int(answer.headers["retry-after"]) >= 1
    assert served.http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_server_without_token_ids_is_asked_in_words(served, fake, fronted, tiny_run):
    """Whatever speaks OpenAI's API: messages go there, and its text is read and grounded."""
    said = served({"/v1/chat/completions": lambda body: fake.chat("[叶老桂 | name]来自杭州")}, owner="else")
    found = fronted(said.url).http.post("/v1/extract", json={"text": TEXTS[0]}).json()
    assert found["entities"] == [{"start": 0, "end": 3, "label": "name", "text": "叶老桂", "score": None}]


def test_a_run_that_the_server_does_not_have_is_refused(vllm, tiny_run):
    settings = GatewaySettings()
    with pytest.raises(UnknownModelError, match="It serves: ner"):
        open_gateway(vllm.url, open_readers({"other": tiny_run}, settings), settings)
    with pytest.raises(InputError, match="no such run directory"):
        open_readers({"ner": tiny_run / "none"}, settings)


# ---- What is passed on


def test_openais_client_talks_to_vllm_through_the_gateway(vllm, fronted):
    served = fronted(vllm.url)
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="the clients own", max_retries=0)
    assert [model.id for model in client.models.list()] == ["ner"]
    assert client.models.retrieve("ner").owned_by == "vllm"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("../load_lora_adapter")
    answer = client.chat.completions.create(**CHAT, temperature=0.3, seed=7)
    assert answer.choices[0].message.content == "好"
    [asked] = vllm.posts("/v1/chat/completions")
    assert asked.body == {**CHAT, "temperature": 0.3, "seed": 7}
    assert asked.headers["authorization"] == "Bearer behind-key"
    assert served.http.get("/version").json() == {"version": "0.32.0"}


def test_the_routes_that_get_through_are_described(vllm, fronted):
    paths = fronted(vllm.url).http.get("/openapi.json").json()["paths"]
    assert {"/v1/extract", "/v1/chat/completions", "/v1/completions", "/v1/models", "/health"} <= set(paths)
    for path in ("/v1/chat/completions", "/v1/models"):
        [route] = paths[path].values()
        assert {"200", "401", "429", "502", "504"} <= set(route["responses"])


def test_only_named_routes_get_through(vllm, fronted):
    served = fronted(vllm.url)
    before = len(vllm.asked)
    for path in ("/v1/load_lora_adapter", "/v1/embeddings", "/shutdown", "/v1/../shutdown", "/v1//chat/completions"):
        assert served.http.post(path, json={}).status_code in (404, 405), path
    assert len(vllm.asked) == before


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_errors_of_the_server_behind_come_through_as_they_are(vllm, fronted, fake, status):
    served = fronted(vllm.url)
    body = {"error": {"message": "no such thing", "type": "BadRequestError", "param": None, "code": status}}
    vllm.troubles = [fake.Trouble(status, body, {"retry-after": "3"})]
    answer = served.http.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (status, body, "3")


def test_a_key_that_is_refused_behind_and_a_lost_connection_are_not_the_clients(vllm, fronted, fake):
    served = fronted(vllm.url)
    for trouble in (fake.Trouble(401, {"error": "Unauthorized"}), fake.Trouble(302, "", {"location": "/"}), fake.DROP):
        vllm.troubles = [trouble]
        answer = served.http.post("/v1/completions", json={"model": "ner", "prompt": "叶"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "server_behind_failed")
    assert served.gateway.pool.unfinished == 0


def test_health_is_that_of_the_server_behind(vllm, fronted, fake):
    served = fronted(vllm.url)
    assert served.http.get("/health").json() == {"status": "ok", "unfinished": 0}
    vllm.listed = fake.Trouble(500, {})
    assert served.http.get("/health").status_code == 503
    served.gateway.pool.close("it has ended", broken=True)
    for answer in (served.http.get("/health"), served.http.post("/v1/extract", json={"text": "甲"})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_stopped")


class Streaming:
    """A server behind that streams three pieces, each when it is let, and notices when its client leaves."""

    def __init__(self) -> None:
        self.let = threading.Semaphore(0)
        self.left = threading.Event()
        self.breaks = False
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def models(self, request: Any) -> JSONResponse:
        return JSONResponse({"data": [{"id": "ner", "owned_by": "else"}]})

    async def chat(self, request: Any) -> StreamingResponse:
        return StreamingResponse(self.pieces(), media_type="text/event-stream")

    async def pieces(self) -> Any:
        try:
            for piece in ("一", "二", "三"):
                while not self.let.acquire(blocking=False):
                    await asyncio.sleep(0.01)
                if self.breaks:
                    raise RuntimeError("broke down")
                yield f"data: {json.dumps({'piece': piece})}\n\n"
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.left.set()
            raise


@pytest.fixture
def streaming(listening) -> Iterator[tuple[Streaming, str]]:
    behind = Streaming()
    with listening(behind.app) as url:
        yield behind, f"{url}/v1"


def test_a_stream_comes_piece_by_piece(streaming, fronted):
    behind, url = streaming
    served = fronted(url)
    with served.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        lines = (line for line in answer.iter_lines() if line)
        for piece in ("一", "二", "三"):  # the next one is let only when the last has come
            behind.let.release()
            assert json.loads(next(lines).removeprefix("data: ")) == {"piece": piece}
        assert list(lines) == ["data: [DONE]"]
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_client_that_leaves_a_stream_leaves_the_server_behind(streaming, fronted):
    behind, url = streaming
    served = fronted(url)
    with served.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        behind.let.release()
        lines = answer.iter_lines()  # kept: an iterator that is thrown away closes the answer
        next(lines)
        assert served.gateway.pool.unfinished == 1
    assert behind.left.wait(10)
    deadline = time.monotonic() + 10
    while served.gateway.pool.unfinished:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stream_that_breaks_ends_with_an_error_in_it(streaming, fronted):
    behind, url = streaming
    served = fronted(url)
    behind.let.release()
    with served.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        lines = (line for line in answer.iter_lines() if line)
        next(lines)
        behind.breaks = True
        behind.let.release()
        [last] = lines
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_behind_failed"


def test_the_command_takes_a_server_that_runs_already(vllm, tiny_run, monkeypatch):
    """Its key is OPENAI_API_KEY: NERTUNE_API_KEY is what our own clients send."""
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    monkeypatch.setenv("NERTUNE_API_KEY", "ours")
    opened = []

    def serve(opening, settings, *, say):
        with opening as gateway:
            opened.append((list(gateway.models), settings.port, gateway.pool.capacity))
            gateway.pool.submit(gateway.models["ner"].recognizer.prepare(TEXTS[:1]).requests[0]).result(20)
        return 0

    monkeypatch.setattr("nertune.gateway.serve_gateway", serve)
    command = ["serve", vllm.url, "--run", str(tiny_run), "--port", "8123", "--queue", "7", "--max-new-tokens", "12"]
    assert main(command) == 0
    assert opened == [(["ner"], 8123, 7)]
    assert {asked.headers["authorization"] for asked in vllm.asked} == {"Bearer theirs"}
