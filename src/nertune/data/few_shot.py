"""A few examples of each label, and all the rest: greedy N-way K~2K-shot sampling (Ding et al. 2021, Few-NERD, ACL).

A sentence has mentions of several labels, so that exactly K of each cannot be had; between K and 2K can, mostly.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from nertune.errors import InputError
from nertune.schema import Document

__all__ = ["FewShot", "few_shot"]


class FewShot(NamedTuple):
    """Documents with a few mentions of each label, and all others, both in their order.

    `short`: labels with fewer mentions in all than were asked for, and how many those are. `over`: labels of which more
    than twice as many had to be taken, and how many were.
    """

    taken: tuple[Document, ...]
    rest: tuple[Document, ...]
    short: dict[str, int]
    over: dict[str, int]


def few_shot(
    documents: Sequence[Document], *, mentions: int, seed: int, groups: Sequence[int] | None = None
) -> FewShot:
    """Take documents with at least `mentions` mentions of every label, and at most twice as many where that can be.

    In the order that `seed` gives, a document is taken when it has a label that still lacks mentions, and brings none above
    twice `mentions`. A label that lacks some after that gets them from the documents that overshoot least; documents of a
    label that is then above twice `mentions` are put back where no label needs them. A label with fewer mentions than
    asked for gives all it has. Documents with equal numbers in `groups` are taken together or not.

    Raises InputError for `mentions` below 1, for documents without entities, and when no document would be left.
    """
    if mentions < 1:
        raise InputError(f"the number of mentions of each label must be 1 or more, found {mentions}")
    members: dict[int, list[int]] = {}
    for place, group in enumerate(range(len(documents)) if groups is None else groups):
        members.setdefault(group, []).append(place)
    units = list(members.values())
    random.Random(seed).shuffle(units)
    counts = [Counter(entity.label for place in unit for entity in documents[place].entities) for unit in units]
    there = Counter(entity.label for document in documents for entity in document.entities)
    if not there:
        raise InputError(
            f"none of the {len(documents)} documents holds an entity: there is nothing to take examples of"
        )
    goal = {label: min(mentions, count) for label, count in there.items()}
    have: Counter[str] = Counter()
    taken: set[int] = set()
    for number, labels in enumerate(counts):
        lacks = any(have[label] < goal[label] for label in labels)
        if lacks and all(have[label] + count <= 2 * mentions for label, count in labels.items()):
            taken.add(number)
            have.update(labels)
    for label in sorted(there, key=lambda label: (there[label], label)):
        while have[label] < goal[label]:
            left = (number for number in range(len(units)) if number not in taken and counts[number][label])
            least = min(left, key=lambda number: _excess(have, counts[number], 2 * mentions))
            taken.add(least)
            have.update(counts[least])
    for number in sorted(taken):  # what the second round made superfluous
        labels = counts[number]
        too_many = any(have[label] > 2 * mentions for label in labels)
        if too_many and all(have[label] - count >= goal[label] for label, count in labels.items()):
            taken.discard(number)
            have.subtract(labels)
    chosen = {place for number in taken for place in units[number]}
    if len(chosen) == len(documents):
        raise InputError(
            f"{mentions} mentions of each label take all {len(documents)} documents, and none is left to measure on: "
            "ask for fewer"
        )
    return FewShot(
        tuple(document for place, document in enumerate(documents) if place in chosen),
        tuple(document for place, document in enumerate(documents) if place not in chosen),
        {label: count for label, count in sorted(there.items()) if count < mentions},
        {label: count for label, count in sorted(have.items()) if count > 2 * mentions},
    )


def _excess(have: Counter[str], more: Counter[str], most: int) -> int:
    """How many mentions are too many, over all labels, when `more` are taken."""
    return sum(max(0, have[label] + count - most) - max(0, have[label] - most) for label, count in more.items())
