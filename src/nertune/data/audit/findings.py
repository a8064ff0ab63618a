"""What an audit finds: kinds with their counts, and the first places of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nertune.data.audit.excerpt import excerpt
from nertune.data.audit.kinds import KINDS, SEVERITIES, Kind
from nertune.data.source import Missed
from nertune.data.spans import RawMention, Row

__all__ = ["At", "Finding", "Findings", "Place"]


_LONGEST = 160  # characters of a detail: a surface may be as long as its text


class Place(NamedTuple):
    """Where something was found.

    `line`: from 1, None where the format has no lines; `document`: from 1, None for one that was not read; `excerpt`: the
    text there, the entity between ▸ and ◂; `detail`: what exactly, where the kind leaves that open.
    """

    file: str
    line: int | None
    document: int | None
    excerpt: str
    detail: str = ""

    @property
    def where(self) -> str:
        """`file:line`, or file and document."""
        return f"{self.file}:{self.line}" if self.line is not None else f"{self.file}, document {self.document}"


@dataclass(frozen=True, slots=True)
class Finding:
    """All that was found of one kind. `places`: the first of them. `extra`: what the kind's own words do not say."""

    kind: Kind
    count: int
    places: tuple[Place, ...]
    extra: str = ""

    @property
    def message(self) -> str:
        """What was found, in words, without the count."""
        return f"{self.kind.message} ({self.extra})" if self.extra else self.kind.message

    def to_json(self) -> dict[str, object]:
        """The finding as `--json` prints it."""
        return {
            "code": self.kind.code,
            "severity": self.kind.severity,
            "count": self.count,
            "message": self.message,
            "advice": self.kind.advice,
            "places": [place._asdict() for place in self.places],
        }


class At(NamedTuple):
    """The document that is being looked at: its file (of a folder, that in it), its number from 1, and itself."""

    file: str
    number: int
    row: Row

    @classmethod
    def of(cls, path: str, number: int, row: Row) -> At:
        """The `number`-th document of a file or folder."""
        return cls(f"{path}/{row.raw.file}" if row.raw.file else path, number, row)

    def place(
        self, start: int | None = None, end: int | None = None, detail: str = "", *, mention: RawMention | None = None
    ) -> Place:
        """A place in it."""
        raw = self.row.raw
        line = mention.line if mention is not None and mention.line is not None else raw.line
        told = detail if len(detail) <= _LONGEST else detail[: _LONGEST - 1] + "…"
        return Place(self.file, line, self.number, excerpt(raw.text, start, end), told)


@dataclass
class Findings:
    """Collects findings; of each kind `top` places are kept, and all are counted."""

    top: int
    _counts: dict[str, int] = field(default_factory=dict)
    _places: dict[str, list[Place]] = field(default_factory=dict)
    _extras: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        code: str,
        at: At,
        start: int | None = None,
        end: int | None = None,
        detail: str = "",
        *,
        mention: RawMention | None = None,
    ) -> None:
        """One more of a kind, in the document `at`, at the code points [start, end) if it is about these."""
        self._counts[code] = self._counts.get(code, 0) + 1
        places = self._places.setdefault(code, [])
        if len(places) < self.top:
            places.append(at.place(start, end, detail, mention=mention))

    def add_unread(self, file: str, missed: Sequence[Missed]) -> None:
        """Documents of a file that its reader had to leave out."""
        code = "document-unread"
        self._counts[code] = self._counts.get(code, 0) + len(missed)
        places = self._places.setdefault(code, [])
        places += [Place(file, line, None, "", why) for line, why in missed[: self.top - len(places)]]

    def tell(self, code: str, count: int, places: list[Place], extra: str = "") -> None:
        """All of a kind at once; nothing where the count is 0."""
        if count:
            self._counts[code] = count
            self._places[code] = places[: self.top]
            self.explain(code, extra)

    def explain(self, code: str, extra: str) -> None:
        """Say more about a kind."""
        if extra:
            self._extras[code] = extra

    def all(self) -> tuple[Finding, ...]:
        """The findings, most severe first, then in the order of the table of kinds."""
        found = (
            Finding(kind, self._counts[code], tuple(self._places.get(code, ())), self._extras.get(code, ""))
            for code, kind in KINDS.items()
            if self._counts.get(code)
        )
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.kind.severity)))

    def count_of(self, code: str) -> int:
        """How many of a kind so far."""
        return self._counts.get(code, 0)
