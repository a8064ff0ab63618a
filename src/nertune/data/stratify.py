"""Iterative stratification: parts of given sizes in which every label has its share (Sechidis, Tsoumakas, Vlahavas 2011).

"On the stratification of multi-label data", ECML PKDD 2011, algorithm 1, with two changes. What is placed is a group of
documents, whole; and what is shared out are mentions, so that a sentence with three names counts three. All counting is in
whole numbers: the same input and seed give the same parts on every machine.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from nertune.schema import Document

__all__ = ["stratify"]


def stratify(
    documents: Sequence[Document], sizes: Sequence[int], *, seed: int, groups: Sequence[int] | None = None
) -> list[int]:
    """The number, from 0, of the part that each document goes to.

    `sizes`: how many documents each part is to have, in all as many as there are. `groups`: a number for each document;
    those with equal numbers go to one part (None: each stands alone). Where groups do not fit, sizes are missed by as
    little as may be. The label with the fewest groups left is shared out first, each of its groups to the part that lacks
    most of it; what holds no entity fills up.
    """
    numbers = range(len(documents)) if groups is None else groups
    members: dict[int, list[int]] = {}
    for place, group in enumerate(numbers):
        members.setdefault(group, []).append(place)
    units = list(members.values())
    rng = random.Random(seed)
    rng.shuffle(units)
    parts = _Parts(
        sizes, [Counter(e.label for place in unit for e in documents[place].entities) for unit in units], rng
    )
    waiting: dict[str, set[int]] = {}
    for number, labels in enumerate(parts.labels):
        for label in labels:
            waiting.setdefault(label, set()).add(number)
    part_of: dict[int, int] = {}
    while waiting:
        rarest = min(waiting, key=lambda label: (len(waiting[label]), label))
        for number in sorted(waiting.pop(rarest)):
            part_of[number] = parts.place(number, len(units[number]), rarest)
            for label in parts.labels[number]:
                if label in waiting:
                    waiting[label].discard(number)
        waiting = {label: left for label, left in waiting.items() if left}
    for number in range(len(units)):
        if number not in part_of:
            part_of[number] = parts.place(number, len(units[number]), None)
    chosen = {place: part_of[number] for number, unit in enumerate(units) for place in unit}
    return [chosen[place] for place in range(len(documents))]


class _Parts:
    """What the parts still lack: documents, and mentions of each label times the number of all documents."""

    def __init__(self, sizes: Sequence[int], labels: Sequence[Counter[str]], rng: random.Random) -> None:
        self.labels = labels
        self._rng = rng
        self._room = list(sizes)
        self._all = sum(sizes)
        total: Counter[str] = Counter()
        for counts in labels:
            total.update(counts)
        self._lack = {label: [count * size for size in sizes] for label, count in total.items()}

    def place(self, number: int, documents: int, label: str | None) -> int:
        """Put a unit of so many documents into the part that lacks most of `label`, among those with room for it."""
        fitting = [part for part, room in enumerate(self._room) if room >= documents]
        if fitting:
            lack = [(self._lack[label][part] if label else 0, self._room[part]) for part in fitting]
        else:
            fitting = list(range(len(self._room)))
            lack = [(0, room) for room in self._room]
        best = [part for part, need in zip(fitting, lack, strict=True) if need == max(lack)]
        part = best[0] if len(best) == 1 else self._rng.choice(best)
        self._room[part] -= documents
        for name, count in self.labels[number].items():
            self._lack[name][part] -= count * self._all
        return part
