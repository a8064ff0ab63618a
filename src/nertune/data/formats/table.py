"""The table of formats, and the choice among them by a file's content."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from nertune.data.decoding import without_bom
from nertune.data.formats.alpaca import Alpaca
from nertune.data.formats.brat import Brat
from nertune.data.formats.cluener import Cluener
from nertune.data.formats.conll import Conll
from nertune.data.formats.doccano import Doccano
from nertune.data.formats.entities import Entities
from nertune.data.formats.hf import HuggingFace
from nertune.data.formats.inline import Inline
from nertune.data.formats.labelstudio import LabelStudio
from nertune.data.formats.sharegpt import Sharegpt
from nertune.data.formats.spacy_files import Spacy
from nertune.data.loss import Expressed
from nertune.data.records import Record
from nertune.data.source import Line, ReadOptions, Source
from nertune.data.spans import Convention, RawDocument
from nertune.data.wording import describe, shortened
from nertune.errors import DataError
from nertune.schema import Document

__all__ = ["FORMATS", "Format", "WritableFormat", "Writer", "named", "sniffed"]


_BEGUN = 5  # records or lines of which a file may begin to be in a format


class Format(Protocol):
    """What a format must be able to do to be in the table."""

    @property
    def name(self) -> str:
        """The name that `--from` and `--to` take."""

    @property
    def convention(self) -> Convention:
        """How its files count offsets; where each file is asked, what decides a tie."""

    @property
    def elects(self) -> bool:
        """Whether each file is asked how it counts, by comparing surfaces with slices."""

    def sniff(self, source: Source) -> bool:
        """Whether a file or folder that begins so is in this format."""

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """The documents in their order, read as they are asked for; what people should know goes into `notes`.

        Raises DataError, with the line, on what is in another shape.
        """


@runtime_checkable
class Writer(Protocol):
    """Writes documents in one format."""

    @property
    def name(self) -> str:
        """The format's name."""

    def express(self, document: Document) -> Expressed:
        """What of a document the format can hold, and what it cannot."""

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """Write documents that the format can hold whole, atomically."""


@runtime_checkable
class WritableFormat(Format, Writer, Protocol):
    """A format that documents alone suffice to write."""


# In the order in which a file is offered to them: the narrower first.
_TABLE: tuple[Format, ...] = (
    Brat(),
    LabelStudio(),
    Cluener(),
    Doccano(),
    Entities(),
    Alpaca(),
    Spacy(),
    HuggingFace(),
    Conll(),
    Sharegpt(),
    Inline(),
)
FORMATS: Mapping[str, Format] = MappingProxyType({entry.name: entry for entry in _TABLE})


def named(name: str, *, path: str) -> Format:
    """The format called `name`. Raises DataError with the nearest name there is."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    raise DataError(f"there is no format {name!r}{guess} Formats: {', '.join(FORMATS)}", path=path)


def sniffed(source: Source) -> Format:
    """The format of a file or folder. Raises DataError telling what was seen."""
    for entry in _TABLE:
        if entry.sniff(source):
            return entry
    _refuse_the_odd_one(source)
    seen, line = _seen(source)
    hint = f"Formats: {', '.join(FORMATS)}; name one: --from (of predictions: --pred-from), or data.format in a recipe"
    raise source.error(f"the format cannot be told: {seen}. {hint}", line=line)


def _refuse_the_odd_one(source: Source) -> None:
    """Raises DataError where the beginning of a file is in a format, at the record or line that no longer is."""
    kind = "first_records" if source.is_json else "first_lines"
    items: tuple[Record, ...] | tuple[Line, ...] = getattr(source, kind)

    def claimed(entry: Format, count: int) -> bool:
        """Whether the format takes a file of the first so many items."""
        shorter = copy(source)
        vars(shorter)[kind] = items[:count]
        return entry.sniff(shorter)

    for entry in _TABLE:
        begun = next((count for count in range(1, min(len(items), _BEGUN)) if claimed(entry, count)), None)
        if begun is not None:
            odd = items[next(count for count in range(begun + 1, len(items) + 1) if not claimed(entry, count)) - 1]
            number, shown = (
                (odd.line, f"this record is {describe(odd.value)}")
                if isinstance(odd, Record)
                else (odd.number, f"this line is {shortened(odd.text)!r}")
            )
            message = f"the format cannot be told: before it the file looks like {entry.name}, and {shown}. "
            raise source.error(f"{message}Mend it, or see what is wrong by --from {entry.name}", line=number)


def _seen(source: Source) -> tuple[str, int | None]:
    """How a source begins, in words, and the line of it."""
    if source.is_folder:
        listed = sorted(os.listdir(source.path))
        shown = ", ".join(map(repr, listed[:6] + ["…"] * (len(listed) > 6)))
        return (f"a directory with {shown}" if listed else "an empty directory"), None
    if source.is_json:
        first = source.first_records[0]
        return f"its first record is {describe(first.value)}", first.line
    if source.is_text:
        first_line = next((line for line in source.first_lines if line.text.strip()), None)
        if first_line is None:
            raise source.error("holds only blank lines")
        return f"it begins with {shortened(first_line.text)!r}", first_line.number
    if not source.head:
        raise source.error("is empty: no records in it")
    without_bom(source.head, source.path)  # which tells of UTF-16
    return f"it begins with the bytes {source.head[:8].hex(' ')}", None
