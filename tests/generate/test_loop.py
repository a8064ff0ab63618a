"""The engine's thread: whatever many threads submit is answered, alone or not at all, and never twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from nertune.errors import EngineFailedError, EngineStoppedError, InputError, QueueFullError
from nertune.generate import EngineLoop, Request
from nertune.generate.local import LocalEngine
from nertune.generate.loop import WholeAnswers
from nertune.models.attention import can_share_prefix

WAIT = 20.0


def asked(number: int, tokens: int = 3) -> Request:
    return Request((number,), frozenset({0}), tokens)


@pytest.fixture
def stepping(fake_steppings) -> Any:
    return fake_steppings.Counting()


@pytest.fixture
def loop_of() -> Iterator[Callable[..., EngineLoop]]:
    loops: list[EngineLoop] = []

    def build(stepping: object, **options: Any) -> EngineLoop:
        """`stepping`: the only one, or a function that makes one."""
        loops.append(EngineLoop(stepping if callable(stepping) else lambda: stepping, **options))
        return loops[-1]

    yield build
    for loop in loops:
        loop.close(finish=False)


def test_what_many_threads_submit_is_answered_by_one(loop_of, stepping):
    loop = loop_of(stepping)

    def client(first: int) -> list[tuple[int, ...]]:
        jobs = [loop.submit(asked(first + number)) for number in range(20)]
        return [job.result(WAIT).ids for job in jobs]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(client, range(0, 16000, 1000)))
    for first, found in zip(range(0, 16000, 1000), answers, strict=True):
        assert found == [(first + n, first + n + 1, first + n + 2) for n in range(20)]
    assert len(stepping.threads) == 1
    assert loop.unfinished == 0


def test_a_request_joins_the_batch_that_is_being_decoded(loop_of, stepping):
    stepping.gate = threading.Semaphore(1)
    loop = loop_of(stepping)
    long = loop.submit(asked(10, tokens=50))
    assert stepping.in_step.wait(WAIT)
    short = loop.submit(asked(20, tokens=2))
    for _ in range(4):
        stepping.gate.release()
    assert short.result(WAIT).ids == (20, 21)
    assert not long.done()
    stepping.gate.release(100)
    assert len(long.result(WAIT).ids) == 50


def test_progress_is_told_in_order_and_before_the_result(loop_of, stepping):
    loop = loop_of(stepping)
    told: dict[int, list] = {}

    def telling(number: int) -> Callable:
        return lambda ids, logprobs: told.setdefault(number, []).extend(zip(ids, logprobs, strict=True))

    jobs = [loop.submit(asked(100 * n, tokens=n + 1), on_progress=telling(n)) for n in range(8)]
    ends: list[int] = []
    for number, job in enumerate(jobs):
        job.add_done_callback(lambda job, number=number: ends.append(len(told[number])))
    for job in jobs:
        job.result(WAIT)
    assert told == {n: [(100 * n + place, -0.5) for place in range(n + 1)] for n in range(8)}
    assert sorted(ends) == list(range(1, 9))


def test_a_callback_that_fails_harms_nobody(loop_of, stepping):
    loop = loop_of(stepping)
    calls = []

    def failing(ids, logprobs) -> None:
        calls.append(ids)
        raise RuntimeError("the client's loop is closed")

    assert loop.submit(asked(5), on_progress=failing).result(WAIT).ids == (5, 6, 7)
    assert len(calls) == 1
    assert loop.submit(asked(6)).result(WAIT).ids == (6, 7, 8)


def test_a_cancelled_job_frees_its_slot_at_the_next_step(loop_of, fake_steppings):
    stepping = fake_steppings.Counting(slots=1)
    stepping.gate = threading.Semaphore(0)
    loop = loop_of(stepping)
    endless = loop.submit(asked(1, tokens=10**9))
    waiting = loop.submit(asked(500))
    next_one = loop.submit(asked(600))
    assert stepping.in_step.wait(WAIT)
    assert endless.cancel()
    assert waiting.cancel()
    for _ in range(5):
        stepping.gate.release()
    assert next_one.result(WAIT).ids == (600, 601, 602)
    with pytest.raises(CancelledError):
        endless.result(WAIT)
    assert len(stepping) == loop.unfinished == 0
    assert stepping.steps <= 4
    assert not next_one.cancel()


def test_a_full_queue_refuses_and_says_when_to_come_again(loop_of, stepping):
    stepping.gate = threading.Semaphore(0)
    loop = loop_of(stepping, capacity=3)
    jobs = [loop.submit(asked(n)) for n in range(3)]
    with pytest.raises(QueueFullError, match="3 requests are waiting") as refused:
        loop.submit(asked(4))
    assert refused.value.retry_after >= 1
    with pytest.raises(QueueFullError):
        loop.check()
    jobs[0].cancel()
    stepping.gate.release(100)
    assert jobs[2].result(WAIT).ids == (2, 3, 4)
    loop.check()
    assert loop.submit(asked(4)).result(WAIT).ids == (4, 5, 6)


def test_a_request_that_is_refused_fails_alone(loop_of, stepping):
    stepping.refused, stepping.unfit = {7}, {8}
    loop = loop_of(stepping)
    jobs = [loop.submit(asked(n)) for n in (6, 7, 8, 9)]
    for place, message in ((1, "refused"), (2, "its grammar")):
        with pytest.raises(InputError, match=message):
            jobs[place].result(WAIT)
    assert [jobs[place].result(WAIT).ids[0] for place in (0, 3)] == [6, 9]
    assert loop.state == "running"


def test_an_engine_that_fails_is_built_anew(loop_of, fake_steppings, caplog):
    """What it held fails, with an id that stands in the log and without the cause; what was waiting is answered."""
    first, second = fake_steppings.Counting(), fake_steppings.Counting()
    first.gate, coming = threading.Semaphore(0), iter((first, second))
    loop = loop_of(lambda: next(coming), probe=asked(900, tokens=1))
    held = [loop.submit(asked(n)) for n in range(3)]
    assert first.in_step.wait(WAIT)
    waiting = [loop.submit(asked(n)) for n in range(10, 13)]
    waiting[1].cancel()
    first.broken = True
    first.gate.release()
    failed = [job.exception(WAIT) for job in held]
    assert {type(error) for error in failed} == {EngineFailedError}
    assert waiting[0].result(WAIT).ids == (10, 11, 12)
    assert waiting[2].result(WAIT).ids == (12, 13, 14)
    assert {"no memory" in str(error) for error in failed} == {False}
    assert failed[0].incident in caplog.text
    assert "RuntimeError: no memory" in caplog.text
    assert (loop.state, loop.failures, loop.unfinished, len(second)) == ("running", 1, 0, 0)
    assert loop.submit(asked(20)).result(WAIT).ids == (20, 21, 22)


@pytest.mark.parametrize("method", ["add", "drop", "so_far"])
def test_an_engine_may_fail_in_any_of_its_methods(loop_of, fake_steppings, method):
    first, second = fake_steppings.Counting(), fake_steppings.Counting()
    first.gate, coming = threading.Semaphore(0), iter((first, second))
    loop = loop_of(lambda: next(coming))
    jobs = [loop.submit(asked(n, tokens=50), on_progress=lambda ids, logprobs: None) for n in range(3)]
    assert first.in_step.wait(WAIT)

    def failing(*_: object) -> None:
        raise KeyError("slot")

    setattr(first, method, failing)
    more = loop.submit(asked(7))
    jobs[0].cancel()
    first.gate.release(100)
    for job in jobs[1:]:
        with pytest.raises(EngineFailedError):
            job.result(WAIT)
    try:
        assert more.result(WAIT).ids == (7, 8, 9)
    except EngineFailedError:
        assert method != "so_far"  # which the engine held already, or was about to
    assert loop.submit(asked(20)).result(WAIT).ids == (20, 21, 22)
    assert (loop.state, loop.failures, loop.unfinished) == ("running", 1, 0)


def test_an_engine_that_cannot_be_built_refuses_until_it_can(loop_of, fake_steppings, monkeypatch):
    monkeypatch.setattr("nertune.generate.loop._LONGEST_PAUSE", 0.01)
    broken, healed = fake_steppings.Counting(), threading.Event()
    broken.broken = True

    def build() -> Any:
        return fake_steppings.Counting() if healed.is_set() else broken

    loop = loop_of(build, probe=asked(900, tokens=1))
    with pytest.raises(EngineFailedError):
        loop.submit(asked(1)).result(WAIT)
    while loop.failures < 6:
        pass
    with pytest.raises(EngineStoppedError, match=r"being rebuilt; try again in a moment$"):
        loop.submit(asked(2))
    assert loop.state == "recovering"
    healed.set()
    while loop.state == "recovering":
        pass
    assert loop.submit(asked(20)).result(WAIT).ids == (20, 21, 22)


def test_a_loop_is_closed_while_its_engine_is_being_rebuilt(loop_of, stepping, monkeypatch):
    monkeypatch.setattr("nertune.generate.loop._AT_ONCE", 0)
    stepping.broken = True
    loop = loop_of(stepping, probe=asked(900, tokens=1))
    with pytest.raises(EngineFailedError):
        loop.submit(asked(1)).result(WAIT)
    assert loop.state == "recovering"
    assert loop.close(finish=False)
    assert loop.state == "closed"
    with pytest.raises(EngineStoppedError, match="shutting down"):
        loop.submit(asked(2))


def test_an_engine_that_answers_its_probe_does_not_pause_however_often_a_request_spoils_it(loop_of, fake_steppings):
    """Whoever sends such a request again and again keeps nobody else waiting."""

    def build() -> Any:
        stepping = fake_steppings.Counting()
        stepping.poison = {13}
        return stepping

    loop = loop_of(build, probe=asked(900, tokens=1))
    failed = [loop.submit(asked(13)).exception(WAIT) for _ in range(12)]
    assert {type(error) for error in failed} == {EngineFailedError}
    assert len({error.incident for error in failed}) == 12
    assert loop.submit(asked(20)).result(WAIT).ids == (20, 21, 22)  # a pause would be of minutes by now
    assert (loop.state, loop.failures) == ("running", 12)


def test_each_request_gets_an_error_of_its_own_with_the_id_that_all_have(loop_of, fake_steppings):
    stepping = fake_steppings.Counting()
    stepping.poison, stepping.gate = {3}, threading.Semaphore(0)
    loop = loop_of(iter((stepping, fake_steppings.Counting())).__next__)
    jobs = [loop.submit(asked(n)) for n in range(4)]
    stepping.gate.release(100)
    failed = [error for job in jobs if (error := job.exception(WAIT))]
    assert jobs[3].exception() in failed
    assert len(set(map(id, failed))) == len(failed)
    assert len({error.incident for error in failed}) == 1


def test_a_request_that_fails_by_itself_leaves_the_engine_and_the_others_alone(loop_of, stepping, caplog):
    stepping.failing, stepping.gate = {8}, threading.Semaphore(0)
    loop = loop_of(stepping)
    jobs = [loop.submit(asked(n)) for n in (7, 8, 9)]
    stepping.gate.release(100)
    with pytest.raises(EngineFailedError) as failed:
        jobs[1].result(WAIT)
    assert failed.value.incident in caplog.text
    assert "ZeroDivisionError: of one request" in caplog.text
    assert [jobs[place].result(WAIT).ids[0] for place in (0, 2)] == [7, 9]
    assert (loop.state, loop.failures) == ("running", 1)


def test_the_end_does_not_wait_for_an_engine_that_cannot_be_rebuilt(loop_of, stepping, monkeypatch):
    monkeypatch.setattr("nertune.generate.loop._LONGEST_PAUSE", 0.01)
    stepping.broken = True
    loop = loop_of(stepping, probe=asked(900, tokens=1))
    with pytest.raises(EngineFailedError):
        loop.submit(asked(1)).result(WAIT)
    assert loop.close(timeout=WAIT)
    assert loop.state == "closed"
    assert not loop._thread.is_alive()


def test_close_finishes_what_was_accepted(loop_of, stepping):
    stepping.gate = threading.Semaphore(0)
    loop = loop_of(stepping)
    jobs = [loop.submit(asked(n, tokens=5)) for n in range(10)]
    closing = threading.Thread(target=loop.close)
    closing.start()
    while loop.state == "running":
        pass
    with pytest.raises(EngineStoppedError, match="shutting down"):
        loop.submit(asked(1))
    stepping.gate.release(1000)
    closing.join(WAIT)
    assert [job.result(0).ids[0] for job in jobs] == list(range(10))
    assert loop.state == "closed"


@pytest.mark.parametrize("finish", [True, False])
def test_close_gives_up_after_its_time(loop_of, stepping, finish):
    stepping.gate = threading.Semaphore(0)
    loop = loop_of(stepping)
    job = loop.submit(asked(1))
    assert stepping.in_step.wait(WAIT)
    threading.Timer(0.2, lambda: stepping.gate.release(10)).start()
    assert not loop.close(finish=finish, timeout=0.05)
    with pytest.raises(EngineStoppedError, match="shutting down"):
        job.result(WAIT)
    assert loop.state == "closed"


def test_an_idle_loop_closes_at_once(loop_of, stepping):
    assert loop_of(stepping).close()


@pytest.mark.engine
def test_the_local_engine_in_a_thread_of_its_own_answers_as_it_does_elsewhere(loop_of, tiny_model):
    model = tiny_model("qwen2")
    assert can_share_prefix(model)
    engine = LocalEngine(model, shares_prefix=True, batch_size=3)
    requests = [Request((10 + n, 20, 30 + n), frozenset(range(3, 9)), 4 + n) for n in range(9)]
    expected = engine.generate(requests)
    loop = loop_of(engine.decoding)
    told: list[list[int]] = [[] for _ in requests]
    jobs = [
        loop.submit(request, on_progress=lambda ids, logprobs, own=own: own.extend(ids))
        for request, own in zip(requests, told, strict=True)
    ]
    assert [job.result(WAIT) for job in jobs] == expected
    assert told == [list(completion.ids) for completion in expected]
    too_long, unknown = Request((5,) * 510, frozenset(), 9), Request((5, 160), frozenset(), 9)
    for bad, message in ((too_long, "do not fit"), (unknown, "from 0 to 159")):
        with pytest.raises(InputError, match=message):
            loop.submit(bad).result(WAIT)


@pytest.mark.engine
def test_engines_of_whole_answers(loop_of, tiny_model):
    engine = LocalEngine(tiny_model("llama"), shares_prefix=False, batch_size=3)
    requests = [Request((10 + n, 20), frozenset(range(3, 9)), 4 + n) for n in range(5)]
    expected = engine.generate(requests)
    loop = loop_of(WholeAnswers(engine, most=3, check=engine.check))
    told: list[int] = []
    jobs = [loop.submit(requests[0], on_progress=lambda ids, _: told.extend(ids)), *map(loop.submit, requests[1:])]
    assert [job.result(WAIT) for job in jobs] == expected
    assert told == list(expected[0].ids)
    with pytest.raises(InputError, match="do not fit"):
        loop.submit(Request((5,) * 510, frozenset(), 9)).result(WAIT)
