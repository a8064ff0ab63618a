"""Counts that a reader keeps of what it passes over, as notes that are right whenever they are read."""

from __future__ import annotations

from collections import Counter

__all__ = ["Tally"]


class Tally:
    """Counts by sentence: each is a note as soon as something of its kind was counted.

    A sentence is what the number stands before: `relations passed over`. The notes keep the order of the first counts.
    """

    def __init__(self, notes: list[str], *, limit: int | None = None) -> None:
        self._notes, self._limit = notes, limit
        self._counts: Counter[str] = Counter()
        self._places: dict[str, int] = {}
        self._document = 0

    def next_document(self) -> None:
        """The counts from here on are about the next document; those beyond the limit are not counted."""
        self._document += 1

    def add(self, sentence: str, count: int = 1) -> None:
        """Count `count` more of a kind."""
        if not count or (self._limit is not None and self._document > self._limit):
            return
        self._counts[sentence] += count
        if sentence not in self._places:
            self._places[sentence] = len(self._notes)
            self._notes.append("")
        self._notes[self._places[sentence]] = f"{sentence}: {self._counts[sentence]:,}"
