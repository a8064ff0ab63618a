"""Clients leave a tiny random model at every moment of their requests: nobody beside them notices, and nothing stays.

What test_leaving.py shows with a scripted engine. The engine takes its steps when it is told to, so each moment is met.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from nertune.generate import local
from nertune.serving import Service, load_runs, open_service

pytestmark = pytest.mark.engine

WAIT = 8.0
TEXT = "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读"


def chat(**more: Any) -> tuple[str, dict[str, Any]]:
    body = {"model": "other", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 24}
    return "/v1/chat/completions", {**body, **more}


BESIDE = [
    chat(),
    chat(model="tiny", max_tokens=30),
    ("/v1/extract", {"model": "tiny", "text": TEXT}),
    ("/v1/extract", {"model": "other", "text": TEXT[::-1]}),
]
LEAVERS = {
    "chat": chat(max_tokens=60),
    "stopping": chat(max_tokens=60, stop=["not in any answer"]),
    "stream": chat(max_tokens=60, stream=True),
    "completion": ("/v1/completions", {"model": "tiny", "prompt": TEXT, "max_tokens": 60}),
    "text": ("/v1/extract", {"model": "other", "text": TEXT * 2}),
    "texts": ("/v1/extract", {"model": "tiny", "texts": [TEXT, TEXT[::-1], TEXT * 2]}),
    "lines": ("/v1/extract", {"model": "other", "texts": [TEXT, TEXT[::-1]], "stream": True}),
}


class Paced:
    """A server of two runs whose engine waits for a permit before each step, while `held`."""

    def __init__(self, service: Service, url: str) -> None:
        self.loop, self.url = service.loop, url
        self.stepping: Any = service.loop._stepping
        self.permits, self.held = threading.Semaphore(0), False
        self.begun = 0  # steps since it is held, the one that waits for its permit among them
        self.client = httpx.Client(
            base_url=url, trust_env=False, timeout=WAIT, limits=httpx.Limits(max_keepalive_connections=0)
        )
        step = self.stepping.step

        def paced() -> Any:
            self.begun += 1
            if self.held:
                self.permits.acquire(timeout=WAIT)
            return step()

        self.stepping.step = paced

    def content(self, route: str, body: dict[str, Any]) -> Any:
        """What an answer says, without its id and its time."""
        answer = self.client.post(route, json=body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return (
            [(e["label"], e["start"], e["end"]) for e in found["entities"]] if "entities" in found else found["choices"]
        )

    def connection(self, route: str, body: dict[str, Any]) -> socket.socket:
        """One over which a request has been sent."""
        content = json.dumps(body).encode()
        head = f"POST {route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection = socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])))
        connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        return connection

    def steps(self, count: int) -> None:
        """Let the engine take so many steps, and wait until it is about to take the next."""
        target = self.begun + count
        self.permits.release(count)
        self.until(lambda: self.begun >= target)

    def hold(self) -> None:
        self.begun, self.permits, self.held = 0, threading.Semaphore(0), True

    def go_on(self) -> None:
        self.held = False
        self.permits.release(1000)

    @staticmethod
    def until(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.fixture(scope="module")
def paced(tiny_runs, listening) -> Iterator[Paced]:
    service = open_service(load_runs(tiny_runs, batch_size=5))
    with listening(service.app) as url:
        server = Paced(service, url)
        yield server
        server.client.close()
    service.loop.close(finish=False)


@pytest.fixture(scope="module")
def expected(paced) -> list[Any]:
    return [paced.content(*asked) for asked in BESIDE]


@pytest.mark.parametrize("leaver", LEAVERS)
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_who_leaves_at_any_step_is_not_noticed_by_the_others(paced, expected, monkeypatch, leaver, steps):
    """Before the first step, while its prompt is read, which takes several here, and while it is answered."""
    monkeypatch.setattr(local, "_PROMPT_TOKENS", 64)
    paced.hold()
    route, body = LEAVERS[leaver]
    count = len(body.get("texts", [0]))
    with ThreadPoolExecutor(len(BESIDE)) as pool:
        first: list[Future[Any]] = [pool.submit(paced.content, *asked) for asked in BESIDE[::2]]
        paced.until(lambda: paced.loop.unfinished == 2)
        leaving = paced.connection(route, body)
        paced.until(lambda: paced.loop.unfinished == 2 + count)
        last = [pool.submit(paced.content, *asked) for asked in BESIDE[1::2]]
        paced.until(lambda: paced.loop.unfinished == len(BESIDE) + count)
        if steps:
            paced.steps(steps)
        assert paced.loop.unfinished == len(BESIDE) + count  # nobody is done yet
        leaving.close()
        paced.until(lambda: len(set(paced.loop._dropped)) == count)
        paced.go_on()
        found = [first[0].result(), last[0].result(), first[1].result(), last[1].result()]
    assert found == expected
    paced.until(lambda: not paced.loop.unfinished)
    assert (paced.loop.failures, paced.loop.state) == (0, "running")
    assert len(paced.stepping) == len(paced.stepping._cache) == 0


def test_an_answer_that_ends_at_a_stop_string_leaves_the_batch_as_its_client_would(paced, expected):
    """Alone, in a stream, and with others decoded beside it."""
    route, body = chat()
    whole = paced.content(route, body)[0]["message"]["content"]
    stop = whole[len(whole) // 2 :][:3]
    before = whole[: whole.index(stop)]
    with ThreadPoolExecutor(len(BESIDE) + 2) as pool:
        beside = [pool.submit(paced.content, *asked) for asked in BESIDE]
        stopped = [pool.submit(paced.content, route, {**body, "stop": [stop]}) for _ in range(2)]
        assert [job.result() for job in beside] == expected
        assert [job.result()[0]["message"]["content"] for job in stopped] == [before, before]
    with paced.client.stream("POST", route, json={**body, "stop": stop, "stream": True}) as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == before
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    paced.until(lambda: not paced.loop.unfinished)
    assert (paced.loop.failures, len(paced.stepping._cache)) == (0, 0)
