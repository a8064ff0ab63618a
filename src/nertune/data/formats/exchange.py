"""Rows for LLMs, read back into entities: the road that the alpaca and the sharegpt reader share.

The first rows tell where the sentences stand in the prompts and how the answers are written; every row is then read so.
An answer that is not is left out and told with its line; a file most of whose answers are not is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

from nertune.data.formats.answers import AnswerReader, Answers, JsonObjects, Said
from nertune.data.formats.frame import Exchange, Frame, frames, marked
from nertune.data.records import label_problem
from nertune.data.source import Missed, ReadOptions
from nertune.data.spans import Asked, RawDocument, RawMention
from nertune.data.wording import shortened
from nertune.schema import Document, Entity, Mention

__all__ = ["Exchange", "documents"]

_HEAD = 1_000  # rows looked at to tell what belongs to the prompt, and how the answers are written
_TRIED = 100  # of them, those that choose


class _Choice(NamedTuple):
    """How a file's rows are read: `framed` for those with a column of their own for the sentence and for those without."""

    reader: AnswerReader
    framed: dict[bool, Frame | None]


@dataclass(frozen=True, slots=True)
class _Names:
    """What messages call the part of a row that holds the answer, and what to say where the sentence cannot be told."""

    answer: str
    no_text: str


def documents(
    exchanges: Iterable[Exchange],
    options: ReadOptions,
    notes: list[str],
    *,
    answer: str,
    no_text: str,
    answers: Answers | None,
) -> Iterator[RawDocument]:
    """The documents of a file's rows, one after another; `answer` names what holds the answers in messages.

    Raises DataError, with the line, for a row whose sentence cannot be told (saying `no_text`), and for the first answer
    that cannot be read where no more than half of the first rows' can.
    """
    rows = iter(exchanges)
    head = list(islice(rows, _HEAD))
    if not head:
        return
    names = _Names(answer, no_text)
    choice = _chosen(head, answers)
    notes += _notes(head, choice, _unread(head, choice, names))
    for row in chain(head, rows):
        found = _document(row, choice, names)
        if isinstance(found, str):
            options.missed.append(Missed(row.record.line, found))
        else:
            yield found


def _chosen(head: Sequence[Exchange], answers: Answers | None) -> _Choice:
    """The reader and the frames under which most of the answers speak of their sentences."""
    tried = head[:: max(1, len(head) // _TRIED)][:_TRIED]
    readers = [JsonObjects(), *(answers.readers([row.answer for row in head]) if answers else ())]
    best: tuple[tuple[int, int, int], _Choice] | None = None
    for reader in readers:
        said = [reader.read(row.answer) for row in tried]
        if best is not None and all(found is None for found in said):
            continue
        fitting, read, framed = 0, 0, {}
        for column in (True, False):
            kind = [(row, found) for row, found in zip(tried, said, strict=True) if (row.given is not None) is column]
            whole = [row for row in head if (row.given is not None) is column]
            if whole:
                score, framed[column] = _framed(whole, kind)
                fitting, read = fitting + score[0], read + score[1]
        # Of two that fit alike, the one that takes less for the sentences: labels may stand in the words around them.
        words = sum(len(frame.before) + len(frame.after) for frame in framed.values() if frame)
        if best is None or (fitting, read, words) > best[0]:
            best = (fitting, read, words), _Choice(reader, framed)
    return _Choice(JsonObjects(), {}) if best is None else best[1]


def _framed(
    head: Sequence[Exchange], tried: Sequence[tuple[Exchange, Said | None]]
) -> tuple[tuple[int, int], Frame | None]:
    """The frame of one kind of rows that most answers fit, with how many fit it and how many are read under it."""
    copy_of = {id(row): said.text for row, said in tried if isinstance(said, Document)}
    found: list[Frame | None] = [*frames(head, [copy_of.get(id(row)) for row in head])]
    best, chosen = (-1, -1), None
    for frame in found or [None]:
        fitting = read = 0
        for row, said in tried:
            sentence = _sentence(row, frame)
            if said is not None and sentence is not None:
                mentions = _mentions(sentence[1], said)
                read += mentions is not None
                fitting += mentions is not None and all(m.text and m.text in sentence[1] for m in mentions)
        if (fitting, read) > best:
            best, chosen = (fitting, read), frame
    return best, chosen


def _sentence(row: Exchange, frame: Frame | None) -> tuple[int, str, int] | None:
    """Where a row's sentence begins and ends in its prompt, and the sentence between; None where nothing tells."""
    place = frame.sentence(row.part) if frame else None
    given, after_marker = row.given or 0, marked(row.prompt)
    # A frame without words says no more than that sentences have a column, or nothing in common.
    if after_marker is not None and after_marker > given and (place is None or frame == Frame("", "")):
        place = after_marker - given, len(row.part)
    if place is None and row.given is not None:
        place = 0, len(row.part)
    if place is None:
        return None
    start, end = given + place[0], given + place[1]
    return start, row.prompt[start:end], end


def _mentions(text: str, said: Said) -> tuple[RawMention, ...] | None:
    """What an answer says of a text; None where it copies another. Edges of white space may differ: templates strip them."""
    if not isinstance(said, Document):
        return tuple(RawMention(mention.label, None, None, mention.text) for mention in said)
    shift = 0
    if said.text != text:
        if not text.strip() or said.text.strip() != text.strip():
            return None
        shift = len(text) - len(text.lstrip()) - (len(said.text) - len(said.text.lstrip()))
    placed = tuple(RawMention(e.label, e.start + shift, e.end + shift, e.text) for e in said.entities)
    return placed if all((m.start or 0) >= 0 and (m.end or 0) <= len(text) for m in placed) else None


def _document(row: Exchange, choice: _Choice, names: _Names) -> RawDocument | str:
    """A row's document, or why its answer is not read."""
    said = choice.reader.read(row.answer)
    frame = choice.framed.get(row.given is not None)
    sentence = _sentence(row, frame)
    if sentence is None:
        if frame is not None:
            return f"the prompt is not framed as the first ones, by {shortened(frame.before[-30:])!r}"
        raise row.record.error(names.no_text)
    if said is None:
        return f"{names.answer} {choice.reader.problem(row.answer)}"
    start, text, end = sentence
    mentions = _mentions(text, said)
    if mentions is None:
        return f"{names.answer} copies another text than the prompt's: {shortened(row.answer)!r}"
    problem = next((problem for label in _labels(said) if (problem := label_problem(label))), None)
    if problem is not None:
        return f"{names.answer}: {problem}; rename it in the file"
    asked = Asked(row.system, row.prompt[:start], row.prompt[end:], row.answer, row.earlier)
    return RawDocument(text, mentions, row.record.id(), row.record.line, record=row.record, asked=asked)


def _labels(said: Said) -> Iterator[str]:
    items: Sequence[Entity | Mention] = said.entities if isinstance(said, Document) else said
    return (item.label for item in items)


def _unread(head: Sequence[Exchange], choice: _Choice, names: _Names) -> int:
    """How many answers of the first rows cannot be read. Raises DataError at the first one unless most of them can."""
    problems = [(row, found) for row in head if isinstance(found := _document(row, choice, names), str)]
    if 2 * len(problems) < len(head):
        return len(problems)
    row, problem = problems[0]
    counted = f"{len(problems):,} of {'the first ' if len(head) == _HEAD else ''}{len(head):,} answers are not read"
    raise row.record.error(f"{problem} ({counted}, best as {choice.reader.name})")


def _notes(head: Sequence[Exchange], choice: _Choice, unread: int) -> Iterator[str]:
    whole = f"{'the first ' if len(head) == _HEAD else ''}{len(head):,} row{'s' * (len(head) > 1)}"
    yield f"answers: {choice.reader.name}, read in {len(head) - unread:,} of {whole}"
    earlier = sum(row.earlier > 0 for row in head)
    if earlier:
        yield f"of conversations the last question and answer alone are read ({earlier:,} of {whole} have more)"
    for column, frame in choice.framed.items():
        note = frame.note(column=column) if frame else None
        if note:
            yield note
