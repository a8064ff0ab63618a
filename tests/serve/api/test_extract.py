"""`/v1/extract`: grounded entities of one text or many, from any number of clients, each as the Recognizer has them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace

import httpx
import pytest

from nertune import load

TEXTS = [
    f"{name}来自{place}{mark}"
    for name in ("叶老桂", "A.B.", "😀甲乙")
    for place in ("杭州", "\x00北", "x")
    for mark in ("", "。再见")
]


@pytest.fixture(scope="module")
def local(tiny_run):
    return load(tiny_run)


def copied(prompt: str) -> str:
    """An answer that marks the first character of the text as a name."""
    text = prompt.rpartition("句：")[2].partition("<|im_end|>")[0]
    return f"[{text[0]} | name]{text[1:]}"


@pytest.fixture
def served(saying):
    return saying(copied)


def unfinished(served, number: int) -> None:
    """Wait until as many requests are accepted and not answered."""
    deadline = time.monotonic() + 20
    while served.loop.unfinished != number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_text_is_a_line_of_extraction_json(served):
    found = served.http.post("/v1/extract", json={"text": "叶老桂来自杭州"}).json()
    assert found["entities"][0]["score"] == pytest.approx(1, abs=1)
    for entity in found["entities"]:
        for key in ("score", "span_score", "label_score"):
            entity.pop(key)
    assert found == {
        "id": None,
        "text": "叶老桂来自杭州",
        "entities": [{"start": 0, "end": 1, "label": "name", "text": "叶"}],
        "ungrounded": [],
        "stop": "end",
    }


def test_a_batch_keeps_the_order_and_counts_tokens(served):
    found = served.http.post("/v1/extract", json={"model": "ner", "texts": TEXTS}).json()
    assert [row["index"] for row in found["data"]] == list(range(len(TEXTS)))
    assert [row["text"] for row in found["data"]] == TEXTS
    assert (found["object"], found["model"]) == ("list", "ner")
    assert found["usage"]["prompt_tokens"] == sum(len(request.prompt_ids) for request in served.stepping.requests)
    assert found["usage"]["total_tokens"] > found["usage"]["prompt_tokens"]
    assert served.stepping.most_at_once > 1


def test_a_text_that_cannot_be_read_has_an_error_in_its_place(served):
    body = json.dumps({"texts": ["甲乙", " ", "refuse", "x"]})[:-2] + ', "\\ud800", "丙丁"]}'
    found = served.http.post("/v1/extract", content=body, headers={"content-type": "application/json"})
    assert found.status_code == 200
    rows = found.json()["data"]
    assert ["error" in row for row in rows] == [False, True, True, False, True, False]
    assert rows[1]["error"]["message"].startswith("the text is empty")  # which of them it is, its index says
    assert "the engine refuses it" in rows[2]["error"]["message"]
    assert "surrogate" in rows[4]["error"]["message"]
    alone = served.http.post("/v1/extract", json={"text": " "})
    assert (alone.status_code, alone.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_stream_has_a_line_for_each_text_as_it_is_read(served):
    texts = ["长" * 100, "短句"]
    served.stepping.gate = threading.Semaphore(0)
    with served.http.stream("POST", "/v1/extract", json={"texts": texts, "stream": True}) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        unfinished(served, 2)
        served.stepping.gate.release(60)
        lines = answer.iter_lines()
        rows = [json.loads(next(lines))]
        served.stepping.gate.release(1000)
        rows += map(json.loads, lines)
    assert [row["index"] for row in rows] == [1, 0]
    assert {row["index"]: row["text"] for row in rows} == dict(enumerate(texts))


def test_a_long_text_is_read_in_windows(served):
    text = "他来自杭州。" * 100
    found = served.http.post("/v1/extract", json={"text": text}).json()
    assert found["windows"] > 1
    assert all(found["text"][e["start"] : e["end"]] == e["text"] for e in found["entities"])


def test_what_was_sent_and_what_came_back(served, renderer):
    [step] = served.http.post("/v1/extract", json={"text": "叶老桂", "debug": True}).json()["debug"]
    assert step["prompt"] == renderer.prompt_text("叶老桂")
    assert step["prompt_ids"] == renderer.prompt_ids("叶老桂")
    assert (step["answer"], step["window"], step["stop"]) == ("[叶 | name]老桂", [0, 3], "end")
    assert step["new_ids"] == renderer.answer_ids(step["answer"])


def test_entities_below_the_least_score_are_left_out(served):
    score = served.http.post("/v1/extract", json={"text": "叶老桂"}).json()["entities"][0]["score"]
    for least, count in ((score, 1), (min(1.0, score + 0.001), 0)):
        found = served.http.post("/v1/extract", json={"text": "叶老桂", "min_score": least}).json()
        assert len(found["entities"]) == count
    refused = served.http.post("/v1/extract", json={"text": "叶老桂", "min_score": "calibrated"})
    assert refused.status_code == 400
    assert "calibrat" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "either text or texts"),
        ({"text": "a", "texts": ["b"]}, 400, "either text or texts"),
        ({"texts": []}, 400, "texts"),
        ({"texts": ["a", 5]}, 400, "texts.1"),
        ({"text": "a", "min_score": 2}, 400, "min_score: at most 1"),
        ({"text": "a", "min_scores": 0.2}, 400, "unrecognized request argument: min_scores"),
        ({"text": "a", "model": "base"}, 400, "was not trained to extract"),
        ({"text": "a", "model": "nre"}, 404, 'did you mean "ner"'),
    ],
)
def test_what_cannot_be_done_is_refused(served, body, status, message):
    answer = served.http.post("/v1/extract", json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_a_full_queue_refuses_what_it_has_not_begun_and_finishes_what_it_has(saying):
    served = saying(copied, capacity=2)
    many = [f"第{n}句" for n in range(20)]
    assert len(served.http.post("/v1/extract", json={"texts": many}).json()["data"]) == 20
    served.stepping.gate = threading.Semaphore(0)
    rows: list[dict] = []
    asking = threading.Thread(
        target=lambda: rows.extend(served.http.post("/v1/extract", json={"texts": many}).json()["data"])
    )
    asking.start()
    unfinished(served, 1)
    other = threading.Thread(target=lambda: served.http.post("/v1/extract", json={"text": "乙"}))
    other.start()
    unfinished(served, 2)
    refused = served.http.post("/v1/extract", json={"text": "甲"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    served.stepping.gate.release(10_000)
    asking.join(20)
    other.join(20)
    assert [row["text"] for row in rows] == many


def test_one_client_never_takes_all_of_the_queue(saying):
    served = saying(copied, capacity=8)
    served.stepping.gate = threading.Semaphore(0)
    asking = threading.Thread(target=lambda: served.http.post("/v1/extract", json={"text": "他来自杭州。" * 200}))
    asking.start()
    unfinished(served, 2)
    time.sleep(0.2)
    assert served.loop.unfinished == 2
    served.stepping.gate.release(100_000)
    asking.join(20)
    assert not asking.is_alive()


def test_a_client_that_leaves_a_stream_frees_its_slots(saying):
    served = saying(copied, capacity=200)
    served.stepping.gate = threading.Semaphore(0)
    with served.http.stream(
        "POST", "/v1/extract", json={"texts": ["短", *("长" * 40 for _ in range(30))], "stream": True}
    ) as answer:
        unfinished(served, 31)
        served.stepping.gate.release(60)
        next(answer.iter_lines())
    deadline = time.monotonic() + 10
    while served.loop.unfinished:  # what is dropped is dropped between two steps
        assert time.monotonic() < deadline
        served.stepping.gate.release()
        time.sleep(0.01)
    assert len(served.stepping) == 0


def test_concurrent_clients_get_what_the_recognizer_gives_here(tiny, local):
    """Clients of one text and of many, whole and streamed, all joined in one batch."""
    here = {text: prediction.to_json() for text, prediction in zip(TEXTS, local.extract_many(TEXTS), strict=True)}
    assert any(row["entities"] for row in here.values())

    async def ask() -> list[dict]:
        async with httpx.AsyncClient(base_url=tiny.url, timeout=60, trust_env=False) as client:
            singles = [client.post("/v1/extract", json={"model": "tiny", "text": text}) for text in TEXTS]
            batches = [client.post("/v1/extract", json={"model": "tiny", "texts": TEXTS[n:]}) for n in range(3)]
            streams = [client.post("/v1/extract", json={"model": "tiny", "texts": TEXTS, "stream": True})]
            answers = await asyncio.gather(*singles, *batches, *streams)
        rows = [answer.json() for answer in answers[: len(TEXTS)]]
        rows += [row for answer in answers[len(TEXTS) : -1] for row in answer.json()["data"]]
        return rows + [json.loads(line) for line in answers[-1].text.splitlines()]

    rows = asyncio.run(ask())
    assert len(rows) == len(TEXTS) * 5 - 3
    for row in rows:
        row.pop("index", None)
        expected = here[row["text"]]
        scores = [entity.pop(key) for entity in row["entities"] for key in ("score", "span_score", "label_score")]
        own = [entity[key] for entity in expected["entities"] for key in ("score", "span_score", "label_score")]
        assert scores == pytest.approx(own, abs=1e-5)
        bare = [{k: v for k, v in entity.items() if not k.endswith("score")} for entity in expected["entities"]]
        assert row == expected | {"entities": bare}


def test_min_score_is_the_recognizers_own(tiny, local):
    least = 0.05
    strict = replace(local, min_score=least).extract(TEXTS[0])
    found = tiny.http.post("/v1/extract", json={"model": "tiny", "text": TEXTS[0], "min_score": least}).json()
    assert [e["text"] for e in found["entities"]] == [e.text for e in strict.entities]


def test_several_runs_each_read_as_they_do_alone(tiny, tiny_runs):
    """Their requests are in one batch, with those of the base model."""
    [base] = [card["id"] for card in tiny.http.get("/v1/models").json()["data"] if card["parent"] is None]

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=tiny.url, timeout=60, trust_env=False) as client:
            extracts = [client.post("/v1/extract", json={"model": name, "texts": TEXTS}) for name in tiny_runs]
            message = {"role": "user", "content": "叶老桂"}
            body = {"messages": [message], "max_tokens": 20}
            chats = [client.post("/v1/chat/completions", json={"model": n, **body}) for n in (base, *tiny_runs)]
            return await asyncio.gather(*extracts, *chats)

    first, second, *chats = (answer.json() for answer in asyncio.run(ask()))
    for name, found in zip(tiny_runs, (first, second), strict=True):
        mine = [prediction.to_json() for prediction in load(tiny_runs[name]).extract_many(TEXTS)]
        for row, own in zip(found["data"], mine, strict=True):
            assert [(e["label"], e["start"], e["end"]) for e in row["entities"]] == [
                (e["label"], e["start"], e["end"]) for e in own["entities"]
            ]
    assert len({chat["choices"][0]["message"]["content"] for chat in chats}) == 3
    unnamed = tiny.http.post("/v1/extract", json={"text": "叶"})
    assert (unnamed.status_code, unnamed.json()["error"]["message"]) == (400, "model: name one of tiny, other")
