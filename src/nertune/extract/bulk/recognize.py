"""One chunk of rows, recognized: every row has an outcome, and a bad one does not take the others with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeAlias

from nertune.errors import InputError, NertuneError, NotFiniteError
from nertune.extract.trace import Trace
from nertune.schema import Prediction, SourceText

__all__ = ["CHUNK", "BulkRecognizer", "Chunk", "Outcome", "chunked", "recognize", "refused", "told"]

# Rows, and characters, that are given to an engine together. It runs empty once a chunk: with 96 places, 129 steps instead
# of 124 for the same tokens, in the same time on a processor.
CHUNK = 256
_CHARACTERS = 1 << 20
Chunk: TypeAlias = Sequence[SourceText]


class Outcome(NamedTuple):
    """What became of one row: a prediction, or the reason why there is none."""

    source: SourceText
    prediction: Prediction | None
    reason: str | None = None


class BulkRecognizer(Protocol):
    """What is asked of a Recognizer here. One for worker processes is made in them, by a function that can be pickled."""

    def extract_many(self, texts: Sequence[str]) -> list[Prediction]:
        """Predictions in the order of the texts; InputError where one of them cannot be used."""
        ...


def chunked(rows: Iterable[SourceText], size: int = CHUNK) -> Iterator[Chunk]:
    """Rows in chunks of `size`, of fewer where a million characters are reached, the last one shorter."""
    chunk: list[SourceText] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row.text)
        if len(chunk) == size or characters >= _CHARACTERS:
            yield tuple(chunk)
            chunk, characters = [], 0
    if chunk:
        yield tuple(chunk)


def recognize(
    recognizer: BulkRecognizer,
    chunk: Chunk,
    *,
    done: Callable[[int], None] | None = None,
    trace: Callable[[Trace], None] | None = None,
    lenient: bool = False,
) -> list[Outcome]:
    """The outcomes of a chunk's rows, in order.

    Texts that are refused are tried in halves until the bad one is alone, and so are texts that make the recognizer fail
    in any other way; that error is raised where it meets every text of a chunk, `lenient`: of several texts, so that a bad
    row which happens to be a chunk's only one does not end a long job. Errors that are about no text,
    such as a server's, are raised. `done(n)` is told how many rows are through; `trace` is given traces with the rows'
    numbers.
    """
    outcomes = {place: refused(row) for place, row in enumerate(chunk) if row.problem is not None}
    unexpected: list[Exception] = []

    def extract(places: Sequence[int]) -> None:
        ready = len(outcomes)
        options = {"done": lambda ended: done(ready + ended)} if done else {}
        if trace:
            rows = [chunk[place] for place in places]
            options["trace"] = lambda found: trace(replace(found, text=rows[found.text - 1].row))
        try:
            predictions = recognizer.extract_many([chunk[place].text for place in places], **options)
        except Exception as error:
            if isinstance(error, NertuneError) and type(error) not in (InputError, NotFiniteError):
                raise  # a server, a model's name, a package: it is no text that is refused
            if len(places) > 1:
                half = len(places) // 2
                extract(places[:half])
                extract(places[half:])
                return
            if not isinstance(error, InputError):
                unexpected.append(error)
            outcomes[places[0]] = Outcome(chunk[places[0]], None, told(error))
            return
        for place, prediction in zip(places, predictions, strict=True):
            outcomes[place] = Outcome(chunk[place], replace(prediction, id=chunk[place].id))

    if usable := [place for place in range(len(chunk)) if place not in outcomes]:
        extract(usable)
    if len(unexpected) == len(usable) > lenient:
        raise unexpected[0]
    return [outcomes[place] for place in range(len(chunk))]


def refused(row: SourceText) -> Outcome:
    """The outcome of a row that was not read as a text."""
    return Outcome(row, None, row.problem)


def told(error: Exception) -> str:
    """Why a text could not be used, for the one text that was given."""
    message = str(error).removeprefix("text 1: ")
    return message if isinstance(error, NertuneError) else f"{type(error).__name__}: {message}"
