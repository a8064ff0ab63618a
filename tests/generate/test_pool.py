"""Answers by threads: each request by itself, no more than may be, and a place that is free again when nobody waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from nertune.errors import EndpointError, EngineFailedError, EngineStoppedError, InputError, QueueFullError
from nertune.generate import AnswerPool, Completion, Request

WAIT = 20.0


def asked(number: int) -> Request:
    return Request((number,), frozenset({0}), 3)


class Server:
    """Answers prompt (n,) with n; `gate` holds answers back until it is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.most = self._now = 0
        self.seen: list[int] = []
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Completion:
        [number] = request.prompt_ids
        with self._lock:
            self.seen.append(number)
            self._now += 1
            self.most = max(self.most, self._now)
        self.gate.wait(WAIT)
        with self._lock:
            self._now -= 1
        if number == 13:
            raise InputError("text 13 is too long")
        if number == 14:
            raise EndpointError("it is gone")
        if number == 15:
            raise ZeroDivisionError
        return Completion((number,), "end", (-0.5, -0.1))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.gate.set()


def until(condition) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_every_request_gets_its_own_answer(server):
    pool = AnswerPool(server.answer, threads=4)
    jobs = [pool.submit(asked(number)) for number in range(1, 13)]
    assert [job.result(WAIT).ids for job in jobs] == [(number,) for number in range(1, 13)]
    assert (pool.answered, pool.tokens, pool.unfinished) == (12, 12, 0)


def test_so_many_are_asked_at_once_and_no_more(server):
    server.gate.clear()
    pool = AnswerPool(server.answer, threads=3)
    jobs = [pool.submit(asked(number)) for number in range(1, 8)]
    until(lambda: server.most == 3)
    server.gate.set()
    assert [job.result(WAIT).ids for job in jobs][-1] == (7,)
    assert server.most == 3


@pytest.mark.parametrize(("number", "error"), [(13, InputError), (14, EndpointError), (15, EngineFailedError)])
def test_a_request_that_fails_fails_alone(server, number, error):
    pool = AnswerPool(server.answer, threads=2)
    jobs = [pool.submit(asked(one)) for one in (1, number, 2)]
    with pytest.raises(error):
        jobs[1].result(WAIT)
    assert [jobs[0].result(WAIT).ids, jobs[2].result(WAIT).ids] == [(1,), (2,)]
    assert pool.failures == (error is EngineFailedError)


def test_a_failure_is_told_by_an_id_that_stands_beside_its_cause_in_the_log(server, caplog):
    with pytest.raises(EngineFailedError) as failed:
        AnswerPool(server.answer).submit(asked(15)).result(WAIT)
    assert "ZeroDivisionError" not in str(failed.value)
    assert failed.value.incident in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_no_more_are_accepted_than_may_be_whatever_takes_the_places(server):
    server.gate.clear()
    pool = AnswerPool(server.answer, threads=1, capacity=2)
    job = pool.submit(asked(1))
    with pool.place():
        assert pool.unfinished == 2
        with pytest.raises(QueueFullError) as full:
            pool.submit(asked(2))
        assert full.value.retry_after >= 1
        with pytest.raises(QueueFullError), pool.place():
            pass
    server.gate.set()
    assert job.result(WAIT).ids == (1,)
    pool.check()


def test_a_cancelled_job_is_never_begun_and_its_place_is_free_at_once(server):
    server.gate.clear()
    pool = AnswerPool(server.answer, threads=1, capacity=3)
    running, waiting, last = (pool.submit(asked(number)) for number in (1, 2, 3))
    until(lambda: server.seen == [1])
    assert waiting.cancel()
    assert running.cancel()
    assert pool.unfinished == 1
    server.gate.set()
    assert last.result(WAIT).ids == (3,)
    assert server.seen == [1, 3]


def test_a_system_without_more_threads_is_made_do_with(server, monkeypatch):
    start, left = threading.Thread.start, [1]

    def few(thread: threading.Thread) -> None:
        if thread.name == "nertune-asking" and not left:
            raise RuntimeError("can't start new thread")
        left.clear()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    server.gate.clear()
    pool = AnswerPool(server.answer, threads=4)
    jobs = [pool.submit(asked(number)) for number in (1, 2, 3)]
    server.gate.set()
    assert [job.result(WAIT).ids for job in jobs] == [(1,), (2,), (3,)]
    other = AnswerPool(server.answer)
    with pytest.raises(RuntimeError, match="start new thread"):
        other.submit(asked(4))
    assert other.unfinished == 0


def test_a_closed_pool_fails_what_waits_and_takes_nothing(server):
    server.gate.clear()
    pool = AnswerPool(server.answer, threads=1)
    jobs = [pool.submit(asked(number)) for number in (1, 2)]
    pool.close("the server behind has ended", broken=True)
    pool.close()
    for job in jobs:
        with pytest.raises(EngineStoppedError, match="behind has ended"):
            job.result(WAIT)
    assert (pool.state, pool.unfinished) == ("broken", 0)
    with pytest.raises(EngineStoppedError, match="behind has ended"):
        pool.submit(asked(3))


def test_progress_is_the_whole_answer_at_its_end(server):
    told = []
    pool = AnswerPool(server.answer)
    pool.submit(asked(5), on_progress=lambda ids, logprobs: told.append((ids, logprobs))).result(WAIT)
    assert told == [((5,), (-0.5,))]
