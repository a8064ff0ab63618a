"""The engine's own thread: requests of many threads come in at any time and join the batch that is being decoded.

The thread calls the model again and again; between two calls it lets in what was submitted, drops what was cancelled and
hands out what has come. Whoever submits gets a Job at once, a `concurrent.futures.Future` that `asyncio` can await.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Literal

from nertune.errors import EngineStoppedError, InputError, QueueFullError
from nertune.generate.engine import Completion, Engine, Outcome, Request, Stepping

__all__ = ["EngineLoop", "Job", "Progress", "State", "WholeAnswers"]

Progress = Callable[[Sequence[int], Sequence[float]], None]
"""Told of new tokens of an answer and their logprobs; tokens once each, in order, before the job's result is there."""

State = Literal["running", "closing", "closed", "broken"]
_log = logging.getLogger(__name__)
_REMEMBERED = 32  # answers from whose times the speed is estimated


class Job(Future[Completion]):
    """An accepted request. `result()` is its Completion, or raises InputError or EngineStoppedError.

    `cancel()` takes effect before the engine's next step: the answer is given up, and its place is free.
    """

    def __init__(self, request: Request, on_progress: Progress | None, cancelled: Callable[[Job], None]) -> None:
        super().__init__()
        self.request = request
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._told = 0

    def cancel(self) -> bool:
        done = super().cancel()
        if done:
            self._cancelled(self)
        return done

    def tell(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Pass on what has come of the answer since the last time."""
        if self._on_progress is None or len(ids) == self._told or self.done():
            return
        start, self._told = self._told, len(ids)
        try:
            self._on_progress(tuple(ids[start:]), tuple(logprobs[start : self._told]))
        except Exception:  # of whoever asked; nobody else is to suffer from it
            _log.warning("an answer's progress could not be told; it is told no further", exc_info=True)
            self._on_progress = None

    def end(self, outcome: Outcome | Exception) -> None:
        """Give the result, unless the job was cancelled."""
        if isinstance(outcome, Completion):
            self.tell(outcome.ids, outcome.logprobs)
        try:
            if isinstance(outcome, Completion):
                self.set_result(outcome)
            else:
                self.set_exception(outcome)
        except InvalidStateError:
            pass

    @property
    def is_streamed(self) -> bool:
        return self._on_progress is not None


class EngineLoop:
    """Owns a Stepping: nothing else may call it. `capacity`: requests that may be accepted and unfinished at a time.

    `steps`, `answered` and `tokens` count, from the beginning: calls of the model, answers, tokens of these.
    """

    def __init__(self, stepping: Stepping, *, capacity: int = 1024) -> None:
        self.capacity = capacity
        self._stepping = stepping
        self._changed = threading.Condition()
        self._state: State = "running"
        self._reason = ""
        self._unfinished: set[Job] = set()
        self._arrived: deque[Job] = deque()
        self._dropped: deque[Job] = deque()
        self._streamed: set[Job] = set()  # the thread's own
        self._ended_at: deque[float] = deque(maxlen=_REMEMBERED)
        self.steps = self.answered = self.tokens = 0
        self._thread = threading.Thread(target=self._run, name="nertune-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, *, on_progress: Progress | None = None) -> Job:
        """Accept a request. `on_progress` is called in the engine's thread: it must be quick.

        Raises QueueFullError, and EngineStoppedError where nothing is accepted any more.
        """
        job = Job(request, on_progress, self._forget)
        with self._changed:
            self._check()
            self._unfinished.add(job)
            self._arrived.append(job)
            self._changed.notify()
        return job

    def check(self) -> None:
        """Raise what `submit` would raise now: to refuse before any work is done."""
        with self._changed:
            self._check()

    @property
    def state(self) -> State:
        return self._state

    @property
    def unfinished(self) -> int:
        """Requests that are accepted and not answered yet."""
        return len(self._unfinished)

    def close(self, *, finish: bool = True, timeout: float | None = None) -> bool:
        """Accept nothing more, and end: after all that was accepted, or `timeout` seconds; at once without `finish`.

        What is unfinished then fails with EngineStoppedError. Returns whether nothing was.
        """
        with self._changed:
            if self._state == "running":
                self._state, self._reason = "closing", "the server is shutting down"
            self._changed.notify()
        if finish:
            self._thread.join(timeout)
        with self._changed:
            left = list(self._unfinished)
            if self._state == "closing":
                self._state = "closed"
            self._changed.notify()
        self._fail(left)
        self._thread.join(1.0)  # a step that is under way is not waited for any longer: the thread is a daemon
        return not left

    def _check(self) -> None:
        if self._state != "running":
            raise EngineStoppedError(self._reason)
        if len(self._unfinished) >= self.capacity:
            raise QueueFullError(
                f"{self.capacity} requests are waiting already; try again in a moment", retry_after=self._seconds_each()
            )

    def _seconds_each(self) -> float:
        """From one answer to the next, as it has been lately."""
        times = self._ended_at
        return min(60, math.ceil((time.monotonic() - times[0]) / len(times))) if times else 1

    def _forget(self, job: Job) -> None:
        with self._changed:
            self._dropped.append(job)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._take_in():
                outcomes = self._stepping.step()
                self.steps += 1
                for key, outcome in outcomes.items():
                    self._end(key, outcome)
                for job in self._streamed:
                    job.tell(*self._stepping.so_far(job))
        except BaseException as error:
            _log.exception("the engine broke down")
            with self._changed:
                self._state = "broken"
                self._reason = f"the engine broke down ({type(error).__name__}: {error}); restart the server"
                left = list(self._unfinished)
            self._fail(left)
        finally:
            with self._changed:
                if self._state == "closing":
                    self._state = "closed"

    def _take_in(self) -> bool:
        """Add what was submitted and drop what was cancelled; wait while there is nothing to do. False at the end."""
        while True:
            with self._changed:
                while self._state == "running" and not (self._arrived or self._dropped or len(self._stepping)):
                    self._changed.wait()
                arrived, self._arrived = self._arrived, deque()
                dropped, self._dropped = self._dropped, deque()
                state = self._state
            for job in arrived:
                self._add(job)
            for job in dropped:
                self._stepping.drop(job)
                self._release(job)
            if state == "closed":
                return False
            if len(self._stepping):
                return True
            if state != "running" and not self._unfinished:
                return False

    def _add(self, job: Job) -> None:
        if job.done():  # cancelled before it began
            return
        try:
            self._stepping.add(job, job.request)
        except InputError as error:
            self._end(job, error)
            return
        if job.is_streamed:
            self._streamed.add(job)

    def _end(self, key: Hashable, outcome: Outcome) -> None:
        if isinstance(key, Job):
            self._release(key)
            self._ended_at.append(time.monotonic())
            if isinstance(outcome, Completion):
                self.answered += 1
                self.tokens += len(outcome.ids)
            key.end(outcome)

    def _release(self, job: Job) -> None:
        self._streamed.discard(job)
        with self._changed:
            self._unfinished.discard(job)

    def _fail(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            self._unfinished.difference_update(jobs)
        for job in jobs:
            job.end(EngineStoppedError(self._reason))


class WholeAnswers:
    """A Stepping over an engine that only gives whole answers: `most` requests a step, each told of at its end."""

    def __init__(self, engine: Engine, *, most: int, check: Callable[[Request], None] = lambda request: None) -> None:
        self._engine = engine
        self._most = most
        self._check = check
        self._waiting: dict[Hashable, Request] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Hashable, request: Request) -> None:
        """Raises InputError where `check` does."""
        self._check(request)
        self._waiting[key] = request

    def drop(self, key: Hashable) -> None:
        self._waiting.pop(key, None)

    def step(self) -> dict[Hashable, Outcome]:
        """A batch is answered as a whole; where a request spoils it, each by itself."""
        keys = list(self._waiting)[: self._most]
        requests = [self._waiting.pop(key) for key in keys]
        try:
            return dict(zip(keys, self._engine.generate(requests), strict=True))
        except InputError as error:
            if len(keys) == 1:
                return {keys[0]: error}
        return {key: self._alone(request) for key, request in zip(keys, requests, strict=True)}

    def so_far(self, key: Hashable) -> tuple[Sequence[int], Sequence[float]]:
        return (), ()

    def _alone(self, request: Request) -> Outcome:
        try:
            return self._engine.generate([request])[0]
        except InputError as error:
            return error
