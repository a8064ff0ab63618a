"""Texts of any length: cut into windows that overlap, read one by one, and put together again with global offsets.

A window ends after a sentence wherever the sentences fit, and the next one begins at least a sentence earlier. Every span
of the text is judged by one window alone: the one that shows most of the text around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import NamedTuple

from nertune.extract.sentences import LONGEST_TOKEN, Atom, atoms
from nertune.schema import Entity, ParseOutcome, Prediction

__all__ = ["Parts", "Window", "merge", "split", "whole"]

# Shares of a window: the longest stretch that is not cut further, so also the least that two windows have in common
# where their sentences allow it; and the most.
_LEAST, _MOST = 8, 2
_OUTCOMES = tuple(ParseOutcome)  # from best to worst


class Window(NamedTuple):
    """Half-open characters of the text, without the white space at either end."""

    start: int
    end: int


class Parts(NamedTuple):
    """The windows, both ends increasing. `cut`: a sentence is longer than a window, so no window shows all of it."""

    windows: tuple[Window, ...]
    cut: bool


def whole(text: str) -> Parts:
    """One window that shows all of a text."""
    return Parts((Window(0, len(text)),), cut=False)


def split(text: str, size: int, count: Callable[[str], int]) -> Parts:
    """Windows of at most `size` tokens, as `count` has them. A text that fits is one window, white space and all.

    Together the windows show everything but white space. Neighbours share the last sentence before the cut, more of them
    where they are short, and some of its end where it is longer than half a window or leaves the next sentence no room. A
    sentence is cut, at a comma, a space, or between two characters, where it leaves less than an eighth of a window free.
    """
    if len(text) <= size * LONGEST_TOKEN and count(text) <= size:
        return whole(text)
    layout = _Layout(text, size, count, list(atoms(text, max(1, size // _LEAST), count)))
    chosen: list[tuple[int, int]] = []
    start = end = 0
    while end < layout.last:
        start, end = layout.fitting(layout.start_before(end), end)
        while chosen and chosen[-1][0] >= start:
            chosen.pop()
        chosen.append((start, end))
    windows: list[Window] = []
    for start, end in chosen:
        window = _trimmed(text, layout.bounds[start], layout.bounds[end])
        while windows and windows[-1].start >= window.start:
            windows.pop()
        if window.start < window.end and not (windows and windows[-1].end >= window.end):
            windows.append(window)
    return Parts(tuple(windows), layout.cuts_a_sentence(chosen))


def _trimmed(text: str, start: int, end: int) -> Window:
    shown = text[start:end]
    return Window(end - len(shown.lstrip()), start + len(shown.rstrip()))


class _Layout:
    """A text as atoms. A place is a number of atoms: `bounds`, `ranks` and `spent` say where it is, how good, at what cost."""

    def __init__(self, text: str, size: int, count: Callable[[str], int], pieces: Sequence[Atom]) -> None:
        self.text, self.size, self.count = text, size, count
        self.last = len(pieces)
        self.bounds, self.ranks, self.spent = [0], [3], [0]
        for piece in pieces:
            self.bounds.append(piece.end)
            self.ranks.append(piece.rank)
            self.spent.append(self.spent[-1] + piece.cost)

    def start_before(self, end: int) -> int:
        """Where the window begins that follows one which ends at `end`."""
        if end == 0:
            return 0
        room = self.size // _MOST
        following = self._sentence_after(end)
        if self.ranks[end] == 3 and following <= self.size - self.size // _LEAST:
            room = min(room, self.size - following)
        places = [end - 1]
        while places[-1] > 0 and self.spent[end] - self.spent[places[-1] - 1] <= room:
            places.append(places[-1] - 1)
        for rank in (3, 2, 1, 0):
            if among := [place for place in places if self.ranks[place] >= rank]:
                ample = (place for place in among if self.spent[end] - self.spent[place] >= self.size // _LEAST)
                return next(ample, among[-1])
        return end

    def fitting(self, start: int, after: int) -> tuple[int, int]:
        """A window from `start` to the best place beyond `after`, the last one of its rank; a later start where it must be."""
        end = max(bisect_right(self.spent, self.spent[start] + self.size) - 1, after + 1)
        while end > after + 1 and not self._fits(start, end):
            end -= 1
        while start < after and not self._fits(start, end):
            start += 1
        if end < self.last:
            end = max(range(after + 1, end + 1), key=lambda place: (self.ranks[place], place))
        return start, end

    def cuts_a_sentence(self, chosen: Sequence[tuple[int, int]]) -> bool:
        """Whether there is a sentence that none of the windows shows whole."""
        ends = [end for _, end in chosen]
        sentences = pairwise(place for place, rank in enumerate(self.ranks) if rank == 3)
        return any(chosen[bisect_left(ends, end)][0] > start for start, end in sentences)

    def _fits(self, start: int, end: int) -> bool:
        # Tokens of the whole may be other ones than those of its parts.
        return self.count(self.text[self.bounds[start] : self.bounds[end]].strip()) <= self.size

    def _sentence_after(self, place: int) -> int:
        """Tokens to the end of the sentence that begins at a place, or more than a window where they are more."""
        end = place + 1
        while end < self.last and self.ranks[end] < 3 and self.spent[end] - self.spent[place] <= self.size:
            end += 1
        return self.spent[min(end, self.last)] - self.spent[place]


def merge(text: str, parts: Parts, predictions: Sequence[Prediction]) -> Prediction:
    """One prediction from those of the windows.

    An entity counts where it comes from the window that shows its span with most text on both sides (the earlier one of two
    equals); an answer that was cut off or could not be read leaves the judgement to another window. Two parts of one
    label that fill all that two windows share, one up to an edge and one from an edge on, are one entity. Of two entities
    that overlap and come from different windows the one farther from its window's edge stands, and the other with it if
    that window named it too, or if it lies inside or around it and that window could not see it whole.
    """
    if parts == whole(text):
        return predictions[0]
    reading = _Reading(parts.windows, predictions)
    entities = reading.consistent(reading.judged(_joined(text, parts.windows, reading.found)))
    return Prediction(
        text,
        tuple(entities),
        tuple(mention for prediction in predictions for mention in prediction.ungrounded),
        stop="length" if any(prediction.stop == "length" for prediction in predictions) else "end",
        outcome=max((prediction.outcome for prediction in predictions), key=_OUTCOMES.index),
        windows=len(parts.windows),
        cut=parts.cut,
    )


class _Found(NamedTuple):
    """An entity at its place in the text, and the number of the window that named it."""

    entity: Entity
    window: int


class _Reading:
    """What the windows said, and which of them is believed where."""

    def __init__(self, windows: Sequence[Window], predictions: Sequence[Prediction]) -> None:
        self._windows = windows
        self._starts, self._ends = [window.start for window in windows], [window.end for window in windows]
        self._sound = [p.stop == "end" and p.outcome is not ParseOutcome.INVALID for p in predictions]
        self.found = [
            [_moved(entity, window.start) for entity in prediction.entities]
            for window, prediction in zip(windows, predictions, strict=True)
        ]
        self._named = [{_key(entity) for entity in entities} for entities in self.found]

    def judged(self, found: Sequence[Sequence[Entity]]) -> list[_Found]:
        """The entities that come from the window which is believed about their span."""
        return [
            _Found(entity, number)
            for number, entities in enumerate(found)
            for entity in entities
            if self._judge(entity) in (None, number)
        ]

    def consistent(self, found: Sequence[_Found]) -> list[Entity]:
        """The entities that do not contradict one from another window that is farther from its edge."""
        kept: list[list[Entity]] = [[] for _ in self._windows]
        for entity, number in sorted(found, key=lambda f: (-self._depth(f.entity, f.window), f.window)):
            others = range(bisect_right(self._ends, entity.start), bisect_left(self._starts, entity.end))
            if all(self._allows(other, kept[other], entity) for other in others if other != number):
                kept[number].append(entity)
        return [entity for entities in kept for entity in entities]

    def _judge(self, entity: Entity) -> int | None:
        """The window that shows most of the text around a span; None where no window shows all of it."""
        seen = range(bisect_left(self._ends, entity.end), bisect_right(self._starts, entity.start))
        return max(seen, key=lambda number: (self._sound[number], self._depth(entity, number)), default=None)

    def _depth(self, entity: Entity, number: int) -> float:
        """Characters between a span and the nearer edge of a window. Where the text ends is no edge."""
        left = entity.start - self._starts[number] if number else inf
        return min(left, self._ends[number] - entity.end if number + 1 < len(self._windows) else inf)

    def _allows(self, number: int, kept: Sequence[Entity], entity: Entity) -> bool:
        rivals = [rival for rival in kept if rival.start < entity.end and entity.start < rival.end]
        if not rivals:
            return True
        window = self._windows[number]
        if self._sound[number] and window.start <= entity.start and entity.end <= window.end:
            return _key(entity) in self._named[number]
        return all(_nested(rival, entity) or _nested(entity, rival) for rival in rivals)


def _joined(text: str, windows: Sequence[Window], found: Sequence[Sequence[Entity]]) -> list[list[Entity]]:
    """What the windows found, with the parts of entities longer than an overlap put together."""
    joined = [list(entities) for entities in found]
    for number, (left, right) in enumerate(pairwise(windows)):
        for part in list(joined[number + 1]):
            if part.start != right.start or part.end <= left.end:
                continue
            for other in joined[number]:
                if other.label == part.label and other.start < part.start < other.end == left.end:
                    joined[number].remove(other)
                    joined[number + 1].remove(part)
                    joined[number + 1].append(_whole_of(text, other, part))
                    break
    return joined


def _whole_of(text: str, left: Entity, right: Entity) -> Entity:
    """The entity of which two windows named a part each: as sure as the less sure of the two."""
    least = (
        min((score for score in scores if score is not None), default=None)
        for scores in (
            (left.score, right.score),
            (left.span_score, right.span_score),
            (left.label_score, right.label_score),
        )
    )
    return Entity(right.label, left.start, right.end, text[left.start : right.end], *least)


def _moved(entity: Entity, by: int) -> Entity:
    return replace(entity, start=entity.start + by, end=entity.end + by)


def _key(entity: Entity) -> tuple[str, int, int]:
    return entity.label, entity.start, entity.end


def _nested(outer: Entity, inner: Entity) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end
