"""Iterative stratification: parts of given sizes in which every label has its share (Sechidis, Tsoumakas, Vlahavas 2011).

"On the stratification of multi-label data", ECML PKDD 2011, algorithm 1, with three changes. What is placed is a group of
documents, whole. What is shared out are mentions, so that a sentence with three names counts three. And the parts have the
sizes asked for; the labels that were shared out last, into what room was left, pay for that, so documents are then swapped.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from nertune.schema import Document

__all__ = ["stratify"]

_SWAPS = 1_000  # at most
_TRIED = 200  # units looked at for either side of a swap


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
    parts.even_out(part_of, [number for number, unit in enumerate(units) if len(unit) == 1])
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
        self._total = total
        self._lack = {label: [count * size for size in sizes] for label, count in total.items()}

    def place(self, number: int, documents: int, label: str | None) -> int:
        """Put a unit of so many documents into the part that lacks most of `label`, among those with room for it."""
        fitting = [part for part, room in enumerate(self._room) if room >= documents]
        if fitting:
            lack = [(0 if label is None else self._lack[label][part], self._room[part]) for part in fitting]
        else:
            fitting = list(range(len(self._room)))
            lack = [(0, room) for room in self._room]
        best = [part for part, need in zip(fitting, lack, strict=True) if need == max(lack)]
        part = best[0] if len(best) == 1 else self._rng.choice(best)
        self._room[part] -= documents
        for name, count in self.labels[number].items():
            self._lack[name][part] -= count * self._all
        return part

    def even_out(self, part_of: dict[int, int], alone: Sequence[int]) -> None:
        """Swap single documents between two parts while this brings the labels nearer to their shares, the worst first."""
        holders: dict[str, list[int]] = {label: [] for label in self._lack}
        for number in alone:
            for label in self.labels[number]:
                holders[label].append(number)
        for _ in range(_SWAPS):
            if not holders:
                break
            label = max(
                sorted(holders),
                key=lambda label: (max(self._lack[label]) - min(self._lack[label])) / self._total[label],
            )
            lack = self._lack[label]
            full, short = lack.index(min(lack)), lack.index(max(lack))
            before = [
                (u, self._gain(u, full, short))
                for u in islice((u for u in holders[label] if part_of[u] == full), _TRIED)
            ]
            if not before:
                del holders[label]
                continue
            there, gain = min(before, key=lambda pair: pair[1])
            self._move(there, full, short)
            after = islice((u for u in alone if part_of[u] == short and label not in self.labels[u]), _TRIED)
            back, more = min(
                ((u, self._gain(u, short, full)) for u in after), key=lambda pair: pair[1], default=(there, 0.0)
            )
            self._move(back, short, full)
            if back == there or gain + more >= -1e-9:
                if back != there:
                    self._move(back, full, short)
                    self._move(there, short, full)
                del holders[label]
            else:
                part_of[there], part_of[back] = short, full

    def _gain(self, number: int, old: int, new: int) -> float:
        """What a move does to the sum over labels and parts of the squared distances from a label's share; below 0: good."""
        change = 0.0
        for label, count in self.labels[number].items():
            step, lack, total = count * self._all, self._lack[label], self._total[label]
            change += step * (lack[old] - lack[new] + step) / (self._all * total) ** 2
        return change

    def _move(self, number: int, old: int, new: int) -> None:
        for label, count in self.labels[number].items():
            self._lack[label][old] += count * self._all
            self._lack[label][new] -= count * self._all
