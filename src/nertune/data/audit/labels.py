"""The labels of all files together: spelling, balance, and whether each file has each."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence

from nertune.console import visible
from nertune.data.audit.findings import At, Findings
from nertune.schema import Entity

__all__ = ["Labels"]

_RARE = 20  # a label is rare where the most frequent one has more than so many times its mentions


class Labels:
    """Counts mentions by label and file; then shows the first mention of each label that something is to be said of."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._counts: Counter[tuple[str, int]] = Counter()
        self._waiting: dict[str, list[tuple[str, str]]] = {}

    def count(self, entities: tuple[Entity, ...], file: int) -> None:
        """Take one document into account."""
        self._counts.update((entity.label, file) for entity in entities)

    def totals(self) -> dict[str, int]:
        """Mentions by label, most frequent first, ties by name."""
        totals: Counter[str] = Counter()
        for (label, _), count in self._counts.items():
            totals[label] += count
        return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))

    def decide(self) -> None:
        """All was counted: which labels are to be told of."""
        totals = self.totals()
        spellings: dict[str, str] = {}
        for label, count in totals.items():
            usual = spellings.setdefault(_folded(label), label)
            if usual != label:
                detail = f"{visible(label)!r} {count:,}, {visible(usual)!r} {totals[usual]:,}"
                self._waiting.setdefault(label, []).append(("label-spelling", detail))
        most = next(iter(totals), "")
        for label, count in totals.items():
            if count * _RARE < totals[most]:
                detail = f"{label} {count:,}, {most} {totals[most]:,}"
                self._waiting.setdefault(label, []).append(("label-rare", detail))
            # A file without any entity is not annotated, which is another matter.
            annotated = sorted({file for _, file in self._counts})
            lacking = [self._files[file] for file in annotated if not self._counts[label, file]]
            if lacking:
                detail = f"{label}: not in {', '.join(lacking)}"
                self._waiting.setdefault(label, []).append(("label-one-file", detail))

    def report(self, at: At, known: Collection[str] | None, findings: Findings) -> None:
        """What is to be said of one document's labels. `known`: those that a recipe lists."""
        for entity in at.row.document.entities:
            for code, detail in self._waiting.pop(entity.label, ()):
                findings.add(code, at, entity.start, entity.end, detail)
            if known is not None and entity.label not in known:
                findings.add("label-unknown", at, entity.start, entity.end, entity.label)


def _folded(label: str) -> str:
    """A label without what people spell differently: case, width, white space, hyphens."""
    plain = unicodedata.normalize("NFKC", label).casefold()
    return "".join(character for character in plain if not character.isspace() and character not in "-_")
