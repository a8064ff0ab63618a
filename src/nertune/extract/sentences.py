"""Where a text may be cut: after sentences, else after clauses, else at white space, else between two characters.

A cut never parts what readers see as one character: the rules are those of grapheme clusters (Unicode Standard Annex #29)
as far as Python's character data tells them; regional indicators stay in pairs, CR stays with LF.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

__all__ = ["LONGEST_TOKEN", "Atom", "Rank", "atoms", "parts_cluster"]

Rank = int
"""How good a place is to cut at: 3 after a sentence, 2 after a clause, 1 after white space, 0 anywhere else."""

# Characters, more than any token stands for: what is longer than so many tokens of it need not be counted to be too long.
LONGEST_TOKEN = 64

_CLOSING = r"[”’\"'」』》〉）)】〕］\]}»]*"
_NO_ABBREVIATION = r"(?<!\b[A-Za-z])(?<!\b(?:Mr|Ms|Dr|St|No|vs|cf))(?<!\bMrs)(?<!\bProf)"
_BOUNDS = {
    # ASCII marks stand inside numbers, addresses and code too: there they end nothing.
    3: re.compile(
        rf"[。！？；｡][。！？；｡!?;]*{_CLOSING}\s*|[!?;]+{_CLOSING}(?=\s|[^\x00-\x7f])\s*"
        rf"|{_NO_ABBREVIATION}\.+{_CLOSING}\s+|[\n\r\v\f\x85\u2028\u2029]\s*"
    ),
    2: re.compile(rf"[，、：—…]+{_CLOSING}\s*|[,:]{_CLOSING}(?=\s|[^\x00-\x7f])\s*"),
    1: re.compile(r"\s+"),
}
# The longest run of marks after a letter that sound text has (Stream-Safe Text Format, Unicode Standard Annex #15).
_CLUSTER = 32
_FLAGS = 256


class Atom(NamedTuple):
    """A stretch of a text that is not cut: where it ends, its tokens, and the rank of the place where it ends."""

    end: int
    cost: int
    rank: Rank


def atoms(text: str, most: int, count: Callable[[str], int]) -> Iterator[Atom]:
    """The text from left to right in stretches of at most `most` tokens, as `count` has them, each as long as its bounds allow.

    A single character may have more than `most`.
    """
    return _divide(text, (0, len(text)), 3, most, count, _cost(text, (0, len(text)), most, count))


def _divide(
    text: str, stretch: tuple[int, int], rank: Rank, most: int, count: Callable[[str], int], known: int
) -> Iterator[Atom]:
    """A stretch of `known` tokens in atoms, cut at bounds of `rank` and, where that is not enough, of lower ones."""
    for piece in _pieces(text, *stretch, rank, most):
        # What has no bound of this rank has been counted already.
        cost = known if piece == stretch else _cost(text, piece, most, count)
        begin, end = piece
        if cost <= most:
            yield Atom(end, cost, rank)
        elif rank:
            inner = _scaled(list(_divide(text, piece, rank - 1, most, count, cost)), cost)
            yield from inner[:-1]
            yield inner[-1]._replace(rank=rank)
        else:
            middle = _place_near(text, (begin + end) // 2, begin)
            halves = [(begin, middle), (middle, end)] if begin < middle < end else []
            for half in halves:
                yield from _divide(text, half, 0, most, count, _cost(text, half, most, count))
            if not halves:
                yield Atom(end, cost, rank)


def _scaled(parts: list[Atom], cost: int) -> list[Atom]:
    """The atoms with costs that sum to no more than those of the whole: words alone have more tokens than words in a row."""
    total = sum(part.cost for part in parts)
    if total <= cost:
        return parts
    sums = [0, *accumulate(part.cost for part in parts)]
    return [
        part._replace(cost=after * cost // total - before * cost // total)
        for part, (before, after) in zip(parts, pairwise(sums), strict=True)
    ]


def _cost(text: str, stretch: tuple[int, int], most: int, count: Callable[[str], int]) -> int:
    """Tokens of a stretch; of one that is certainly too long, its characters."""
    begin, end = stretch
    return count(text[begin:end]) if end - begin <= most * LONGEST_TOKEN else end - begin


def _pieces(text: str, start: int, end: int, rank: Rank, most: int) -> Iterator[tuple[int, int]]:
    """A stretch cut at every bound of a rank; at rank 0 into at most `most` characters."""
    if rank:
        for match in _BOUNDS[rank].finditer(text, start, end):
            if match.end() < end and not parts_cluster(text, match.end()):
                yield start, match.end()
                start = match.end()
    else:
        while end - start > most and (place := _place_near(text, start + most, start)) < end:
            yield start, place
            start = place
    yield start, end


def _place_near(text: str, place: int, floor: int) -> int:
    """The nearest place that parts no cluster, above `floor`: backwards first, then forwards; `place` where there is none."""
    backwards = range(place, max(floor, place - _CLUSTER), -1)
    forwards = range(place + 1, min(len(text), place + _CLUSTER) + 1)
    for candidates in (backwards, forwards):
        for candidate in candidates:
            if not parts_cluster(text, candidate):
                return candidate
    return place


def parts_cluster(text: str, place: int) -> bool:
    """Whether a cut before `text[place]` goes through what is seen as one character."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if after < "\u0300":
        return before == "\r" and after == "\n"
    if "\u200d" in (before, after) or after in "\u200c\u0e33\u0eb3\uff9e\uff9f":
        return True
    if unicodedata.category(after)[0] == "M" or "\U0001f3fb" <= after <= "\U0001f3ff":
        return True
    if "\U000e0020" <= after <= "\U000e007f":
        return True
    if "\u1160" <= after <= "\u11ff" or "\ud7b0" <= after <= "\ud7fb":
        return True
    if "\u1100" <= before <= "\u115f" or "\ua960" <= before <= "\ua97c":
        return "\u1100" <= after <= "\u115f" or "\uac00" <= after <= "\ud7a3" or "\ua960" <= after <= "\ua97c"
    if _is_regional(before) and _is_regional(after):
        run = 1
        while run < min(place, _FLAGS) and _is_regional(text[place - 1 - run]):
            run += 1
        return run % 2 == 1
    return False


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
