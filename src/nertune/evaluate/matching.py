"""Which predicted entity answers which gold one: an optimal one-to-one matching of the entities of one document.

What error analysis stands on. Entities can only be paired that have a character in common. Nothing depends on the order in
which entities are given, also where they are nested, overlap, or are repeated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np

from nertune.schema import Entity, best_of_each, in_reading_order

__all__ = ["Edges", "Matching", "assigned", "match"]

# By the index of a gold entity, the indices of the predicted ones that it overlaps, and what each pair is worth.
Edges: TypeAlias = Mapping[int, Mapping[int, float]]


class Matching(NamedTuple):
    """Every distinct entity of both sides once, each part in reading order; `pairs` are (gold, predicted)."""

    pairs: tuple[tuple[Entity, Entity], ...]
    missed: tuple[Entity, ...]
    spurious: tuple[Entity, ...]


def match(gold: Iterable[Entity], predicted: Iterable[Entity]) -> Matching:
    """The matching that has, each among the best by what stands before it, the most pairs

    1. of equal label and place, 2. of equal place, 3. of equal label, 4. at all, and 5. the most characters in common.

    An entity given twice counts once. Entities of equal label and place are always paired with each other; the rest falls
    into groups that overlap, and only a group with several entities on both sides needs the assignment problem solved
    (Crouse 2016, On implementing 2D rectangular assignment algorithms, as scipy has it).
    """
    left, right = _distinct(gold), _distinct(predicted)
    if left == right:
        return Matching(tuple(zip(left, right, strict=True)), (), ())
    pairs = {entity: other for entity, other in zip(left, _equals(left, right), strict=True) if other is not None}
    found = set(pairs)
    rest, others = [e for e in left if e not in found], [e for e in right if e not in found]
    if rest and others:
        pairs |= {rest[i]: others[j] for i, j in assigned(_edges(rest, others))}
    taken = set(pairs.values())
    return Matching(
        tuple((entity, pairs[entity]) for entity in left if entity in pairs),
        tuple(entity for entity in left if entity not in pairs),
        tuple(entity for entity in right if entity not in taken),
    )


def _distinct(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    return in_reading_order(best_of_each(entities))


def _equals(left: Sequence[Entity], right: Sequence[Entity]) -> list[Entity | None]:
    known = {entity: entity for entity in right}
    return [known.get(entity) for entity in left]


def _edges(gold: Sequence[Entity], predicted: Sequence[Entity]) -> Edges:
    """All pairs that overlap. Shares of characters add up to less than 1, and each level to less than one of the next."""
    base = min(len(gold), len(predicted)) + 1
    characters = sum(entity.end - entity.start for entity in gold) + 1
    starts = [entity.start for entity in predicted]
    longest = max(entity.end - entity.start for entity in predicted)
    edges: dict[int, dict[int, float]] = {}
    for i, wanted in enumerate(gold):
        first = bisect_left(starts, wanted.start - longest)
        for j in range(first, bisect_left(starts, wanted.end)):
            other = predicted[j]
            common = min(wanted.end, other.end) - max(wanted.start, other.start)
            if common > 0:
                place = (wanted.start, wanted.end) == (other.start, other.end)
                worth = base * base * place + base * (wanted.label == other.label) + 1
                edges.setdefault(i, {})[j] = worth + common / characters
    return edges


def assigned(edges: Edges) -> list[tuple[int, int]]:
    """The pairs of highest worth, group by group."""
    pairs: list[tuple[int, int]] = []
    for rows in _groups(edges):
        columns = sorted(set(chain.from_iterable(edges[i] for i in rows)))
        if len(rows) == 1:
            pairs.append((rows[0], max(columns, key=lambda j: edges[rows[0]][j])))
        elif len(columns) == 1:
            pairs.append((max(rows, key=lambda i: edges[i][columns[0]]), columns[0]))
        else:
            from scipy.optimize import linear_sum_assignment  # rarely wanted, and dear to import

            worth = np.array([[edges[i].get(j, 0.0) for j in columns] for i in rows])
            chosen = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
            pairs += [(rows[a], columns[b]) for a, b in chosen if worth[a, b] > 0]
    return pairs


def _groups(edges: Edges) -> list[list[int]]:
    """Gold entities that share predicted ones, directly or over others."""
    over: dict[int, list[int]] = {}
    for i, row in edges.items():
        for j in row:
            over.setdefault(j, []).append(i)
    groups: list[list[int]] = []
    seen: set[int] = set()
    for first in edges:
        if first in seen:
            continue
        group, waiting = [], [first]
        seen.add(first)
        while waiting:
            group.append(waiting.pop())
            new = {i for j in edges[group[-1]] for i in over[j]} - seen
            seen |= new
            waiting += new
        groups.append(sorted(group))
    return groups
