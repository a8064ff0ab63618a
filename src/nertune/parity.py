"""`nertune parity`: whether a server answers as the run does here, and where the two part.

Three things are compared for each text, without a grammar on either side: the token ids of the prompt, here and as the
server's own chat template makes them of the messages; the generated ids; the grounded entities. nertune itself sends the
ids of the prompt to vLLM, so a prompt that differs there concerns other clients of that server, which send messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from nertune.assemble import connect, load
from nertune.extract import Recognizer
from nertune.generate import Completion, Engine, Request
from nertune.generate.endpoint import Endpoint
from nertune.generate.remote import RemoteEngine
from nertune.prompt import Renderer, TokenPlaces
from nertune.schema import Document, Prediction

__all__ = ["Parity", "Parting", "compare", "compare_prompts", "parity"]

_By = Literal["ids", "number"] | None
Report = Callable[[str, int, int], None]
_BEFORE, _AFTER = 8, 4  # tokens shown around a place


@dataclass(frozen=True, slots=True)
class Parting:
    """Where one text parts: `text` counts from 1, `token` from 0; it is None where only numbers or entities are known.

    `context`: what both have before; `local` and `served`: what each has there.
    `chance`: the server's probability of its own token, where it tells; near one half the two were nearly equal.
    """

    text: int
    what: Literal["prompt", "answer", "entities"]
    token: int | None
    context: str
    local: str
    served: str
    chance: float | None = None

    def lines(self) -> list[str]:
        """For people to read."""
        where = "" if self.token is None else f" at token {self.token}"
        after = f", after {self.context!r}" if self.context else ""
        chance = "" if self.chance is None else f" (probability {self.chance:.3f})"
        return [
            f"text {self.text}: {self.what} differs{where}{after}",
            f"  here:   {self.local}",
            f"  served: {self.served}{chance}",
        ]


@dataclass(frozen=True, slots=True)
class Parity:
    """What was `compared` and where it parts. `prompts_by`: token ids, or only their number; None where neither is told."""

    documents: int
    prompts_by: _By
    partings: tuple[Parting, ...] = field(default=())
    compared: tuple[Literal["prompt", "answer", "entities"], ...] = ("prompt", "answer", "entities")

    @property
    def equal(self) -> bool:
        return not self.partings

    def differing(self, what: str) -> int:
        """How many texts differ in prompt, answer or entities."""
        return len({parting.text for parting in self.partings if parting.what == what})

    def to_json(self) -> dict[str, Any]:
        """One JSON value: `equal`, `documents`, `prompts_by`, `differing` by what, `partings`."""
        return {
            "equal": self.equal,
            "documents": self.documents,
            "prompts_by": self.prompts_by,
            "differing": {what: self.differing(what) for what in ("prompt", "answer", "entities")},
            "partings": [asdict(parting) for parting in self.partings],
        }

    def lines(self) -> list[str]:
        """For people to read: every parting, then the summary."""
        how = {"ids": "", "number": " (the server tells only how many tokens)", None: " not compared: it does not tell"}
        out = [line for parting in self.partings for line in parting.lines()]
        names = {"prompt": "prompts", "answer": "answers", "entities": "entities"}
        for what, name in ((what, names[what]) for what in self.compared):
            note = how[self.prompts_by] if what == "prompt" else ""
            counted = "" if note and self.prompts_by is None else f" {self.documents - self.differing(what)} equal, "
            out.append(f"{name + ':':9}{counted}{f'{self.differing(what)} differ' if counted else ''}{note}")
        if self.compared == ("prompt",):
            return out
        return [*out, "equal" if self.equal else "the served model does not answer as the run does here"]


def parity(
    run: str | Path,
    address: str,
    documents: Sequence[Document],
    *,
    task: str | None = None,
    device: str | None = None,
    batch_size: int = 32,
    max_new_tokens: int | None = None,
    report: Report | None = None,
    key: str | None = None,
) -> Parity:
    """Load `run` here, ask the server at `address`, and compare them on the texts of the documents.

    `report(what, done, total)` is told how far it is. `key`: as in `connect`. Raises what `load` and `connect` raise.
    """
    served = connect(address, run=run, task=task, max_new_tokens=max_new_tokens, key=key)
    local = load(run, task=task, device=device, batch_size=batch_size, max_new_tokens=max_new_tokens, report=report)
    return compare(local, served, [document.text for document in documents], report=report)


def compare(local: Recognizer, served: Recognizer, texts: Sequence[str], *, report: Report | None = None) -> Parity:
    """Compare two recognizers of one prompt on the local one's windows, neither constrained; `served` has a RemoteEngine."""

    def tell(what: str) -> Callable[[int], None]:
        return lambda done: report(what, done, len(texts)) if report else None

    endpoint = cast(RemoteEngine, served.engine).endpoint
    here, there = _Recording(local.engine), _Recording(served.engine)
    own = replace(local, engine=here, constrained=False)
    other = replace(served, engine=there, constrained=False, window=local.window)
    theirs = other.extract_many(texts, done=tell("answers from the server"))
    numbers: list[int] = []  # of which text each request is a window
    ours = own.extract_many(texts, done=tell("answers from here"), trace=lambda trace: numbers.append(trace.text))
    partings: list[Parting] = []
    by: _By = None
    asked = zip(numbers, here.requests, here.answers, there.answers, strict=True)
    for number, request, answer, other_answer in asked:
        found, by = _prompt_partings(local.renderer, endpoint, number, request)
        partings += found
        partings += _answer_partings(local.renderer, number, answer, other_answer)
        tell("prompts of the server")(number)
    for number, (prediction, other_prediction) in enumerate(zip(ours, theirs, strict=True), 1):
        partings += _entity_partings(number, prediction, other_prediction)
    return Parity(len(texts), by, tuple(sorted(partings, key=lambda parting: parting.text)))


def compare_prompts(served: Recognizer, texts: Sequence[str]) -> Parity:
    """Compare the prompts alone: what the run's own renderer makes of the texts, and what the server's template does.

    `served` has a RemoteEngine. Nothing is generated, and no second model is needed.
    """
    endpoint = cast(RemoteEngine, served.engine).endpoint
    partings: list[Parting] = []
    by: _By = None
    for number, text in enumerate(texts, 1):
        for request in served.prepare([text]).requests:
            found, by = _prompt_partings(served.renderer, endpoint, number, request)
            partings += found
    return Parity(len(texts), by, tuple(partings), ("prompt",))


class _Recording:
    """An engine that remembers what passed through it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: list[Request] = []
        self.answers: list[Completion] = []

    def generate(self, requests: Sequence[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        answers = self._engine.generate(requests, done=done)
        self.requests += requests
        self.answers += answers
        return answers


def _prompt_partings(
    renderer: Renderer, endpoint: Endpoint, number: int, request: Request
) -> tuple[list[Parting], _By]:
    """Where a prompt parts from the server's, and by what that was told."""
    ours, ids = request.prompt_ids, endpoint.tokenize(request.messages)
    if ids is not None:
        return _parting(renderer, number, "prompt", ours, ids), "ids"
    count = endpoint.count(request.messages)
    if count is None:
        return [], None
    differing = [Parting(number, "prompt", None, "", f"{len(ours)} tokens", f"{count} tokens")]
    return differing if count != len(ours) else [], "number"


def _answer_partings(renderer: Renderer, number: int, ours: Completion, other: Completion) -> list[Parting]:
    if other.text is not None:
        words = renderer.decode(ours.ids)
        return [] if words == other.text else [Parting(number, "answer", None, "", words, other.text)]
    found = _parting(renderer, number, "answer", ours.ids, other.ids, other.logprobs)
    if not found and ours.stop != other.stop:
        found = [Parting(number, "answer", len(ours.ids), "", f"stop: {ours.stop}", f"stop: {other.stop}")]
    return found


def _entity_partings(number: int, ours: Prediction, other: Prediction) -> list[Parting]:
    here, there = ({(e.label, e.start, e.end, e.text) for e in side.entities} for side in (ours, other))
    if here == there:
        return []

    def shown(only: set[tuple[str, int, int, str]]) -> str:
        return (
            ", ".join(f"{text} {label} [{start}, {end})" for label, start, end, text in sorted(only)) or "nothing more"
        )

    return [Parting(number, "entities", None, "", shown(here - there), shown(there - here))]


def _parting(
    renderer: Renderer,
    number: int,
    what: Literal["prompt", "answer"],
    ours: Sequence[int],
    others: Sequence[int],
    logprobs: Sequence[float] = (),
) -> list[Parting]:
    """The first token that differs, if any."""
    place = next((p for p, (a, b) in enumerate(zip(ours, others, strict=False)) if a != b), min(len(ours), len(others)))
    if place == len(ours) == len(others):
        return []

    places = TokenPlaces(renderer.tokenizer)
    # The words begin and end with whole characters, which tokens may share.
    start = places.boundary(ours, place)
    first = places.boundary(ours, max(0, start - _BEFORE))

    def words(ids: Sequence[int]) -> str:
        return str(renderer.tokenizer.decode(list(ids), skip_special_tokens=False))

    def shown(ids: Sequence[int]) -> str:
        some = list(ids[place : place + _AFTER])
        end = places.boundary(ids, place + len(some))
        return f"{words(ids[start : max(end, place + 1)])!r} {some}" if some else "the end"

    chance = math.exp(logprobs[place]) if place < len(logprobs) else None
    return [Parting(number, what, place, words(ours[first:start]), shown(ours), shown(others), chance)]
