"""Recognizers in processes of their own: chunks out, outcomes back in order. A process that dies is replaced.

A chunk whose process died is done again. When that happens twice it is done in halves, down to the row that kills: three
times, and it is a failed row like any other. A recognizer that fails at every text of a chunk is made anew, in a new process;
where that one fails at them too, the job ends.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from nertune.errors import NertuneError
from nertune.extract.bulk.recognize import BulkRecognizer, Chunk, Outcome, recognize

__all__ = ["Factory", "WorkerError", "Workers"]

Factory = Callable[[], BulkRecognizer]
"""Makes a recognizer in the process that uses it; can be pickled."""

_DEATHS = 3  # of a row's process, after which the row is to blame
_STARTS = 3  # of processes that die before they are ready, one after the other
_FRUITLESS = 60  # deaths without anything done in between
_AHEAD = 3  # chunks held for each process: at work, waiting for it, done before their turn


class WorkerError(NertuneError):
    """A worker process failed in a way that is no row's fault. `exit_code` is that of what it met."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _Job:
    """Rows `start` to `stop` of a chunk, how often a process has died of them, and whether a recognizer failed at them all."""

    chunk: int
    start: int
    stop: int
    deaths: int = 0
    failed: bool = False


class _Open:
    """A chunk that is not yet given back."""

    def __init__(self, rows: Chunk) -> None:
        self.rows = rows
        self.outcomes: list[Outcome | None] = [None] * len(rows)
        self.missing = len(rows)

    def fill(self, start: int, outcomes: list[Outcome]) -> None:
        self.outcomes[start : start + len(outcomes)] = outcomes
        self.missing -= len(outcomes)


class _Worker:
    """A process, and the jobs that it was given, in its order."""

    def __init__(self, factory: Factory) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, factory), daemon=True)
        self.process.start()
        other.close()
        self.jobs: deque[_Job] = deque()
        self.ready = False

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


class Workers:
    """`count` processes, each with the recognizer that `factory` makes. Use it as a context manager.

    Raises WorkerError where a recognizer cannot be made, or fails in a way that is about no text.
    """

    def __init__(self, factory: Factory, count: int) -> None:
        self._factory = factory
        self._workers = [_Worker(factory) for _ in range(count)]
        self._jobs: deque[_Job] = deque()
        self._open: dict[int, _Open] = {}
        self._starts = self._fruitless = 0
        self._taken = self._given = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.end()

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there now."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def run(self, chunks: Iterable[Chunk]) -> Iterator[list[Outcome]]:
        """Outcomes of chunks in their order; of those that are not yet given back, three a process are held."""
        coming: Iterator[Chunk] = iter(chunks)
        ended = False
        while True:
            while not ended and len(self._open) < _AHEAD * len(self._workers):
                chunk = next(coming, None)
                ended = chunk is None
                if chunk is not None:
                    self._open[self._taken] = _Open(chunk)
                    self._jobs.append(_Job(self._taken, 0, len(chunk)))
                    self._taken += 1
            self._hand_out()
            while self._given in self._open and not self._open[self._given].missing:
                done = self._open.pop(self._given)
                self._given += 1
                yield [outcome for outcome in done.outcomes if outcome is not None]
            if ended and not self._open:
                return
            if ended or len(self._open) >= _AHEAD * len(self._workers):
                self._listen()

    def _hand_out(self) -> None:
        """One job to each that has none, then one to wait for each, so that none waits for us."""
        for most in (1, 2):
            for worker in self._workers:
                if self._jobs and len(worker.jobs) < most:
                    job = self._jobs.popleft()
                    worker.jobs.append(job)
                    with suppress(OSError):  # of a process that is gone, which is noticed when it is listened to
                        worker.pipe.send((job, self._open[job.chunk].rows[job.start : job.stop]))

    def _listen(self) -> None:
        pipes: list[Any] = [worker.pipe for worker in self._workers]
        heard = wait(pipes)
        for place, worker in enumerate(self._workers):
            if worker.pipe in heard:
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    self._replace(place)
                    continue
                self._take(place, message)

    def _take(self, place: int, message: tuple[str, Any]) -> None:
        kind, content = message
        worker = self._workers[place]
        if kind == "failed":
            raise WorkerError(content[0], exit_code=content[1])
        if kind == "broke":
            job = worker.jobs.popleft()
            if job.failed:
                raise WorkerError(content)
            worker.end()
            self._renew(place, replace(job, failed=True))
            return
        self._starts = 0
        worker.ready = True
        if kind == "done":
            self._fruitless = 0
            job = worker.jobs.popleft()
            self._open[job.chunk].fill(job.start, content)

    def _replace(self, place: int) -> None:
        """Another process for one that died; the job at which it was is done again, in halves if need be."""
        worker = self._workers[place]
        worker.process.join()
        status = worker.process.exitcode
        worker.pipe.close()
        self._fruitless += 1
        self._starts += not worker.ready
        if self._starts >= _STARTS or self._fruitless >= _FRUITLESS:
            when = "before it was ready" if self._starts >= _STARTS else "again and again"
            raise WorkerError(
                f"a worker process {_end(status)} {when}. If memory ran out, take fewer --workers; what is written is "
                "intact, and --resume goes on"
            )
        if worker.jobs and worker.ready:
            self._blame(worker.jobs.popleft(), status)
        self._renew(place)

    def _renew(self, place: int, *again: _Job) -> None:
        """Another process in the place of one that is gone. Its jobs, and those that are done again, go to whoever is free."""
        self._jobs.extendleft(reversed((*again, *self._workers[place].jobs)))
        self._workers[place] = _Worker(self._factory)

    def _blame(self, job: _Job, status: int | None) -> None:
        job = replace(job, deaths=job.deaths + 1)
        middle = (job.start + job.stop) // 2
        if middle > job.start and job.deaths >= 2:
            self._jobs.extendleft((replace(job, start=middle, deaths=1), replace(job, stop=middle, deaths=1)))
        elif job.deaths >= _DEATHS:
            source = self._open[job.chunk].rows[job.start]
            reason = f"the process that read it {_end(status)}, each of {_DEATHS} times"
            self._open[job.chunk].fill(job.start, [Outcome(source, None, reason)])
        else:
            self._jobs.appendleft(job)


def _end(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was killed by signal {-status}"
    return f"ended with exit code {status}"


def _work(pipe: Connection, factory: Factory) -> None:
    """A worker's whole life: make the recognizer, then do job after job until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the first process, which ends this one
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    jobs: queue.SimpleQueue[tuple[_Job, Chunk] | None] = queue.SimpleQueue()
    try:
        recognizer = factory()
        pipe.send(("ready", None))
        # Jobs are fetched in a thread: a process that sends one never waits for this one, which may be sending, too.
        threading.Thread(target=_fetch, args=(pipe, jobs), daemon=True).start()
        while (found := jobs.get()) is not None:
            try:
                outcomes = recognize(recognizer, found[1], lenient=True)
            except NertuneError:
                raise
            except Exception as error:
                pipe.send(("broke", _message(error)))
                return
            pipe.send(("done", outcomes))
    except BrokenPipeError:
        return
    except Exception as error:
        pipe.send(("failed", (_message(error), error.exit_code if isinstance(error, NertuneError) else 1)))


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, NertuneError) else f"{type(error).__name__}: {error}"


def _fetch(pipe: Connection, jobs: queue.SimpleQueue[tuple[_Job, Chunk] | None]) -> None:
    try:
        while True:
            jobs.put(pipe.recv())
    except (EOFError, OSError):
        jobs.put(None)


def _outlive_nobody() -> None:
    """End with the process that started this one, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
