"""A server kept busy: requests go out as soon as one of so many threads is free, answers come back as they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeGuard

from nertune.errors import InputError, NertuneError
from nertune.generate.engine import Completion, Request

__all__ = ["RemoteAsking"]


class RemoteAsking:
    """Requests that a server is answering. `ask`: sends one and waits for its answer, from several threads at once."""

    def __init__(self, ask: Callable[[Request], Completion], at_once: int) -> None:
        self._ask = ask
        self._at_once = at_once
        self._waiting: queue.SimpleQueue[tuple[Any, Request] | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[tuple[Any, Completion | BaseException]] = queue.SimpleQueue()
        self._unanswered = 0
        self._threads = 0
        self._closed = False

    def __len__(self) -> int:
        """Requests that have no answer yet."""
        return self._unanswered

    def add(self, key: Any, request: Request) -> None:
        """Send a request when there is room for it."""
        self._unanswered += 1
        self._waiting.put((key, request))
        if self._threads < min(self._at_once, self._unanswered):
            self._threads += 1
            # A daemon: an interrupted program does not wait for answers that nobody will read.
            threading.Thread(target=self._work, daemon=True).start()

    def step(self) -> dict[Any, Completion | Exception]:
        """Wait for an answer, and take all that are there; for a request that cannot be answered, why.

        Raises the error where the server itself failed or refused; nothing more is sent then.
        """
        found: dict[Any, Completion | Exception] = {}
        while self._unanswered and (not found or not self._answered.empty()):
            key, outcome = self._answered.get()
            self._unanswered -= 1
            if isinstance(outcome, BaseException) and not _is_of_one_request(outcome):
                self.close()
                raise outcome
            found[key] = outcome
        return found

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        for _ in range(self._threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None and not self._closed:
            key, request = item
            try:
                self._answered.put((key, self._ask(request)))
            except BaseException as error:
                self._answered.put((key, error))


def _is_of_one_request(error: BaseException) -> TypeGuard[Exception]:
    """Whether an error is about a request, and not about the server or the program."""
    return isinstance(error, Exception) and (type(error) is InputError or not isinstance(error, NertuneError))
