"""Where the mentions of one document stand: what its file says of them, and how they lie to each other."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from nertune.console import visible
from nertune.data.audit.findings import At, Findings
from nertune.data.spans import Convention, RawDocument, RawMention, unit_index
from nertune.schema import Entity

__all__ = ["Quotes", "check_spans", "lost_kind", "moved_kind", "trimmed"]

_PAIRS = dict(zip('《〈“‘「『（(【[{<«"', '》〉”’」』）)】]}>»"', strict=True))
_CLOSING = {closing: opening for opening, closing in _PAIRS.items()}
_SEPARATORS = frozenset("，。；：、？！,;:?!")


def check_spans(at: At, convention: Convention, findings: Findings) -> None:
    """All that one document's spans tell by themselves."""
    row, entities = at.row, at.row.document.entities
    for mention in row.lost:
        code, detail = lost_kind(row.raw, mention, convention)
        findings.add(code, at, detail=f"{mention.label} {visible(mention.shown)!r}{detail}", mention=mention)
    for mention, start, end, places in row.moved:
        detail = f"{mention.label}: the file says [{mention.start}, {mention.end}]"
        detail += f", and it stands at {places} places" if places > 1 else ""
        findings.add(moved_kind(places), at, start, end, detail, mention=mention)
    for mention in row.twice:
        findings.add("span-duplicate", at, detail=f"{mention.label} {visible(mention.shown)!r}", mention=mention)
    for entity in entities:
        if trimmed(entity.text) != (0, len(entity.text)):
            findings.add("edge-space", at, entity.start, entity.end, entity.label)
        if not (surface := entity.text.strip()):
            continue
        if _half_pair(surface):
            findings.add("edge-half-pair", at, entity.start, entity.end, entity.label)
        if _punctuated(surface):
            findings.add("edge-punctuation", at, entity.start, entity.end, entity.label)
    if len(entities) > 1:
        for code, entity, other in _relations(entities):
            detail = f"{entity.label} and {other.label}"
            if code == "span-crossing":
                detail += f" {visible(other.text)!r}"
            findings.add(code, at, entity.start, entity.end, detail)


def trimmed(surface: str) -> tuple[int, int]:
    """Where a surface begins and ends without white space at its edges; equal where nothing remains."""
    start = len(surface) - len(surface.lstrip())
    return start, max(start, len(surface.rstrip()))


class Quotes:
    """Whether entities take in the quotes around them, counted by label and kind of quotes."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, bool]] = Counter()

    def count(self, text: str, entities: Iterable[Entity]) -> None:
        """Take one document into account."""
        self._counts.update(key for _, key in _quoted(text, entities))

    def report(self, at: At, findings: Findings) -> None:
        """The entities of one document that are unlike most of their label, once all were counted."""
        for entity, (label, opening, taken) in _quoted(at.row.document.text, at.row.document.entities):
            alike, others = self._counts[label, opening, taken], self._counts[label, opening, not taken]
            if 0 < alike < others or (taken and alike == others):
                marks = opening + _PAIRS[opening]
                way = ("take them in", "leave them outside") if taken else ("leave them outside", "take them in")
                detail = f"{label} and {marks}: {alike:,} {way[0]}, {others:,} {way[1]}"
                findings.add("edge-quotes", at, entity.start, entity.end, detail)


def _quoted(text: str, entities: Iterable[Entity]) -> Iterator[tuple[Entity, tuple[str, str, bool]]]:
    """Entities with quotes or brackets just inside or just outside of them."""
    for entity in entities:
        first = entity.text[0]
        if len(entity.text) > 2 and _PAIRS.get(first) == entity.text[-1] and _PAIRS[first] not in entity.text[1:-1]:
            yield entity, (entity.label, first, True)
        elif entity.start > 0 and entity.end < len(text) and _PAIRS.get(text[entity.start - 1]) == text[entity.end]:
            yield entity, (entity.label, text[entity.start - 1], False)


def moved_kind(places: int) -> str:
    """The kind of a mention that stands elsewhere than it says, at one of so many places."""
    return "span-moved" if places == 1 else "span-ambiguous"


def lost_kind(raw: RawDocument, mention: RawMention, convention: Convention) -> tuple[str, str]:
    """Why a mention has no place in its text: the kind, and its span."""
    if mention in raw.lost:
        return "span-pieces", ""
    if mention.start is None or mention.end is None:
        return "mention-absent", ""
    detail = f" at [{mention.start}, {mention.end}]" if mention.text else ""
    start, end = mention.start - convention.origin, mention.end - convention.origin + convention.inclusive
    if end <= start:
        return "span-empty", detail
    within = convention.span(raw.text, mention, unit_index(raw.text, convention.unit)) is not None
    return ("span-mismatch" if within else "span-out-of-range"), detail


def _half_pair(surface: str) -> bool:
    """Whether half a pair of quotes or brackets is at an edge of a surface, and the other half not in it."""
    first, last = surface[0], surface[-1]
    if '"' in (first, last) and surface.count('"') % 2:
        return True
    opened = first in _PAIRS and _PAIRS[first] not in surface[1:]
    closed = last in _CLOSING and _CLOSING[last] not in surface[:-1]
    return opened or closed or (first in _CLOSING and first not in _PAIRS) or (last in _PAIRS and last not in _CLOSING)


def _punctuated(surface: str) -> bool:
    """Whether punctuation that separates is at an edge of a surface. A full stop after Latin letters may abbreviate."""
    if surface[0] in _SEPARATORS or surface[-1] in _SEPARATORS:
        return True
    return surface[-1] == "." and not any(character.isascii() and character.isalpha() for character in surface)


def _relations(entities: Iterable[Entity]) -> Iterator[tuple[str, Entity, Entity]]:
    """Entities in reading order that cross, lie inside, or cover the same as one before them, each with the first such."""
    ends: list[tuple[int, int, Entity]] = []  # of those that reach beyond the present start, the nearest end first
    outer: Entity | None = None  # of those before with another span, the one that reaches farthest
    before: Entity | None = None
    for number, entity in enumerate(entities):
        while ends and ends[0][0] <= entity.start:
            heapq.heappop(ends)
        if ends and ends[0][0] < entity.end:
            yield "span-crossing", entity, ends[0][2]
        if before is not None and (before.start, before.end) == (entity.start, entity.end):
            yield "span-two-labels", entity, before
        elif before is not None and (outer is None or before.end > outer.end):
            outer = before
        if outer is not None and outer.end >= entity.end:
            yield "span-nested", entity, outer
        heapq.heappush(ends, (entity.end, number, entity))
        before = entity
