"""The table of formats, and the choice among them by a file's content."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from nertune.data.alpaca import Alpaca
from nertune.data.cluener import Cluener
from nertune.data.entities import Entities
from nertune.data.records import Record, describe
from nertune.data.spans import Placed
from nertune.errors import DataError
from nertune.schema import Document

__all__ = ["FORMATS", "Format", "WritableFormat", "named", "sniffed", "undetected"]


class Format(Protocol):
    """What a format must be able to do to be in the table."""

    @property
    def name(self) -> str:
        """The name that `--from` and `--to` take."""

    def sniff(self, head: Sequence[Record]) -> bool:
        """Whether the first records of a file are this format's."""

    def read(self, records: Iterable[Record], *, limit: int | None, labels: Sequence[str] | None) -> Placed:
        """The first `limit` documents; raises DataError on a record of another shape."""


@runtime_checkable
class WritableFormat(Format, Protocol):
    """A format that documents alone suffice to write."""

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """Write `documents` atomically."""


_TABLE: tuple[Format, ...] = (Cluener(), Entities(), Alpaca())
FORMATS: Mapping[str, Format] = MappingProxyType({entry.name: entry for entry in _TABLE})


def named(name: str, *, path: str) -> Format:
    """The format called `name`. Raises DataError with the nearest name there is."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.4)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    raise DataError(f"there is no format {name!r}{guess} Formats: {', '.join(FORMATS)}", path=path)


def sniffed(head: Sequence[Record], *, path: str) -> Format:
    """The format of a file that begins with `head`. Raises DataError telling what was seen."""
    for entry in _TABLE:
        if entry.sniff(head):
            return entry
    raise undetected(f"its first record is {describe(head[0].value)}", path=path, line=head[0].line)


def undetected(seen: str, *, path: str, line: int | None) -> DataError:
    """The error for a file in none of the formats, for the caller to raise."""
    message = f"the format cannot be told: {seen}. Formats: {', '.join(FORMATS)}; name one: --from, or data.format in a recipe"
    return DataError(message, path=path, line=line)
