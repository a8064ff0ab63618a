"""Where a file's offsets point: the convention is told from the file itself, and every mention is placed by it.

This is the only place of the package that knows spans other than half-open code points. Each mention that names its
surface votes for the conventions under which its span cuts out that surface; the file's majority wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal, NamedTuple

from nertune.schema import Document, Entity, Mention

__all__ = ["HALF_OPEN", "INCLUSIVE", "Convention", "Placed", "RawDocument", "RawMention", "place", "records_to_read"]

_VOTERS = 1_000  # records that vote at least, however few are asked for

Unit = Literal["code points", "UTF-16 units", "UTF-8 bytes"]


class RawMention(NamedTuple):
    """A mention as the file gives it: `start` and `end` in the file's convention, `text` None where it gives none."""

    label: str
    start: int
    end: int
    text: str | None
    score: float | None = None


class RawDocument(NamedTuple):
    """A text and its mentions, before the file's convention is known."""

    text: str
    mentions: tuple[RawMention, ...]
    id: str | None


class Placed(NamedTuple):
    """Documents whose spans are half-open code points, and what had to be said about the way there.

    `lost`: by the place of a document, its mentions that found none in its text and were left out.
    """

    documents: tuple[Document, ...]
    notes: tuple[str, ...]
    lost: Mapping[int, tuple[Mention, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Convention:
    """How a file counts: from 0 or 1 (`origin`), its ends exclusive (0) or inclusive (1), in which unit."""

    origin: int
    inclusive: int
    unit: Unit = "code points"

    @property
    def name(self) -> str:
        """Its name for notes, such as `one-based inclusive`."""
        name = ("one-based " if self.origin else "") + ("inclusive" if self.inclusive else "half-open")
        return name if self.unit == "code points" else f"{name} {self.unit}"

    def span(self, text: str, mention: RawMention, index: Mapping[int, int] | None) -> tuple[int, int] | None:
        """The mention's half-open span in code points, or None where it is empty or not within the text.

        `index` is what `unit_index` gives for this text and unit.
        """
        start, end = mention.start - self.origin, mention.end - self.origin + self.inclusive
        if index is not None:
            start, end = index.get(start, -1), index.get(end, -1)
        return (start, end) if 0 <= start < end <= len(text) else None


HALF_OPEN = Convention(0, 0)
INCLUSIVE = Convention(0, 1)
_CODE_POINTS = (HALF_OPEN, INCLUSIVE, Convention(1, 1), Convention(1, 0))
_UNITS: tuple[Unit, ...] = ("UTF-16 units", "UTF-8 bytes")
_ALL = (*_CODE_POINTS, *(Convention(c.origin, c.inclusive, unit) for unit, c in product(_UNITS, _CODE_POINTS)))


def records_to_read(limit: int | None) -> int | None:
    """How many records to read for `limit` documents: never fewer than vote."""
    return None if limit is None else max(limit, _VOTERS)


def unit_index(text: str, unit: Unit) -> dict[int, int] | None:
    """Code-point index by offset in `unit`; None where the two are the same."""
    if unit == "code points" or text.isascii() or (unit == "UTF-16 units" and max(text) <= "\uffff"):
        return None
    index, offset = {0: 0}, 0
    for position, character in enumerate(text, 1):
        offset += len(character.encode("utf-8")) if unit == "UTF-8 bytes" else 1 + (character > "\uffff")
        index[offset] = position
    return index


def place(raw: Sequence[RawDocument], *, limit: int | None, preferred: Convention) -> Placed:
    """The first `limit` documents with their mentions placed; all of `raw` votes on the convention.

    `preferred` is taken where the votes are equal, and where no mention names its surface. A mention that is not where
    its span says is re-anchored if its surface occurs exactly once in the text, and left out otherwise; a mention given
    twice is kept once. All three are counted in the notes.
    """
    convention, notes = _elect(raw, preferred)
    if notes and len(raw) > len(raw[:limit]):
        notes = [f"{notes[0]}, in the first {len(raw):,} records"]
    counts = {"off": 0, "moved": 0, "twice": 0, "outside": 0}
    lost: dict[int, tuple[Mention, ...]] = {}
    documents = tuple(
        _document(document, convention, counts, lost, number) for number, document in enumerate(raw[:limit])
    )
    if counts["off"]:
        left = counts["off"] - counts["moved"]
        notes.append(
            f"{_mentions(counts['off'])} did not match the slice: {counts['moved']:,} re-anchored "
            f"(the surface occurs once), {left:,} left out"
        )
    if counts["outside"]:
        notes.append(f"{_mentions(counts['outside'])} without a surface left out: empty, or not within the text")
    if counts["twice"]:
        notes.append(f"{_mentions(counts['twice'])} given twice, kept once")
    return Placed(documents, tuple(notes), lost)


def _elect(raw: Sequence[RawDocument], preferred: Convention) -> tuple[Convention, list[str]]:
    voters = sum(mention.text is not None for document in raw for mention in document.mentions)
    if not voters:
        silent = any(document.mentions for document in raw)
        note = f"spans: {preferred.name} assumed, because no mention names its surface"
        return preferred, [note] if silent else []
    votes = _votes(raw, _CODE_POINTS)
    # Other units only where code points do not explain every mention: they cost an index a text, and lose every tie.
    if max(votes.values()) < voters:
        votes = _votes(raw, _ALL)
    winner = max(votes, key=lambda c: (votes[c], c == preferred))
    others = [f"{c.name} {votes[c]:,}" for c in _CODE_POINTS if c != winner and votes[c]]
    note = f"spans: {winner.name}, by {votes[winner]:,} of {_mentions(voters)}"
    note += f" ({', '.join(others)})" if others else ""
    if 2 * votes[winner] <= voters:
        note += "; no convention fits most of them, so check the file"
    return winner, [note]


def _votes(raw: Iterable[RawDocument], conventions: Sequence[Convention]) -> dict[Convention, int]:
    votes = dict.fromkeys(conventions, 0)
    for text, mentions, _ in raw:
        if not mentions:
            continue
        indexes = {unit: unit_index(text, unit) for unit in {c.unit for c in conventions}}
        for mention in mentions:
            for convention in conventions:
                span = convention.span(text, mention, indexes[convention.unit])
                if span is not None and text[span[0] : span[1]] == mention.text:
                    votes[convention] += 1
    return votes


def _document(
    raw: RawDocument, convention: Convention, counts: dict[str, int], lost: dict[int, tuple[Mention, ...]], number: int
) -> Document:
    index = unit_index(raw.text, convention.unit)
    entities: dict[tuple[str, int, int], Entity] = {}
    for mention in raw.mentions:
        span = _span(raw.text, mention, convention.span(raw.text, mention, index), counts)
        if span is None:
            shown = mention.text or f"[{mention.start}, {mention.end}]"
            lost[number] = (*lost.get(number, ()), Mention(mention.label, shown))
            continue
        key = (mention.label, *span)
        if key in entities:
            counts["twice"] += 1
        else:
            entities[key] = Entity(mention.label, *span, raw.text[span[0] : span[1]], mention.score)
    return Document(raw.text, tuple(entities.values()), raw.id)


def _span(
    text: str, mention: RawMention, span: tuple[int, int] | None, counts: dict[str, int]
) -> tuple[int, int] | None:
    surface = mention.text
    if surface is None:
        counts["outside"] += span is None
        return span
    if span is not None and text[span[0] : span[1]] == surface:
        return span
    counts["off"] += 1
    first = text.find(surface) if surface else -1
    if first < 0 or text.find(surface, first + 1) >= 0:
        return None
    counts["moved"] += 1
    return first, first + len(surface)


def _mentions(count: int) -> str:
    return f"{count:,} mention{'' if count == 1 else 's'}"
