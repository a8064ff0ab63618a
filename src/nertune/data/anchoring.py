"""Find the place of a mention whose span does not cut out its surface.

A mention is looked for, in this order: in its slice, but for white space and Unicode form; at its start, whatever its
end says; at the nearest place where its surface stands; and there again but for white space and Unicode form.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Literal, NamedTuple

__all__ = ["Anchor", "Anchors", "How"]

How = Literal["alike", "start", "moved"]
"""Why a mention stands where it does.

`alike`: the text at its span, or at its start, is its surface but for white space, line breaks or Unicode form (NFKC:
full-width, composed). `start`: its surface stands at its start, and only the end is wrong. `moved`: elsewhere.
"""

_LOOKED_AT = 20  # occurrences that are looked at for one where no other mention stands
_LOOSE = 64  # characters by which a slice may exceed four times its surface and still be compared with it


class Anchor(NamedTuple):
    """The place [start, end) of a mention in code points, why it is there, and at how many places its surface stands."""

    start: int
    end: int
    how: How
    places: int = 1


class Anchors:
    """The places of one document's mentions that do not stand where their spans say.

    Mentions that begin at different places in the file get different places in the text as long as there are some: a text
    that was changed after it was annotated shifts all mentions of one surface.

    Args:
        text: the document's text.
        mentions: surface and start, in code points, of all of its mentions; those that stand at their start keep it.
    """

    def __init__(self, text: str, mentions: Iterable[tuple[str, int]]) -> None:
        self._text = text
        self._taken: dict[str, dict[int, int]] = {}  # surface -> place in the text -> start in the file
        self._counted: dict[str, int] = {}
        for surface, start in mentions:
            taken = self._taken.setdefault(surface, {})
            if start >= 0 and text.startswith(surface, start):
                taken[start] = start

    def find(self, surface: str, start: int, span: tuple[int, int] | None) -> Anchor | None:
        """The place of a mention; None where the text does not hold its surface.

        Args:
            surface: the mention's text as the file gives it, not equal to its slice.
            start: where the file says that it begins, in code points; may lie outside of the text.
            span: the mention's slice, None where the file's span is empty or not within the text.
        """
        inner = None if span is None else self._inner(surface, span)
        if inner is not None:
            return Anchor(*inner, "alike")
        if not surface:
            return None
        if start >= 0 and self._text.startswith(surface, start):
            return Anchor(start, start + len(surface), "start")
        exact = ((place, place + len(surface)) for place in _outward(self._text, surface, start))
        return self._free(surface, start, exact) or self._free(surface, start, self._folded_places(surface, start))

    def _inner(self, surface: str, span: tuple[int, int]) -> tuple[int, int] | None:
        """The slice, if it equals the surface but for form, without white space at its edges that the surface has not."""
        start, end = span
        if end - start > 4 * len(surface) + _LOOSE:
            return None
        piece = self._text[start:end]
        if not surface[:1].isspace():
            start = end - len(piece.lstrip())
        if not surface[-1:].isspace():
            end = max(start, end - len(piece) + len(piece.rstrip()))
        wanted = _folded(surface, "")
        return (start, end) if wanted and _folded(self._text[start:end], "") == wanted else None

    def _free(self, surface: str, start: int, places: Iterator[tuple[int, int]]) -> Anchor | None:
        """The first of `places` where no mention stands that begins elsewhere in the file; the very first if none is."""
        taken = self._taken.setdefault(surface, {})
        found = list(islice(places, 2))
        if not found:
            return None
        looked_at = (*found, *islice(places, _LOOKED_AT if found[-1][0] in taken else 0))
        place = next((place for place in looked_at if taken.get(place[0], start) == start), found[0])
        taken.setdefault(place[0], start)
        how: How = "alike" if place[0] == start else "moved"
        return Anchor(*place, how, 1 if len(found) == 1 else self._places(surface))

    def _places(self, surface: str) -> int:
        """At how many places a surface stands that stands at more than one."""
        if surface not in self._counted:
            self._counted[surface] = max(2, self._text.count(surface))
        return self._counted[surface]

    def _folded_places(self, surface: str, start: int) -> Iterator[tuple[int, int]]:
        """Where the surface stands but for Unicode form and the kind and length of white space, the nearest first."""
        wanted = _folded(surface, " ")
        if not wanted:
            return
        text, origins = self._folding
        for first in _outward(text, wanted, bisect_left(origins, start)):
            last = first + len(wanted)
            begins_within = first > 0 and origins[first - 1] == origins[first]
            ends_within = last < len(text) and (origins[last] == origins[last - 1] or unicodedata.combining(text[last]))
            if not begins_within and not ends_within:
                yield origins[first], origins[last - 1] + 1

    @cached_property
    def _folding(self) -> tuple[str, list[int]]:
        """The text in its compatibility form (NFKD), a space for any white space; and where each character comes from."""
        pieces: list[str] = []
        origins: list[int] = []
        for place, character in enumerate(self._text):
            for piece in unicodedata.normalize("NFKD", character):
                if not piece.isspace():
                    pieces.append(piece)
                    origins.append(place)
                elif not pieces or pieces[-1] != " ":
                    pieces.append(" ")
                    origins.append(place)
        return "".join(pieces), origins


def _folded(text: str, space: str) -> str:
    """The compatibility form (NFKD), with `space` for the white space within."""
    return space.join(unicodedata.normalize("NFKD", text).split())


def _outward(text: str, surface: str, start: int) -> Iterator[int]:
    """Where a surface stands, the nearest to `start` first, the earlier of two that are equally near. Overlaps count."""
    left = text.rfind(surface, 0, start + len(surface)) if start >= 0 else -1
    right = text.find(surface, max(start + 1, 0))
    while left >= 0 or right >= 0:
        if right < 0 or (left >= 0 and start - left <= right - start):
            yield left
            left = text.rfind(surface, 0, left + len(surface) - 1)
        else:
            yield right
            right = text.find(surface, right + 1)
