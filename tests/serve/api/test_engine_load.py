"""Clients of a tiny random model who come, go and leave at any moment: nobody else notices, and nothing stays behind.

What test_load.py shows of the HTTP shell over a pretended engine, on the real one: two adapters and their base model, chat and
completions with stop strings, streams that are cancelled, single texts and many, and files that are extracted beside them.
"""

from __future__ import annotations

import gc
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from nertune.cli import main
from nertune.serving import load_runs, open_service

pytestmark = pytest.mark.engine

_ROWS = 16  # of the file that is extracted beside the crowd
SYLLABLES = "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读"


def _question(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """A route, and a body whose answer depends on nothing but the body."""
    text = "".join(draw.choice(SYLLABLES) for _ in range(draw.randrange(1, 40)))
    run = draw.choice(["tiny", "other"])
    kind = draw.randrange(5)
    if kind == 0:
        return "/v1/extract", {"model": run, "text": text}
    if kind == 1:
        return "/v1/extract", {"model": run, "texts": [text, text[::-1], text[:3]]}
    body: dict[str, Any] = {"model": draw.choice([run, "BASE"]), "max_tokens": draw.randrange(1, 24)}
    if draw.random() < 0.3:
        body["stop"] = [draw.choice(SYLLABLES), "e"]
    if kind == 2:
        return "/v1/completions", {**body, "prompt": text}
    return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": text}], "stream": kind == 4}


def _content(route: str, body: dict[str, Any], answer: bytes) -> Any:
    """What an answer says, without its id, its time, and digits that depend on what was computed together."""
    if body.get("stream"):
        events = [json.loads(line[6:]) for line in answer.decode().splitlines() if line[:7] == "data: {"]
        assert all("error" not in event for event in events), events
        return "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    value = json.loads(answer)
    if route == "/v1/extract":
        found = value.get("data", [value])
        return [[(e["label"], e["start"], e["end"]) for e in one["entities"]] for one in found]
    return [choice.get("text", choice.get("message", {}).get("content")) for choice in value["choices"]]


class Crowd:
    """Sends questions; three in ten of the clients leave before their answer is there."""

    def __init__(self, url: str, base: str, *, seed: int) -> None:
        self._draw = random.Random(seed)
        self._base = base
        self.client = httpx.Client(
            base_url=url, trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self.left = 0

    def questions(self, count: int) -> list[tuple[str, dict[str, Any], float | None]]:
        """`count` of them, and after how many seconds the client leaves; None where it stays."""
        found = []
        for _ in range(count):
            route, body = _question(self._draw)
            if body["model"] == "BASE":
                body["model"] = self._base
            found.append((route, body, self._draw.uniform(0.001, 0.3) if self._draw.random() < 0.3 else None))
        return found

    def ask(self, route: str, body: dict[str, Any], leaves: float | None = None) -> Any:
        """The answer; None where the client left before."""
        try:
            with self.client.stream("POST", route, json=body, timeout=60 if leaves is None else leaves) as answer:
                if leaves is not None and body.get("stream"):
                    next(answer.iter_raw(), None)
                    self.left += 1
                    return None
                content = b"".join(answer.iter_raw())
        except httpx.TimeoutException:
            assert leaves is not None
            self.left += 1
            return None
        assert answer.status_code == 200, content
        return _content(route, body, content)


def _serve_a_crowd(tiny_runs: dict[str, Path], listening: Any, folder: Path, count: int, rounds: int) -> None:
    service = open_service(load_runs(tiny_runs, batch_size=8))
    engine = service.loop
    base = next(name for name in service.models if name not in tiny_runs)
    process = psutil.Process()
    memory = []
    try:
        with listening(service.app) as url:
            crowd = Crowd(url, base, seed=count)
            calm = crowd.questions(12)
            expected = [crowd.ask(route, body) for route, body, _ in calm]
            texts = folder / "texts.txt"
            texts.write_text("\n".join(SYLLABLES[n % 9 :][: 3 + n % 20] for n in range(_ROWS)), encoding="utf-8")
            for number in range(rounds):
                codes: list[int] = []
                arguments = ["extract", f"{url}/v1#tiny", str(texts), "--run", str(tiny_runs["tiny"])]
                out = folder / f"{number}.jsonl"
                bulk = threading.Thread(
                    target=lambda arguments=arguments, out=out, codes=codes: codes.append(
                        main([*arguments, "-o", str(out), "--unconstrained", "--max-new-tokens", "12"])
                    )
                )
                bulk.start()
                with ThreadPoolExecutor(16) as pool:
                    asked = [pool.submit(crowd.ask, *question) for question in crowd.questions(count // rounds)]
                    again = [pool.submit(crowd.ask, route, body) for route, body, _ in calm]
                    answers = [job.result() for job in asked]
                    assert [job.result() for job in again] == expected
                bulk.join()
                assert codes == [0]
                assert len(out.read_text(encoding="utf-8").splitlines()) == _ROWS
                assert sum(answer is not None for answer in answers) > len(answers) / 2
                deadline = time.monotonic() + 30
                while engine.unfinished:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                assert httpx.get(f"{url}/health", trust_env=False).json() == {"status": "ok", "unfinished": 0}
                gc.collect()
                memory.append(process.memory_info().rss / 2**20)
            crowd.client.close()
            assert crowd.left > count / 10
        assert engine.failures == 0
        assert engine.state == "running"
        assert len(engine._stepping) == len(engine._stepping._cache) == 0
        assert not engine._held | engine._streamed
    finally:
        engine.close(finish=False)
    print(f"{count} requests, {crowd.left} left; memory {[round(value) for value in memory]} MB")
    if rounds >= 4:  # the first rounds still fill what is kept
        assert memory[-1] - memory[rounds // 2] < 40


def test_a_crowd_of_which_three_in_ten_leave(tiny_runs, listening, tmp_path):
    _serve_a_crowd(tiny_runs, listening, tmp_path, count=40, rounds=1)


@pytest.mark.soak
def test_two_thousand_requests_of_which_three_in_ten_leave(tiny_runs, listening, tmp_path):
    _serve_a_crowd(tiny_runs, listening, tmp_path, count=2000, rounds=8)


def test_one_who_leaves_while_a_longer_text_is_read_beside_it(tiny_service, tiny):
    """Client A asks, client B asks for more, A hangs up: B gets its answer, and so does everybody after them."""
    expected = tiny.http.post("/v1/extract", json={"model": "other", "text": SYLLABLES}).json()
    for leaves in (0.02, 0.1, 0.2):
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(tiny.http.post, "/v1/extract", json={"model": "other", "text": SYLLABLES}, timeout=60)
            with pytest.raises(httpx.ReadTimeout):
                tiny.http.post("/v1/extract", json={"model": "tiny", "texts": [SYLLABLES] * 3}, timeout=leaves)
            assert beside.result().json()["entities"] == expected["entities"]
        assert tiny.http.get("/health").status_code == 200
    assert tiny_service.loop.failures == 0
