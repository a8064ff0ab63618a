"""A client that is gone gives its places in the batch up, whatever it asked for and however it left."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest

from nertune.extract import Recognizer
from nertune.generate import EngineLoop, ScriptedEngine
from nertune.serve.app import build_app
from nertune.serve.models import ServedModel

ASK = [{"role": "user", "content": "叶老桂"}]


ASKED = pytest.mark.parametrize(
    ("path", "body", "places"),
    [
        ("/v1/chat/completions", {"model": "ner", "messages": ASK}, 1),
        ("/v1/chat/completions", {"model": "ner", "messages": ASK, "stop": ["zzz"]}, 1),
        ("/v1/completions", {"model": "ner", "prompt": "叶"}, 1),
        ("/v1/extract", {"text": "叶老桂"}, 1),
        ("/v1/extract", {"texts": ["甲", "乙", "丙丁"]}, 3),
    ],
)


@ASKED
def test_a_client_that_hangs_up_before_its_answer_is_not_answered(saying, path, body, places):
    served = saying(lambda prompt: "甲" * 300)
    served.stepping.gate = threading.Semaphore(0)
    with pytest.raises(httpx.ReadTimeout):
        served.http.post(path, json=body, timeout=0.5)
    deadline = time.monotonic() + 10
    while served.loop.unfinished:
        assert time.monotonic() < deadline
        served.stepping.gate.release()
        time.sleep(0.01)
    assert 1 <= len(served.stepping.requests) <= places  # those that were still waiting never began
    assert len(served.stepping) == 0


@ASKED
def test_a_cancelled_handler_gives_its_places_up(renderer, scripted, path, body, places):
    stepping = scripted(renderer, lambda prompt: "甲" * 300)
    stepping.gate = threading.Semaphore(0)
    loop = EngineLoop(lambda: stepping)
    model = ServedModel(
        "ner",
        root="runs/ner",
        tokenizer=renderer.tokenizer,
        stop_ids=renderer.stop_ids,
        vocabulary=len(renderer.tokenizer),
        recognizer=Recognizer(renderer, ScriptedEngine(())),
    )
    transport = httpx.ASGITransport(build_app({"ner": model}, loop))

    async def leave() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asking = asyncio.create_task(client.post(path, json=body))
            while loop.unfinished < places:
                await asyncio.sleep(0.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            while loop.unfinished:
                stepping.gate.release()
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(leave(), 20))
    assert len(stepping) == 0
    stepping.gate.release(1000)
    loop.close(finish=False)
