"""A window that slides over the rows, for engines that take requests at any time, such as a server: none waits for a chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nertune.extract.bulk.recognize import Outcome, refused, told
from nertune.extract.recognizer import Prepared, Recognizer
from nertune.generate import Completion, Request
from nertune.schema import SourceText

__all__ = ["Asking", "SteadyEngine", "recognize_steadily"]

# At most between the first row that is not answered and the last one that was read.
_ROWS = 1024
_CHARACTERS = 4 << 20


class Asking(Protocol):
    """Requests that are being answered: add them at any time, and step until none is left."""

    def __len__(self) -> int:
        """Requests that have no answer yet."""
        ...

    def add(self, key: Any, request: Request) -> None:
        """Raises InputError for a request that cannot be answered."""
        ...

    def step(self) -> Mapping[Any, Completion | Exception]:
        """Wait for something to happen; the answers that came, or why there is none."""
        ...

    def close(self) -> None:
        """Answer nothing more."""
        ...


class SteadyEngine(Protocol):
    """An engine that can be kept busy. `at_once`: requests that it answers together."""

    @property
    def at_once(self) -> int: ...

    def asking(self) -> Asking:
        """A new, empty one."""
        ...


@dataclass(slots=True)
class _Row:
    source: SourceText
    prepared: Prepared | None = None
    answers: dict[int, Completion] = field(default_factory=dict)
    outcome: Outcome | None = None

    def settle(self, recognizer: Recognizer) -> None:
        """Read the answers when the last one has come."""
        if self.outcome is None and self.prepared and len(self.answers) == len(self.prepared.requests):
            try:
                answers = [self.answers[part] for part in range(len(self.answers))]
                (prediction,) = recognizer.read(self.prepared, answers)
                self.outcome = Outcome(self.source, replace(prediction, id=self.source.id))
            except Exception as error:  # of this text, whatever it is
                self.fail(error)
            self.prepared, self.answers = None, {}

    def fail(self, error: Exception) -> None:
        self.outcome = Outcome(self.source, None, told(error))


def recognize_steadily(
    recognizer: Recognizer, engine: SteadyEngine, rows: Iterable[SourceText], *, ahead: int = _ROWS
) -> Generator[list[Outcome], None, None]:
    """Outcomes in the order of the rows, as they come; at most `ahead` rows are held. Raises what the engine does."""
    asking = engine.asking()
    try:
        yield from _slide(recognizer, asking, engine.at_once, iter(rows), ahead)
    finally:
        asking.close()


def _slide(
    recognizer: Recognizer, asking: Asking, at_once: int, coming: Iterator[SourceText], ahead: int
) -> Iterator[list[Outcome]]:
    held: deque[_Row] = deque()
    asked: dict[tuple[int, int], _Row] = {}
    number, characters, ended = 0, 0, False
    while True:
        while not ended and len(held) < ahead and characters < _CHARACTERS and len(asking) < 2 * at_once:
            source = next(coming, None)
            ended = source is None
            if source is not None:
                number += 1
                characters += len(source.text)
                held.append(_Row(source))
                _ask(recognizer, asking, asked, held[-1], number)
        if len(asking):
            for key, answer in asking.step().items():
                row = asked.pop(key)
                if isinstance(answer, Exception):
                    row.fail(answer)
                elif row.outcome is None:
                    row.answers[key[1]] = answer
                    row.settle(recognizer)
        ready = []
        while held and (outcome := held[0].outcome) is not None:
            ready.append(outcome)
            characters -= len(outcome.source.text)
            held.popleft()
        if ready:
            yield ready
        if ended and not held:
            return


def _ask(recognizer: Recognizer, asking: Asking, asked: dict[tuple[int, int], _Row], row: _Row, number: int) -> None:
    if row.source.problem is not None:
        row.outcome = refused(row.source)
        return
    try:
        row.prepared = recognizer.prepare([row.source.text])
        for part, request in enumerate(row.prepared.requests):
            asking.add((number, part), request)
            asked[number, part] = row
    except Exception as error:  # of this text, whatever it is
        row.fail(error)
