"""Requests answered by threads, each of which waits for one answer at a time: for an engine that is a server of its own.

The server behind makes the batch. What stands on an `EngineLoop` can stand on an `AnswerPool` as well: `Backend` is what
the two have in common.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from nertune.errors import EndpointError, EngineFailedError, EngineStoppedError, NertuneError, QueueFullError
from nertune.generate.engine import Completion, Request
from nertune.generate.loop import Job, Progress, State

__all__ = ["AnswerPool", "Backend"]

_log = logging.getLogger(__name__)
_REMEMBERED = 32  # answers from whose times the speed is estimated


class Backend(Protocol):
    """What answers the requests of many clients. The methods may be called from any thread."""

    capacity: int

    def submit(self, request: Request, *, on_progress: Progress | None = None) -> Job:
        """Accept a request. Raises QueueFullError, and EngineStoppedError where nothing is accepted any more."""
        ...

    def check(self) -> None:
        """Raise what `submit` would raise now: to refuse before any work is done."""
        ...

    @property
    def state(self) -> State:
        """Whether requests are accepted: only while it is `running`."""
        ...

    @property
    def unfinished(self) -> int:
        """Requests that are accepted and not answered yet."""
        ...


class AnswerPool:
    """A Backend over `answer`, which is called from `threads` threads at once and waits.

    `capacity`: requests that may be accepted and unfinished at a time, the places that `place` gives out among them.
    `answered`, `tokens` and `failures` count from the beginning: answers, their tokens, and unforeseen failures of `answer`,
    whose requests end with EngineFailedError. A job that is cancelled gives its place up at
    once; an answer that is under way is waited for by its thread, and thrown away.
    """

    def __init__(self, answer: Callable[[Request], Completion], *, threads: int = 64, capacity: int = 1024) -> None:
        self.capacity = capacity
        self._answer = answer
        self._most = threads
        self._changed = threading.Condition()
        self._state: State = "running"
        self._reason = ""
        self._unfinished: set[Job] = set()
        self._waiting: deque[Job] = deque()
        self._places = self._threads = self._idle = 0
        self._ended_at: deque[float] = deque(maxlen=_REMEMBERED)
        self.answered = self.tokens = self.failures = 0

    def submit(self, request: Request, *, on_progress: Progress | None = None) -> Job:
        """Accept a request; `on_progress` is told of the whole answer. Raises QueueFullError, EngineStoppedError."""
        job = Job(request, on_progress, self._forget)
        with self._changed:
            self._check()
            self._unfinished.add(job)
            self._waiting.append(job)
            if self._idle < len(self._waiting) and self._threads < self._most:
                self._start_thread(job)
            self._changed.notify()
        return job

    def _start_thread(self, job: Job) -> None:
        """One more. Where the system gives none the others must do; without any, the job is not accepted."""
        try:
            # A daemon: a program that ends does not wait for answers that nobody will read.
            threading.Thread(target=self._work, name="nertune-asking", daemon=True).start()
            self._threads += 1
        except RuntimeError:
            if not self._threads:
                self._unfinished.discard(job)
                self._waiting.remove(job)
                raise

    def check(self) -> None:
        """Raise what `submit` would raise now."""
        with self._changed:
            self._check()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for what is answered in another way, and counts all the same. Raises QueueFullError, EngineStoppedError."""
        with self._changed:
            self._check()
            self._places += 1
        try:
            yield
        finally:
            with self._changed:
                self._places -= 1
                self._ended_at.append(time.monotonic())

    @property
    def state(self) -> State:
        return self._state

    @property
    def unfinished(self) -> int:
        return len(self._unfinished) + self._places

    def close(self, reason: str = "the server is shutting down", *, broken: bool = False) -> None:
        """Accept nothing more; what is unfinished fails with EngineStoppedError. `broken`: what is behind is gone."""
        with self._changed:
            if self._state == "running":
                self._state, self._reason = ("broken" if broken else "closed"), reason
            left = list(self._unfinished)
            self._unfinished.clear()
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            job.end(EngineStoppedError(self._reason))

    def _check(self) -> None:
        if self._state != "running":
            raise EngineStoppedError(self._reason)
        if self.unfinished >= self.capacity:
            times = self._ended_at
            each = min(60, math.ceil((time.monotonic() - times[0]) / len(times))) if times else 1
            raise QueueFullError(
                f"{self.capacity} requests are waiting already; try again in a moment", retry_after=each
            )

    def _forget(self, job: Job) -> None:
        with self._changed:
            self._unfinished.discard(job)
            if job in self._waiting:
                self._waiting.remove(job)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job.done():  # cancelled before its turn
                continue
            outcome: Completion | Exception
            try:
                outcome = self._answer(job.request)
            except NertuneError as error:
                outcome = error
                if isinstance(error, EndpointError):  # its own words may quote a text
                    cause = error.__cause__ or error
                    status = f" {cause.status_code}" if hasattr(cause, "status_code") else ""
                    _log.warning(f"the server behind: {type(cause).__name__}{status}")
            except BaseException as error:  # the thread goes on: the next request is another one
                outcome = EngineFailedError()
                self.failures += 1
                _log.error(f"an answer failed; incident {outcome.incident}", exc_info=error)
            with self._changed:
                self._unfinished.discard(job)
                self._ended_at.append(time.monotonic())
                if isinstance(outcome, Completion):
                    self.answered += 1
                    self.tokens += len(outcome.ids)
            job.end(outcome)

    def _next(self) -> Job | None:
        """Wait for a job; None at the end."""
        with self._changed:
            self._idle += 1
            while self._state == "running" and not self._waiting:
                self._changed.wait()
            self._idle -= 1
            return self._waiting.popleft() if self._state == "running" else None
