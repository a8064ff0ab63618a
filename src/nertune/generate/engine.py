"""What the rest of nertune asks of anything that generates: prompts as token ids in, answers as token ids out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nertune.schema import StopReason

__all__ = ["Completion", "Engine", "Outcome", "Request", "ScriptedEngine", "Stepping"]


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt. `prompt_ids`: token ids; generation ends at a token of `stop_ids` or after `max_new_tokens`.

    `shared_prefix`: how many leading tokens all prompts of the same task have in common, where that is known; an engine
    may compute them once.
    `grammar`: the answer must be in this language, a Lark grammar in llguidance's dialect; None leaves the model free.
    `foreign`: the grammar is of somebody else's making, and is kept from taking long.
    `draft`: from the answer so far, the text that most likely follows; a guess that an engine may verify, nothing more.
    `messages`: the same prompt as pairs of role and content, for servers that write the turns themselves.
    `schema`: a JSON schema of the answers, for servers that know no grammar; None leaves the model free there.
    `adapter`: who answers, of the adapters that an engine holds by name; None is its model as it is.
    """

    prompt_ids: tuple[int, ...]
    stop_ids: frozenset[int]
    max_new_tokens: int
    shared_prefix: int = 0
    grammar: str | None = None
    draft: Callable[[str], str] | None = field(default=None, compare=False)
    messages: tuple[tuple[str, str], ...] = ()
    schema: Mapping[str, Any] | None = field(default=None, compare=False)
    adapter: str | None = None
    foreign: bool = False

    @property
    def prefix_length(self) -> int:
        """How many tokens an engine may take from others' prompts: one at least is left, after which the answer begins."""
        return min(self.shared_prefix, len(self.prompt_ids) - 1)


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request: new token ids without the stop token, and why it ended.

    `logprobs`: natural logarithm of each token's probability among those that the grammar allowed at its place, one for
    each of `ids` and one more for the stop token where there is one; empty where the engine does not tell.
    `text`: the answer in words, from servers that give no token ids; `ids` is empty then. None everywhere else.
    """

    ids: tuple[int, ...]
    stop: StopReason
    logprobs: tuple[float, ...] = field(default=(), compare=False)
    text: str | None = None


class Engine(Protocol):
    """Generates greedily: the same request gives the same completion, whatever it is batched with."""

    def generate(self, requests: Sequence[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        """Completions in the order of the requests. `done(n)` is told how many have ended so far."""
        ...


Outcome = Completion | Exception
"""What comes of a request: its answer, or why it has none; InputError where the request is to blame."""


class Stepping(Protocol):
    """Requests decoded together, of which any may come and go between two steps. For one thread at a time.

    A request is known by its `key`.
    """

    def __len__(self) -> int:
        """Requests of which nothing has come yet."""
        ...

    def add(self, key: Hashable, request: Request) -> None:
        """Raises InputError for a request that cannot be answered."""
        ...

    def drop(self, key: Hashable) -> None:
        """Forget a request, if it is there: nobody waits for its answer any more."""
        ...

    def step(self) -> dict[Hashable, Outcome]:
        """Call the model once; returns what has come of requests, which are forgotten."""
        ...

    def so_far(self, key: Hashable) -> tuple[Sequence[int], Sequence[float]]:
        """The tokens of an unfinished answer, and their logprobs where they are known; both only grow."""
        ...


class ScriptedEngine:
    """An engine that gives prepared answers in order: for tests of everything that stands on an engine."""

    def __init__(self, answers: Iterable[Completion]) -> None:
        self._answers = iter(answers)
        self.requests: list[Request] = []

    def generate(self, requests: Sequence[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        self.requests += requests
        completions = [next(self._answers) for _ in requests]
        if done:
            done(len(completions))
        return completions
