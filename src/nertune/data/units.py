"""Code points or UTF-16 units, where no mention names its surface: told from the spans alone, with caution.

The two differ only behind a character beyond U+FFFF (emoji, rare ideographs). There a span may fit its text in one unit
and not in the other, because it ends past the text or cuts a surrogate pair; or only one of its two readings begins and
ends where a name may: neither on white space or punctuation nor within a word of letters or digits.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

__all__ = ["Ballot"]

_FEWEST = 3  # spans with clean edges that decide where nothing else does
_MAJORITY = 3  # times as many of them as speak for the other unit

Span = tuple[int, int]


class Ballot:
    """Counts what speaks for which unit."""

    def __init__(self) -> None:
        self._fits: Counter[str] = Counter()
        self._edges: Counter[str] = Counter()
        self._seen = 0

    def count(self, text: str, points: Span | None, units: Span | None) -> None:
        """One mention's two readings, as half-open code points; None where a reading does not fit the text."""
        if points == units:
            return
        self._seen += 1
        if points is None or units is None:
            self._fits["points" if units is None else "units"] += 1
            return
        faults = _faults(text, points), _faults(text, units)
        if faults[0] != faults[1]:
            self._edges["points" if faults[0] < faults[1] else "units"] += 1

    @property
    def utf_16(self) -> bool:
        """Whether the spans count UTF-16 units: only where they say so clearly."""
        fits, edges = self._fits, self._edges
        if fits["units"] != fits["points"]:
            more = fits["units"] + edges["units"] > fits["points"] + edges["points"]
            return fits["units"] > fits["points"] and more
        return edges["units"] >= max(_FEWEST, _MAJORITY * edges["points"])

    @property
    def said(self) -> str:
        """The evidence in words; empty where no span reads differently in the two units."""
        if not self._seen:
            return ""
        winner, loser, other = (
            ("units", "points", "code points") if self.utf_16 else ("points", "units", "UTF-16 units")
        )
        fits, edges = self._fits, self._edges
        behind = f"of {self._seen:,} behind a character beyond U+FFFF"
        if not fits and not edges:
            return f"{behind} none tells it from UTF-16 units; if it is wrong, say --offsets"
        return (
            f"{behind} {fits[winner]:,} fit their text only so and {edges[winner]:,} have clean edges only so "
            f"({other}: {fits[loser]:,} and {edges[loser]:,}); if it is wrong, say --offsets"
        )


def _faults(text: str, span: Span) -> int:
    """How many edges of a span are where no name begins or ends."""
    start, end = span
    return sum(
        (
            _is_filler(text[start]) or (start > 0 and _joined(text[start - 1], text[start])),
            _is_filler(text[end - 1]) or (end < len(text) and _joined(text[end - 1], text[end])),
        )
    )


def _is_filler(character: str) -> bool:
    return unicodedata.category(character)[0] in "ZPC"


def _joined(left: str, right: str) -> bool:
    """Whether both are of one word, in scripts that part words by spaces; only Latin is asked, to be sure."""
    return left.isascii() and right.isascii() and left.isalnum() and right.isalnum()
