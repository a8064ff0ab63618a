"""Notes that carry a count, true at every moment of a reading that nobody may finish."""

from __future__ import annotations

from collections import Counter

__all__ = ["Tally"]


class Tally:
    """Counts kinds of things into a reader's notes: a line for each kind, rewritten as it grows.

    `limit`: how many documents are wanted; what is in those beyond, which are read ahead, is not counted.
    """

    def __init__(self, notes: list[str], *, limit: int | None = None) -> None:
        self._notes = notes
        self._limit = limit
        self._documents = 0
        self._lines: dict[str, int] = {}
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def next_document(self) -> None:
        """What is counted from here on is in the next document."""
        self._documents += 1

    def add(self, kind: str, *, line: int | None = None, count: int = 1) -> None:
        """One more of a kind; `line`: where it is, told of the first."""
        if not count or (self._limit is not None and self._documents > self._limit):
            return
        if kind not in self._lines:
            self._lines[kind] = len(self._notes)
            self._first[kind] = "" if line is None else f" (the first at line {line:,})"
            self._notes.append("")
        self._counts[kind] += count
        self._notes[self._lines[kind]] = f"{kind}: {self._counts[kind]:,}{self._first[kind]}"
