"""`fetched.json`, beside the files: what was fetched, from where, at which revision, and what each file's content was."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nertune.atomic import write_text
from nertune.errors import DataError
from nertune.files import parse_json

__all__ = ["MANIFEST", "FetchManifest", "FetchedFile"]

MANIFEST = "fetched.json"
_LIMIT = 20_000_000


@dataclass(frozen=True)
class FetchedFile:
    """A file below the folder: its size in bytes and the SHA-256 of its content, in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class FetchManifest:
    """All that is needed to fetch the same again. `asked`: the revision that was asked for, `revision`: what it was then.

    `patterns`: which files were wanted. `date`: in UTC, ISO 8601.
    """

    name: str
    hub: str
    repository: str
    asked: str | None
    revision: str
    licence: str | None
    citation: str | None
    page: str
    patterns: tuple[str, ...]
    date: str
    files: tuple[FetchedFile, ...]

    @property
    def sums(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        return {file.path: file.sha256 for file in self.files}

    def write(self, folder: Path) -> None:
        """Raises what `nertune.atomic.replacing` raises."""
        write_text(folder / MANIFEST, json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> FetchManifest | None:
        """That of an earlier fetch; None where there is none. Raises DataError for one that is damaged."""
        path = folder / MANIFEST
        if not path.is_file():
            return None
        try:
            if path.stat().st_size > _LIMIT:
                raise ValueError("it is too large")
            return cls._checked(parse_json(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, KeyError) as error:
            problem = f"is not what a fetch writes ({error}); remove it, or fetch into another folder: --out"
            raise DataError(problem, path=path) from None

    @classmethod
    def _checked(cls, value: Any) -> FetchManifest:
        rows = [FetchedFile(**row) for row in value.pop("files")]
        found = cls(**{**value, "patterns": tuple(value["patterns"])}, files=tuple(rows))
        texts = [found.name, found.hub, found.repository, found.revision, found.page, found.date, *found.patterns]
        texts += [text for row in rows for text in (row.path, row.sha256)]
        maybe = [found.asked, found.licence, found.citation]
        if not all(isinstance(text, str) for text in texts) or not all(
            text is None or isinstance(text, str) for text in maybe
        ):
            raise TypeError("a value is no text")
        return found
