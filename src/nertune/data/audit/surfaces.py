"""What one surface is called in all places: several labels, several spellings, and the places that were passed over.

Surfaces are counted in a first reading of the files; the places are shown in a second.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator

from nertune.console import visible
from nertune.data.audit.findings import At, Findings, Place
from nertune.data.wording import counted
from nertune.schema import Entity

__all__ = ["Surfaces"]

_SLIP_SHARE = 10  # a label is a likely slip where fewer than one in ten mentions of the surface have it,
_SLIP_MOST = 3  # and no more than so many
_LEAST_ANNOTATED = 3  # mentions from which on a surface is looked for where it is not annotated
_SHORTEST = 2  # characters that such a surface has at least


class Surfaces:
    """Counts mentions by surface and label; then tells of each document what is unlike the others."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._slips: dict[tuple[str, str], str] = {}
        self._ambiguous: dict[str, str] = {}
        self._variants: dict[str, str] = {}
        self._wanted: dict[str, int] = {}
        self._lengths: dict[str, list[int]] = {}
        self._missed: Counter[str] = Counter()
        self._missed_at: dict[str, list[tuple[int, Place]]] = {}
        self._labels: dict[str, str] = {}  # one of the labels of each surface
        self._order = 0

    def count(self, entities: tuple[Entity, ...]) -> None:
        """Take one document into account."""
        self._counts.update((entity.text, entity.label) for entity in entities)

    def decide(self) -> None:
        """All was counted: which surfaces and spellings are to be told of, and which to be looked for."""
        several: dict[str, list[str]] = {}
        for surface, label in self._counts:
            first = self._labels.setdefault(surface, label)
            if first != label:
                several.setdefault(surface, [first]).append(label)
        for surface, labels in several.items():
            counts = [(label, self._counts[surface, label]) for label in labels]
            self._decide_labels(surface, sorted(counts, key=lambda pair: (-pair[1], pair[0])))
        for surface, label in self._labels.items():
            count = self._counts[surface, label]
            if count >= _LEAST_ANNOTATED and surface not in several and _searchable(surface):
                self._wanted[surface] = count
        self._decide_variants(several)
        starts: dict[str, set[int]] = {}
        for surface in self._wanted:
            starts.setdefault(surface[:_SHORTEST], set()).add(len(surface))
        self._lengths = {start: sorted(lengths, reverse=True) for start, lengths in starts.items()}

    def report(self, at: At, findings: Findings) -> None:
        """What is unlike the others in one document."""
        for entity in at.row.document.entities:
            place = (entity.start, entity.end)
            if slip := self._slips.get((entity.text, entity.label)):
                findings.add("surface-noise", at, *place, slip)
            if ambiguous := self._ambiguous.pop(entity.text, ""):
                findings.add("surface-ambiguous", at, *place, ambiguous)
            if variant := self._variants.get(entity.text):
                findings.add("surface-variants", at, *place, variant)
        for start, end in self._unannotated(at.row.document.text, at.row.document.entities):
            surface = at.row.document.text[start:end]
            self._missed[surface] += 1
            places = self._missed_at.setdefault(surface, [])
            if len(places) < findings.top:
                self._order += 1
                detail = f"elsewhere {self._labels[surface]}, {self._wanted[surface]:,} times"
                places.append((self._order, at.place(start, end, detail)))

    def finish(self, findings: Findings) -> None:
        """Tell of the surfaces that are annotated more often than they are not."""
        often = [surface for surface, count in self._missed.items() if count < self._wanted[surface]]
        places = sorted((place for surface in often for place in self._missed_at[surface]), key=lambda pair: pair[0])
        found = sum(self._missed[surface] for surface in often)
        surfaces = counted(len(often), "surface")
        findings.tell("entity-missed", found, [place for _, place in places], surfaces)

    def _decide_labels(self, surface: str, counts: list[tuple[str, int]]) -> None:
        total = sum(count for _, count in counts)
        usual, most = counts[0]
        slips = [label for label, count in counts if count <= _SLIP_MOST and count * _SLIP_SHARE < total]
        for label in slips:
            self._slips[surface, label] = f"{label} here, {usual} {most:,} times"
        rest = [(label, count) for label, count in counts if label not in slips]
        if len(rest) > 1:
            self._ambiguous[surface] = ", ".join(f"{label} {count:,}" for label, count in rest)

    def _decide_variants(self, several: dict[str, list[str]]) -> None:
        spellings: dict[str, set[str]] = {}
        for surface in self._labels:
            if not surface.isascii() and (plain := unicodedata.normalize("NFKC", surface)) != surface:
                spellings.setdefault(plain, {plain} & self._labels.keys()).add(surface)
        for group in spellings.values():
            labels = {surface: several.get(surface, [self._labels[surface]]) for surface in group}
            totals = {surface: sum(self._counts[surface, label] for label in labels[surface]) for surface in group}
            usual = max(sorted(group), key=lambda surface: totals[surface])
            for surface in group - {usual}:
                detail = f"{totals[surface]:,} so, {totals[usual]:,} as {visible(usual)!r}"
                unseen = " in other code points" if visible(usual) == visible(surface) else ""
                self._variants[surface] = detail + unseen

    def _unannotated(self, text: str, entities: tuple[Entity, ...]) -> Iterator[tuple[int, int]]:
        """Where a surface that is looked for stands free of all entities: the longest first, none inside another."""
        if not self._lengths:
            return
        taken = bytearray(len(text))
        for entity in entities:
            taken[entity.start : entity.end] = b"\1" * (entity.end - entity.start)
        start, last, lengths = 0, len(text) - _SHORTEST, self._lengths
        while start <= last:
            following = start + 1
            for length in lengths.get(text[start : start + _SHORTEST], ()):
                end = start + length
                if end > len(text) or text[start:end] not in self._wanted:
                    continue
                if not any(taken[start:end]) and _whole(text, start, end):
                    yield start, end
                    following = end
                    break
            start = following


def _searchable(surface: str) -> bool:
    return len(surface) >= _SHORTEST and any(character.isalpha() for character in surface)


def _whole(text: str, start: int, end: int) -> bool:
    """Whether a stretch is cut out between words, in the scripts that have spaces; anywhere in the others."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (_in_word(before) and _in_word(text[start])) and not (_in_word(text[end - 1]) and _in_word(after))


def _in_word(character: str) -> bool:
    """Whether it is a letter, digit or mark of a script that puts spaces between words.

    Without spaces, or with words that grow at their ends, are written: Thai to Burmese, Khmer, Japanese, Chinese, Korean.
    """
    if character.isascii():
        return character.isalnum() or character == "_"
    if "\u0e00" <= character <= "\u109f" or "\u1780" <= character <= "\u17ff" or "\u2e80" <= character <= "\ud7ff":
        return False
    return unicodedata.category(character)[0] in "LNM" and not "\uf900" <= character <= "\U0003ffff"
