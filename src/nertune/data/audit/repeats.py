"""Texts that come again: in one file or another, with the same entities or with others, or nearly."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from nertune.data.audit.excerpt import excerpt
from nertune.data.audit.findings import At, Findings, Place
from nertune.schema import Document, Entity

__all__ = ["Repeats", "digest"]


def digest(text: str, entities: Sequence[Entity] = ()) -> bytes:
    """16 bytes that tell texts, or texts with entities (label and place, in any order), apart."""
    told = text if not entities else repr((text, sorted({(e.start, e.end, e.label) for e in entities})))
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _Origin(NamedTuple):
    """Where a text stood, in little memory: the file's number among those audited, its name, line, document, entities."""

    file: int
    name: str
    line: int | None
    number: int
    entities: bytes

    def place(self, text: str = "", detail: str = "") -> Place:
        return Place(self.name, self.line, self.number, excerpt(text), detail)


class Repeats:
    """Remembers the digest of every text and, for the search for near-duplicates, each different text itself.

    `near`: how alike two texts are that are nearly equal, None where nobody asks.
    """

    def __init__(self, near: float | None) -> None:
        self._near = near
        self._seen: dict[bytes, _Origin] = {}
        self._again: dict[bytes, list[_Origin]] = {}  # others of the same text, in another file or with other entities
        self._texts: list[str] = []
        self._origins: list[_Origin] = []

    def check(self, at: At, file: int, findings: Findings) -> None:
        """What was there before of one document. Texts of white space only are passed over."""
        document = at.row.document
        if not document.text or document.text.isspace():
            return
        key = digest(document.text)
        mine = _Origin(file, at.file, at.row.raw.line, at.number, digest("", document.entities))
        first = self._seen.setdefault(key, mine)
        if first is mine:
            if self._near is not None:
                self._texts.append(document.text)
                self._origins.append(mine)
            return
        earlier = (first, *self._again.get(key, ()))
        same = next((one for one in earlier if one.file == file and one.entities == mine.entities), None)
        if same is not None:
            findings.add("duplicate-same", at, detail=f"as {same.place().where}")
        elif all(one.entities != mine.entities for one in earlier):
            findings.add("duplicate-differs", at, detail=_difference(document, first))
        elsewhere = next((one for one in earlier if one.file != file), None)
        if elsewhere is not None:
            findings.add("leak-exact", at, detail=f"as {elsewhere.place().where}")
        if same is None:
            self._again.setdefault(key, []).append(mine)

    def finish(self, files: int, findings: Findings) -> None:
        """Find what is nearly equal within each of so many files, and to a text of the files before it."""
        if self._near is None:
            return
        from nertune.data.similar import near_pairs

        bounds = [bisect_left(self._origins, file, key=lambda one: one.file) for file in range(files + 1)]
        within: list[tuple[int, int, float]] = []
        across: list[tuple[int, int, float]] = []
        for start, end in pairwise(bounds):
            before, own = self._texts[:start], self._texts[start:end]
            within += ((start + i, start + j, how) for i, j, how in near_pairs(own, threshold=self._near))
            if before and own:
                across += ((i, start + j, how) for i, j, how in near_pairs(before, own, threshold=self._near))
        for code, pairs in (("leak-near", across), ("near-duplicate", within)):
            places = [self._place(*pair) for pair in pairs[: findings.top]]
            findings.tell(code, len(pairs), places, f"similarity {self._near:g} or more")

    def _place(self, earlier: int, number: int, similarity: float) -> Place:
        detail = f"{int(100 * similarity)}% as {self._origins[earlier].place().where}"
        return self._origins[number].place(self._texts[number], detail)


def _difference(document: Document, earlier: _Origin) -> str:
    entities = len(document.entities)
    return f"{entities} {'entity' if entities == 1 else 'entities'} here, others in {earlier.place().where}"
