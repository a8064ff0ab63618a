"""Engines that say what they are told to, step by step, for tests of what stands in front of an engine.

test_stepping.py holds each of them to the contract that the real one keeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

from nertune.errors import InputError
from nertune.generate import Completion, Request
from nertune.prompt import Renderer

WAIT = 20.0


class Counting:
    """A Stepping whose answer to prompt (n,) is n, n+1, …; `gate` holds a step back until it is released."""

    def __init__(self, slots: int = 4) -> None:
        self.slots = slots
        self.waiting: list[tuple[Hashable, Request]] = []
        self.active: dict[Hashable, tuple[Request, list[int]]] = {}
        self.refused: set[int] = set()  # when they are added
        self.unfit: set[int] = set()  # at their first step
        self.failing: set[int] = set()  # likewise, in a way that nobody foresaw
        self.poison: set[int] = set()  # with one of these every step fails
        self.broken = False
        self.gate: threading.Semaphore | None = None
        self.steps = 0
        self.in_step = threading.Event()
        self.threads: set[int] = set()

    def __len__(self) -> int:
        return len(self.waiting) + len(self.active)

    def add(self, key: Hashable, request: Request) -> None:
        if request.prompt_ids[0] in self.refused:
            raise InputError("refused")
        self.waiting.append((key, request))

    def drop(self, key: Hashable) -> None:
        self.waiting = [item for item in self.waiting if item[0] != key]
        self.active.pop(key, None)

    def step(self) -> dict[Hashable, Completion | Exception]:
        self.in_step.set()
        self.threads.add(threading.get_ident())
        if self.gate:
            assert self.gate.acquire(timeout=WAIT)
        if self.broken:
            raise RuntimeError("no memory")
        self.steps += 1
        while self.waiting and len(self.active) < self.slots:
            key, request = self.waiting.pop(0)
            self.active[key] = (request, [])
        if any(request.prompt_ids[0] in self.poison for request, _ in self.active.values()):
            raise RuntimeError("no memory")
        outcomes: dict[Hashable, Completion | Exception] = {}
        for key, (request, ids) in list(self.active.items()):
            ids.append(request.prompt_ids[0] + len(ids))
            if request.prompt_ids[0] in self.unfit:
                outcomes[key] = InputError("its grammar")
            elif request.prompt_ids[0] in self.failing:
                outcomes[key] = ZeroDivisionError("of one request")
            elif len(ids) == request.max_new_tokens:
                outcomes[key] = Completion(tuple(ids), "length", (-0.5,) * len(ids))
            if key in outcomes:
                del self.active[key]
        return outcomes

    def so_far(self, key: Hashable) -> tuple[list[int], list[float]]:
        ids = self.active[key][1] if key in self.active else []
        return ids, [-0.5] * len(ids)


class Scripted:
    """A Stepping that answers with `say(prompt)`, a token a step. `gate`: a permit a step, where there is one."""

    def __init__(self, renderer: Renderer, say: Callable[[str], str]) -> None:
        self.renderer, self.say = renderer, say
        self.active: dict[Hashable, tuple[Request, list[int], list[int]]] = {}
        self.requests: list[Request] = []
        self.gate: threading.Semaphore | None = None
        self.failure: BaseException | None = None
        self.most_at_once = 0

    def __len__(self) -> int:
        return len(self.active)

    def add(self, key: Hashable, request: Request) -> None:
        self.requests.append(request)
        prompt = self.renderer.tokenizer.decode(list(request.prompt_ids))
        if "refuse" in prompt:
            raise InputError("the engine refuses it")
        self.active[key] = (request, self.renderer.answer_ids(self.say(prompt)), [])
        self.most_at_once = max(self.most_at_once, len(self.active))

    def drop(self, key: Hashable) -> None:
        self.active.pop(key, None)

    def step(self) -> dict[Hashable, Any]:
        if self.gate:
            self.gate.acquire(timeout=20)
        if self.failure:
            raise self.failure
        outcomes: dict[Hashable, Any] = {}
        for key, (request, answer, ids) in list(self.active.items()):
            room = len(ids) < request.max_new_tokens
            if room and len(ids) < len(answer):
                ids.append(answer[len(ids)])
            elif not room or len(ids) == len(answer):
                stop = "end" if room else "length"
                logprobs = tuple(-0.25 for _ in range(len(ids) + (stop == "end")))
                outcomes[key] = Completion(tuple(ids), stop, logprobs)
                del self.active[key]
        return outcomes

    def so_far(self, key: Hashable) -> tuple[list[int], list[float]]:
        ids = self.active[key][2] if key in self.active else []
        return ids, [-0.25] * len(ids)


class Brief:
    """An engine that gives every request the same answer, at its second step."""

    def __init__(self, answer_ids: list[int]) -> None:
        self.answer_ids = answer_ids
        self.waiting: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, key: Hashable, request: Any) -> None:
        self.waiting[key] = request

    def drop(self, key: Hashable) -> None:
        self.waiting.pop(key, None)

    def so_far(self, key: Hashable) -> tuple[list[int], list[float]]:
        return [], []

    def step(self) -> dict[Hashable, Completion]:
        outcomes = {}
        for key, request in self.waiting.items():
            ids = tuple(self.answer_ids[: request.max_new_tokens])
            outcomes[key] = Completion(ids, "end", (-0.5,) * (len(ids) + 1))
        self.waiting = {}
        return outcomes
