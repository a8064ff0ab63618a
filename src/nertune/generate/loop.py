"""The engine's own thread: requests of many threads come in at any time and join the batch that is being decoded.

The thread calls the model again and again; between two calls it lets in what was submitted, drops what was cancelled and
hands out what has come. Whoever submits gets a Job at once, a `concurrent.futures.Future` that `asyncio` can await.

An engine that fails is built anew. The requests that it held fail, those that were still waiting are answered by the new one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import Literal

from nertune.errors import (
    EngineFailedError,
    EngineStoppedError,
    InputError,
    NertuneError,
    NotFiniteError,
    QueueFullError,
)
from nertune.generate.engine import Completion, Engine, Outcome, Request, Stepping

__all__ = ["EngineLoop", "Job", "Progress", "State", "WholeAnswers"]

Progress = Callable[[Sequence[int], Sequence[float]], None]
"""Told of new tokens of an answer and their logprobs; tokens once each, in order, before the job's result is there."""

State = Literal["running", "recovering", "closing", "closed", "broken"]
_log = logging.getLogger(__name__)
_AT_ONCE = 3  # failures without an answer in between up to which the engine is built anew without a pause
_LONGEST_PAUSE = 60.0  # seconds
_REMEMBERED = 32  # answers from whose times the speed is estimated


class Job(Future[Completion]):
    """An accepted request. `result()` is its Completion, or raises InputError, EngineFailedError or EngineStoppedError.

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

    def end(self, outcome: Outcome) -> None:
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
    """Owns a Stepping: nothing else may call it.

    Args:
        build: makes the Stepping, and another one after a failure. Called in the engine's thread from the second time on.
        probe: a request that a new Stepping has to answer after a failure, before others are accepted again.
        capacity: requests that may be accepted and unfinished at a time.

    `steps`, `answered`, `tokens` and `failures` count from the beginning: calls of the model, answers, tokens of these,
    failures of the engine.
    """

    def __init__(self, build: Callable[[], Stepping], *, probe: Request | None = None, capacity: int = 1024) -> None:
        self.capacity = capacity
        self._build = build
        self._probe = probe
        self._stepping = build()
        self._changed = threading.Condition()
        self._state: State = "running"
        self._reason = ""
        self._unfinished: dict[Job, None] = {}  # in the order in which they came
        self._arrived: deque[Job] = deque()
        self._dropped: deque[Job] = deque()
        self._held: set[Job] = set()  # by the Stepping; the thread's own, as the next two are
        self._streamed: set[Job] = set()
        self._in_a_row = 0  # failures without an answer in between
        self._ended_at: deque[float] = deque(maxlen=_REMEMBERED)
        self.steps = self.answered = self.tokens = self.failures = 0
        self._thread = threading.Thread(target=self._run, name="nertune-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, *, on_progress: Progress | None = None) -> Job:
        """Accept a request. `on_progress` is called in the engine's thread: it must be quick.

        Raises QueueFullError, and EngineStoppedError where nothing is accepted any more.
        """
        job = Job(request, on_progress, self._forget)
        with self._changed:
            self._check()
            self._unfinished[job] = None
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
            if self._state in ("running", "recovering"):
                self._state, self._reason = "closing", "the server is shutting down"
            self._changed.notify()
        if finish:
            self._thread.join(timeout)
        with self._changed:
            left = list(self._unfinished)
            if self._state == "closing":
                self._state = "closed"
            self._changed.notify()
        self._fail(left, self._stopped)
        self._thread.join(1.0)  # a step that is under way is not waited for any longer: the thread is a daemon
        return not left

    def _check(self) -> None:
        at_once = self._state == "recovering" and self._in_a_row <= _AT_ONCE  # what comes now is not kept waiting
        if self._state != "running" and not at_once:
            raise self._stopped()
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
            while self._fails() and self._recover():
                pass
        finally:
            with self._changed:
                if self._state == "closing":
                    self._state = "closed"

    def _fails(self) -> bool:
        """Work until the end, or until the engine fails; returns whether it did, and what it held has failed."""
        try:
            self._work()
        except BaseException as error:  # also what is no Exception, such as a panic of a library written in Rust
            incident = self._log_failure(error, "the engine failed and is being rebuilt")
            held, self._held = self._held, set()
            self._streamed.clear()
            self._in_a_row += 1
            with self._changed:
                if self._state == "running":
                    self._state = "recovering"
                    self._reason = "the engine failed and is being rebuilt; try again in a moment"
            self._fail(held, partial(EngineFailedError, incident))
            return True
        return False

    def _work(self) -> None:
        while self._take_in():
            outcomes = self._stepping.step()
            self.steps += 1
            for key, outcome in outcomes.items():
                self._end(key, outcome)
            for job in self._streamed:
                job.tell(*self._stepping.so_far(job))

    def _recover(self) -> bool:
        """Build another engine, again and again until one works.

        From the fourth failure on without an answer in between, the probe's among them, there is a pause before, of 1
        second, 2, 4, …, a minute at most, during which nothing is accepted. Returns False where the loop was closed.
        """
        del self._stepping  # what it takes is free before the next one takes as much
        while True:
            if self._in_a_row > _AT_ONCE:
                self._fail(list(self._unfinished), self._stopped)
                pause = min(2.0 ** (self._in_a_row - _AT_ONCE - 1), _LONGEST_PAUSE)
                with self._changed:
                    self._changed.wait_for(lambda: self._state != "recovering", pause)
            if self._state == "closed" or (self._state == "closing" and not self._unfinished):
                return False
            try:
                stepping = self._build()
                self._try(stepping)
            except BaseException as error:
                self._log_failure(error, "the engine could not be rebuilt")
                self._in_a_row += 1
                continue
            break
        self._stepping = stepping
        with self._changed:
            for job in [job for job in self._unfinished if job.done()]:  # cancelled, and perhaps not dropped any more
                del self._unfinished[job]
            self._arrived = deque(self._unfinished)
            if self._state == "recovering":
                self._state = "running"
        return True

    def _log_failure(self, error: BaseException, said: str) -> str:
        """Count a failure and log it with its traceback; returns the id under which it stands there."""
        self.failures += 1
        incident = EngineFailedError().incident
        _log.error(f"{said}; incident {incident}", exc_info=error)
        return incident

    def _try(self, stepping: Stepping) -> None:
        """Let a new engine answer the probe. Raises what it does."""
        if self._probe is None:
            return
        stepping.add("probe", self._probe)
        outcome = None
        while outcome is None:
            outcome = stepping.step().get("probe")
        if isinstance(outcome, Exception):
            raise outcome
        self._in_a_row = 0

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
                if job in self._held:
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
        self._held.add(job)
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
                self._in_a_row = 0
                self.answered += 1
                self.tokens += len(outcome.ids)
            elif not isinstance(outcome, NertuneError):
                outcome = EngineFailedError(self._log_failure(outcome, "a request failed"))
            key.end(outcome)

    def _release(self, job: Job) -> None:
        self._held.discard(job)
        self._streamed.discard(job)
        with self._changed:
            self._unfinished.pop(job, None)

    def _stopped(self) -> EngineStoppedError:
        return EngineStoppedError(self._reason)

    def _fail(self, jobs: Iterable[Job], error: Callable[[], Exception]) -> None:
        """End jobs, each with an error of its own: they are raised in different threads."""
        jobs = list(jobs)
        with self._changed:
            for job in jobs:
                self._unfinished.pop(job, None)
        for job in jobs:
            job.end(error())


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
        except (InputError, NotFiniteError) as error:
            if len(keys) == 1:
                return {keys[0]: error}
        return {key: self._alone(request) for key, request in zip(keys, requests, strict=True)}

    def so_far(self, key: Hashable) -> tuple[Sequence[int], Sequence[float]]:
        return (), ()

    def _alone(self, request: Request) -> Outcome:
        try:
            return self._engine.generate([request])[0]
        except (InputError, NotFiniteError) as error:
            return error
