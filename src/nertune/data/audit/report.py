"""What an audit found, as one value, as JSON and as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rich.text import Text

from nertune.console import visible
from nertune.data.audit.findings import Finding, Place
from nertune.data.wording import counted

__all__ = ["Audited", "Report"]

_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


class Audited(NamedTuple):
    """A file that was audited. `notes`: what its reader decided and had to leave out."""

    file: str
    format: str
    documents: int
    mentions: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found, most severe first. `labels`: mentions by label, most frequent first."""

    files: tuple[Audited, ...]
    documents: int
    mentions: int
    labels: Mapping[str, int]
    findings: tuple[Finding, ...]
    lengths: Mapping[str, object]

    def of(self, code: str) -> Finding | None:
        """The finding of one kind, None where nothing of it was found."""
        return next((finding for finding in self.findings if finding.kind.code == code), None)

    def has_errors(self, *, besides: Collection[str] = ()) -> bool:
        """Whether there are errors of other kinds than some."""
        return any(f.kind.severity == "error" and f.kind.code not in besides for f in self.findings)

    def to_json(self) -> dict[str, object]:
        """The value that `--json` prints."""
        return {
            "files": [file._asdict() for file in self.files],
            "documents": self.documents,
            "mentions": self.mentions,
            "labels": dict(self.labels),
            "findings": [finding.to_json() for finding in self.findings],
            "lengths": dict(self.lengths),
        }

    def to_text(self) -> Text:
        """The report for a terminal, severities in colour."""
        out = Text()
        for file in self.files:
            size = f"{counted(file.documents, 'document')}, {counted(file.mentions, 'entity', 'entities')}"
            out.append(f"{file.file}: {file.format}, {size}\n")
        if self.labels:
            out.append(
                "labels: " + ", ".join(f"{visible(name)} {count:,}" for name, count in self.labels.items()) + "\n"
            )
        for unit in ("characters", "tokens"):
            if isinstance(spread := self.lengths.get(unit), Mapping):
                out.append(_spread(unit, spread) + "\n")
        for finding in self.findings:
            out.append("\n")
            _finding(out, finding)
        out.append(f"\n{self._summary()}")
        return out

    def _summary(self) -> str:
        if not self.findings:
            return "nothing found"
        counts = Counter(finding.kind.severity for finding in self.findings)
        named = [f"{counted(count, 'kind')} of {severity}" for severity, count in counts.items()]
        return ", ".join(named)


def _spread(unit: str, spread: Mapping[str, object]) -> str:
    words = {"median": "median", "p95": "95%", "p99": "99%", "max": "longest"}
    return f"{unit} a document: " + ", ".join(f"{word} {spread[key]:,}" for key, word in words.items())


def _finding(out: Text, finding: Finding) -> None:
    kind = finding.kind
    out.append(f"{kind.severity} {kind.code}", style=_STYLES[kind.severity])
    out.append(f"  {finding.count:,}", style="bold")
    out.append(f"  {finding.message}\n")
    for place in finding.places:
        _place(out, place)
    if finding.places and finding.count > len(finding.places):
        out.append(f"  and {finding.count - len(finding.places):,} more\n", style="dim")
    out.append(f"  to do: {kind.advice}\n")


def _place(out: Text, place: Place) -> None:
    out.append(f"  {place.where}", style="cyan")
    out.append(f"  {place.excerpt}" if place.excerpt else "")
    out.append(f"  {visible(place.detail)}\n" if place.detail else "\n", style="dim")
