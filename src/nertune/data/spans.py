"""Where a file's offsets point: the convention is told from the file itself, and every mention is placed by it.

This is the only place of the package that knows spans other than half-open code points. Each mention that names its
surface votes for the conventions under which its span cuts out that surface; the file's majority wins. Where no convention
fits most mentions, those vote at whose start alone their surface stands: ends are often wrong where starts are right.

A mention with a surface stands, in this order of preference:

1. at its span, where the text has the surface, or the same but for white space, line breaks and Unicode form;
2. at its start, whatever its end says;
3. at the occurrence of its surface that is nearest to its start: listed, where there were several.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, product
from typing import Literal, NamedTuple

from nertune.data.anchoring import Anchor, Anchors
from nertune.data.occurrence import by_occurrence
from nertune.data.records import Record
from nertune.data.units import Ballot
from nertune.data.wording import counted, shortened
from nertune.schema import Document, Entity, Mention

__all__ = [
    "HALF_OPEN",
    "INCLUSIVE",
    "Asked",
    "Convention",
    "Moved",
    "Placing",
    "RawDocument",
    "RawMention",
    "Row",
    "Unit",
    "unit_index",
]

_VOTERS = 20_000  # records that vote on the convention, in files that have so many
_LISTED = 5  # mentions that are shown in a note
_FEWEST = 1_000  # records that vote, however few are wanted

Unit = Literal["code points", "UTF-16 units", "UTF-8 bytes"]


class RawMention(NamedTuple):
    """A mention as the file gives it: `start` and `end` in the file's convention, `text` None where it gives none.

    A mention without offsets has None for both: it is placed by order of occurrence. `line`: where the file has it, if
    that is not where its document begins.
    """

    label: str
    start: int | None
    end: int | None
    text: str | None
    score: float | None = None
    line: int | None = None

    @property
    def shown(self) -> str:
        """Its surface; its offsets where the file gives no surface."""
        return self.text or f"[{self.start}, {self.end}]"


class Asked(NamedTuple):
    """What a row for LLMs holds besides its sentence: the prompt's two parts around it, and the answer to the letter.

    `earlier`: how many turns come before this one.
    """

    system: str
    before: str
    after: str
    answer: str
    earlier: int = 0


class RawDocument(NamedTuple):
    """A text and its mentions, before the file's convention is known.

    `line`: where it begins in the file, from 1, None where the format has no lines; `file`: which file of a folder;
    `record`: the JSON object that it was read from. `lost`: mentions that no single span can stand for. `asked`: what
    surrounds the text in a row for LLMs.
    """

    text: str
    mentions: tuple[RawMention, ...]
    id: str | None
    line: int | None = None
    file: str | None = None
    record: Record | None = None
    lost: tuple[RawMention, ...] = ()
    asked: Asked | None = None

    @classmethod
    def of(cls, record: Record, text: str, mentions: Iterable[RawMention]) -> RawDocument:
        """The document of a JSON object, with the object's own `id`."""
        return cls(text, tuple(mentions), record.id(), record.line, None, record)


class Moved(NamedTuple):
    """A mention that stands at [start, end), in code points, and not where its span says. `places`: where it might stand."""

    mention: RawMention
    start: int
    end: int
    places: int = 1


class Row(NamedTuple):
    """A document as read, with what became of its mentions.

    `raw`: as the file gives it. `lost`: mentions that found no place in the text and were left out; `moved`: those that
    stand elsewhere than their span says; `twice`: those that an earlier one equals.
    """

    document: Document
    raw: RawDocument
    lost: tuple[RawMention, ...] = ()
    moved: tuple[Moved, ...] = ()
    twice: tuple[RawMention, ...] = ()


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
        if mention.start is None or mention.end is None:
            return None
        start, end = mention.start - self.origin, mention.end - self.origin + self.inclusive
        if index is not None:
            start, end = index.get(start, -1), index.get(end, -1)
        return (start, end) if 0 <= start < end <= len(text) else None

    def starts(self, mentions: Iterable[RawMention], index: Mapping[int, int] | None) -> list[int]:
        """Where mentions begin in code points, in their text or not; `index` as `span` takes it.

        An offset within a character is that character's, and one past the text is past it.
        """
        starts = [(mention.start or 0) - self.origin for mention in mentions]
        if index is None:
            return starts
        offsets = list(index)
        return [start if start < 0 else bisect_right(offsets, start) - 1 for start in starts]


HALF_OPEN = Convention(0, 0)
INCLUSIVE = Convention(0, 1)
_CODE_POINTS = (HALF_OPEN, INCLUSIVE, Convention(1, 1), Convention(1, 0))
_UNITS: tuple[Unit, ...] = ("UTF-16 units", "UTF-8 bytes")
_ALL = (*_CODE_POINTS, *(Convention(c.origin, c.inclusive, unit) for unit, c in product(_UNITS, _CODE_POINTS)))


def unit_index(text: str, unit: Unit) -> dict[int, int] | None:
    """Code-point index by offset in `unit`; None where the two are the same."""
    if unit == "code points" or text.isascii() or (unit == "UTF-16 units" and max(text) <= "\uffff"):
        return None
    index, offset = {0: 0}, 0
    for position, character in enumerate(text, 1):
        offset += len(character.encode("utf-8")) if unit == "UTF-8 bytes" else 1 + (character > "\uffff")
        index[offset] = position
    return index


class Placing:
    """Places the mentions of one file's documents, as they come, and keeps count of what that took.

    `convention`: how the file counts, or, where it is asked (`elects`), what is taken where the votes are equal or no
    mention names its surface. `unit`: what is counted, where the caller knows it; only the rest is asked of the file then.
    The first 20,000 documents vote, 1,000 where fewer are wanted.
    """

    def __init__(self, convention: Convention, *, elects: bool = True, unit: Unit | None = None) -> None:
        self.convention = convention if unit is None else replace(convention, unit=unit)
        self._elects = elects
        self._told = unit is not None
        self._said: list[str] = []
        self._counts: Counter[str] = Counter()
        self._chosen: list[str] = []

    @property
    def doubt(self) -> str | None:
        """Why the file is not to be trusted: most of its mentions stand elsewhere than they say; None where they do not."""
        counts = self._counts
        gone = counts["gone"] + counts["outside"]
        fit = counts["at span"] + counts["alike"] + counts["start"]
        given = fit + counts["moved"] + gone
        if 2 * fit < given:
            return (
                f"only {fit:,} of {counted(given, 'mention')} stand where their offsets say: {counts['moved']:,} were found "
                f"elsewhere in their text, {gone:,} are not in it"
            )
        return None

    def rows(self, raw: Iterable[RawDocument], *, limit: int | None = None) -> Iterator[Row]:
        """The first `limit` documents with their mentions placed.

        A mention whose surface is not in the text is left out; a mention given twice is kept once. Mentions without
        offsets are placed by order of occurrence.
        """
        documents = iter(raw)
        if self._elects:
            head = list(islice(documents, _VOTERS if limit is None else min(max(limit, _FEWEST), _VOTERS)))
            self.convention, self._said = _elect(head, self.convention, told=self._told)
            following = next(documents, None) if self._said and limit is None else None
            if self._said and (following is not None or len(head) > len(head[:limit])):
                self._said[0] += f", in the first {len(head):,} records"
            documents = chain(head, [] if following is None else [following], documents)
        for document in islice(documents, limit):
            yield self._row(document)

    def notes(self) -> tuple[str, ...]:
        """Notes for people on the documents read so far."""
        counts, notes = self._counts, list(self._said)
        if counts["ordered"] or counts["absent"]:
            notes.append(f"spans: none in this file; mentions placed by order of occurrence: {counts['ordered']:,}")
        if counts["absent"]:
            notes.append(f"mentions left out, because the text does not hold them (so often): {counts['absent']:,}")
        if counts["alike"]:
            notes.append(
                f"{counted(counts['alike'], 'mention')} taken as the text has it: the surface is the same but for white space, "
                "line breaks or Unicode form"
            )
        if off := counts["start"] + counts["moved"] + counts["gone"]:
            ways = (
                (counts["start"], "taken at their start, where the surface stands and only the end is wrong"),
                (counts["moved"] - counts["chosen"], "re-anchored (the surface occurs once)"),
                (counts["chosen"], "re-anchored at the nearest of several occurrences"),
                (counts["gone"], "left out"),
            )
            told = ", ".join(f"{count:,} {what}" for count, what in ways if count)
            notes.append(f"{counted(off, 'mention')} did not match the slice: {told}")
        if self._chosen:
            shown = "; ".join(self._chosen) + ("; …" if counts["chosen"] > len(self._chosen) else "")
            notes.append(f"re-anchored where there was a choice: {shown}")
        if counts["outside"]:
            notes.append(
                f"{counted(counts['outside'], 'mention')} without a surface left out: empty, or not within the text"
            )
        if counts["twice"]:
            notes.append(f"{counted(counts['twice'], 'mention')} given twice, kept once")
        return tuple(notes)

    def _row(self, raw: RawDocument) -> Row:
        if any(mention.start is None or mention.end is None for mention in raw.mentions):
            return self._by_occurrence(raw)
        index = unit_index(raw.text, self.convention.unit)
        given = [self.convention.span(raw.text, mention, index) for mention in raw.mentions]
        fits = [
            span is not None and mention.text in (None, raw.text[span[0] : span[1]])
            for mention, span in zip(raw.mentions, given, strict=True)
        ]
        self._counts["at span"] += sum(fits)
        starts = [] if all(fits) else self.convention.starts(raw.mentions, index)
        named = [(mention.text, start) for mention, start in zip(raw.mentions, starts) if mention.text]  # noqa: B905
        anchors = Anchors(raw.text, named) if starts else None
        entities: dict[tuple[str, int, int], Entity] = {}
        lost: list[RawMention] = list(raw.lost)
        moved: list[Moved] = []
        twice: list[RawMention] = []
        for number, (mention, span) in enumerate(zip(raw.mentions, given, strict=True)):
            place = span
            if anchors is not None and not fits[number]:
                found = self._place(raw, mention, starts[number], span, anchors)
                place = None if found is None else found[:2]
                if found is not None and place != span:
                    moved.append(Moved(mention, found.start, found.end, found.places))
            if place is None:
                lost.append(mention)
                continue
            key = (mention.label, *place)
            if key in entities:
                twice.append(mention)
            else:
                entities[key] = Entity(mention.label, *place, raw.text[place[0] : place[1]], mention.score)
        self._counts["twice"] += len(twice)
        document = Document(raw.text, tuple(entities.values()), raw.id)
        return Row(document, raw, tuple(lost), tuple(moved), tuple(twice))

    def _by_occurrence(self, raw: RawDocument) -> Row:
        named = [Mention(mention.label, mention.text or "") for mention in raw.mentions]
        entities, absent = by_occurrence(raw.text, named)
        self._counts["ordered"] += len(entities)
        self._counts["absent"] += len(absent)
        lost = tuple(RawMention(mention.label, None, None, mention.text) for mention in absent)
        return Row(Document(raw.text, tuple(entities), raw.id), raw, raw.lost + lost)

    def _place(
        self, raw: RawDocument, mention: RawMention, start: int, span: tuple[int, int] | None, anchors: Anchors
    ) -> Anchor | None:
        """Where a mention stands whose span is not its surface; None where that is nowhere."""
        found = None if mention.text is None else anchors.find(mention.text, start, span)
        if found is None:
            self._counts["outside" if mention.text is None else "gone"] += 1
            return None
        self._counts[found.how] += 1
        if found.how == "moved" and found.places > 1:
            self._counts["chosen"] += 1
            if len(self._chosen) < _LISTED:
                where = f"line {mention.line or raw.line}: " if mention.line or raw.line else ""
                at = f"[{found.start}, {found.end})"
                self._chosen.append(f"{where}{shortened(mention.shown)} at {at}, of {found.places} places")
        return found


def _elect(raw: Sequence[RawDocument], preferred: Convention, *, told: bool) -> tuple[Convention, list[str]]:
    placed = [mention for document in raw for mention in document.mentions if mention.start is not None]
    voters = sum(mention.text is not None for mention in placed)
    if not voters:
        return _without_surfaces(raw, preferred, told=told) if placed else (preferred, [])
    asked = tuple(c for c in _ALL if c.unit == preferred.unit) if told else _CODE_POINTS
    votes = _votes(raw, asked)
    # Other units only where code points do not explain every mention: they cost an index a text, and lose every tie.
    if not told and max(votes.values()) < voters:
        votes = _votes(raw, _ALL)
    winner = max(votes, key=lambda c: (votes[c], c == preferred))
    others = [f"{c.name} {votes[c]:,}" for c in asked if c != winner and votes[c]]
    note = f"spans: {winner.name}, by {votes[winner]:,} of {counted(voters, 'mention')}"
    note += f" ({', '.join(others)})" if others else ""
    starts = _votes(raw, asked if told else _ALL, starts=True) if 2 * votes[winner] < voters else votes
    first = max(starts, key=lambda c: (starts[c], votes[c], c == preferred))
    if starts is not votes and 2 * starts[first] > voters:
        counting = "from one" if first.origin else "from zero"
        units = "" if first.unit == "code points" else f" in {first.unit}"
        note = f"spans: starts {counting}{units}, by {starts[first]:,} of {counted(voters, 'mention')}"
        return first, [f"{note}; their ends follow no convention"]
    if 2 * votes[winner] <= voters:
        note += "; no convention fits most of them, so check the file"
    return winner, [note]


def _without_surfaces(raw: Iterable[RawDocument], preferred: Convention, *, told: bool) -> tuple[Convention, list[str]]:
    if told or preferred.unit != "code points":
        return preferred, [f"spans: {preferred.name}, {'as told' if told else 'assumed'}; no mention names its surface"]
    other, ballot = replace(preferred, unit="UTF-16 units"), Ballot()
    for document in raw:
        index = unit_index(document.text, other.unit) if document.mentions else None
        if index is not None:
            for mention in document.mentions:
                spans = (preferred.span(document.text, mention, None), other.span(document.text, mention, index))
                ballot.count(document.text, *spans)
    winner = other if ballot.utf_16 else preferred
    note = f"spans: {winner.name} {'told from spans alone' if ballot.utf_16 else 'assumed'}"
    note += ", because no mention names its surface"
    return winner, [f"{note}; {ballot.said}" if ballot.said else note]


def _votes(
    raw: Iterable[RawDocument], conventions: Sequence[Convention], *, starts: bool = False
) -> dict[Convention, int]:
    """How many mentions each convention explains; `starts`: at their start alone, whatever their end says."""
    votes = dict.fromkeys(conventions, 0)
    for text, mentions, *_ in raw:
        if not mentions:
            continue
        indexes = {unit: unit_index(text, unit) for unit in {c.unit for c in conventions}}
        for convention in conventions:
            index = indexes[convention.unit]
            if starts:
                at = zip(mentions, convention.starts(mentions, index), strict=True)
                votes[convention] += sum(
                    bool(m.text) and start >= 0 and text.startswith(m.text or "", start) for m, start in at
                )
                continue
            for mention in mentions:
                span = convention.span(text, mention, index)
                if span is not None and text[span[0] : span[1]] == mention.text:
                    votes[convention] += 1
    return votes
