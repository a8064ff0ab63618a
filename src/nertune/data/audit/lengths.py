"""How long texts and training rows are, and what a cut-off would lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from nertune.data.audit.findings import At, Findings
from nertune.errors import InputError
from nertune.schema import Document, Entity

__all__ = ["Cutoff", "Lengths", "RowLength", "Setting", "TokenLengths", "depth"]


class RowLength(NamedTuple):
    """A document as one model's tokens: those of its prompt, and those of prompt, answer and end of turn together."""

    prompt: int
    whole: int


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What a recipe or a model says of a document.

    `measure` raises InputError for a document that the answer format cannot write. `max_tokens`: the longest row, None
    where nobody set one. `labels`: those that the recipe lists, None where it takes those of the data.
    """

    measure: Callable[[Document], RowLength]
    max_tokens: int | None = None
    labels: Collection[str] | None = None


Setting: TypeAlias = "Callable[[Mapping[str, int], Document], Cutoff]"
"""From the labels that occur, with their mentions, and the document that nests deepest, to what measures documents."""


class Lengths:
    """A distribution of lengths."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """One more."""
        self._counts[length] += 1

    def to_json(self) -> dict[str, float | int] | None:
        """Least, mean, median, 95th and 99th percentile (nearest rank) and most; None where there are none."""
        total = self._counts.total()
        if not total:
            return None
        return {
            "min": min(self._counts),
            "mean": round(sum(length * count for length, count in self._counts.items()) / total, 2),
            "median": self._rank(total, 50),
            "p95": self._rank(total, 95),
            "p99": self._rank(total, 99),
            "max": max(self._counts),
        }

    def _rank(self, total: int, percent: int) -> int:
        below = 0
        for length in sorted(self._counts):
            below += self._counts[length]
            if 100 * below >= percent * total:
                return length
        return max(self._counts)


class TokenLengths:
    """Rows in tokens against one cut-off."""

    def __init__(self, cutoff: Cutoff) -> None:
        self._cutoff = cutoff
        self.labels, self.max_tokens = cutoff.labels, cutoff.max_tokens
        self._prompts = 0
        self._entities = 0
        self.lengths = Lengths()

    def check(self, at: At, findings: Findings) -> None:
        """Measure one document."""
        document, most = at.row.document, self.max_tokens
        try:
            row = self._cutoff.measure(document)
        except InputError as error:
            findings.add("answer-unwritable", at, detail=str(error))
            return
        self.lengths.add(row.whole)
        if most is not None and row.whole > most:
            self._prompts += row.prompt >= most
            self._entities += len(document.entities)
            findings.add(
                "answer-cut", at, detail=f"{row.whole:,} tokens, {row.whole - row.prompt:,} of them the answer"
            )

    def finish(self, findings: Findings) -> None:
        """Say what the cut-off costs in all."""
        if findings.count_of("answer-cut"):
            extra = f"max_tokens {self.max_tokens}: {self._entities:,} entities lost; "
            findings.explain("answer-cut", extra + f"of {self._prompts:,} documents not even the prompt fits")


def depth(entities: Collection[Entity]) -> int:
    """How many entities lie inside each other at most, in reading order."""
    deepest = 0
    ends: list[int] = []
    for entity in entities:
        while ends and ends[-1] <= entity.start:
            ends.pop()
        ends.append(entity.end)
        deepest = max(deepest, len(ends))
    return deepest
