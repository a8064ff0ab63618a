"""Mentions without offsets, as LLMs' answers have them: each placed by the order of occurrence in its text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nertune.schema import Entity, Mention

__all__ = ["by_occurrence", "nearest"]


def nearest(pattern: re.Pattern[str], text: str, place: int) -> str | None:
    """Of what `pattern` matches in `text`, that which begins nearest to `place`; None where it matches nothing."""
    found = min(pattern.finditer(text), key=lambda match: abs(match.start() - place), default=None)
    return None if found is None else found.group()


def by_occurrence(text: str, mentions: Iterable[Mention]) -> tuple[list[Entity], list[Mention]]:
    """Entities, and the mentions that found no place: in reading order where the mentions can have that, else by turn.

    By turn, the n-th mention of a surface stands at that surface's n-th occurrence.
    """
    mentions = list(mentions)
    for outside in (True, False):
        entities = _in_reading_order(text, mentions, outside=outside)
        if entities is not None:
            return entities, []
    return _by_turn(text, mentions)


def _in_reading_order(text: str, mentions: Iterable[Mention], *, outside: bool) -> list[Entity] | None:
    """Each mention at its first occurrence after the one before; None if there is none: the order is another.

    With `outside` an occurrence after all earlier entities goes first: "香港" named after a film stands behind that film,
    not in the "香港艺术发展局" before it.
    """
    entities: list[Entity] = []
    reached, last = 0, (-1, 0, "")
    for label, surface in ((mention.label, mention.text) for mention in mentions):
        # The order of Document: by start, longer before shorter, then by label.
        places = [(start, -start - len(surface), label) for start in _occurrences(text, surface) if start >= last[0]]
        after = [place for place in places if place > last]
        if not after:
            return None
        last = next((place for place in after if outside and place[0] >= reached), after[0])
        entities.append(Entity(label, last[0], -last[1], surface))
        reached = max(reached, -last[1])
    return entities


def _by_turn(text: str, mentions: Iterable[Mention]) -> tuple[list[Entity], list[Mention]]:
    """The n-th mention of a text at its n-th occurrence.

    Where a surface is mentioned more often than it occurs, the surplus takes the first occurrence that does not bear
    its label yet: the answers that give each (label, text) once say so when one stretch has two labels.
    """
    entities: dict[tuple[int, int, str], Entity] = {}
    mentioned: dict[str, int] = {}
    missed: list[Mention] = []
    for label, surface in ((mention.label, mention.text) for mention in mentions):
        starts = _occurrences(text, surface)
        turn = mentioned.get(surface, 0)
        mentioned[surface] = turn + 1
        keys = [(start, start + len(surface), label) for start in (starts[turn : turn + 1] or starts)]
        free = [key for key in keys if key not in entities]
        if free:
            start, end, _ = free[0]
            entities[free[0]] = Entity(label, start, end, surface)
        else:
            missed.append(Mention(label, surface))
    return list(entities.values()), missed


def _occurrences(text: str, surface: str) -> list[int]:
    starts: list[int] = []
    start = text.find(surface) if surface else -1
    while start >= 0:
        starts.append(start)
        start = text.find(surface, start + len(surface))
    return starts
