"""Where in a file reading stands, and what tells one kind of file from another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nertune.data.wording import listed
from nertune.errors import DataError

__all__ = ["BEGINNING", "Keys", "Place", "check_columns", "check_doubled", "is_array", "is_json", "odd_columns"]

# A plain text may begin with a bracket, too: JSON goes on with an object, a key, or white space.
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[{\]])")
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[")


class Place(NamedTuple):
    """After a row, by its number; `offset`: the byte at which the next one begins, None where that is not known."""

    row: int
    offset: int | None


BEGINNING = Place(0, 0)


class Keys(NamedTuple):
    """The keys of records, or the columns of tables, that hold a text and its id."""

    text: str = "text"
    id: str = "id"


def check_columns(
    header: Sequence[str], keys: Keys, path: str, note: Callable[[str], None], *, line: int | None
) -> None:
    """Raises DataError for a table without a column for the text, or with two of it or of the id's.

    `note`: told of other columns that stand twice, and of those without a name.
    """
    check_doubled(header, {keys.text: "--text-key", keys.id: "--id-key"}, path, line=line)
    if keys.text not in header:
        raise DataError(
            f"has no column '{keys.text}'; its columns are {listed(header)}. Name the one that holds the texts (--text-key)",
            path=path,
            line=line,
        )
    for message in odd_columns(header):
        note(message)


def check_doubled(
    header: Sequence[str], wanted: Mapping[str, str], path: str | Path, *, line: int | None = None
) -> None:
    """Raises DataError for a table with two of a column that is read; `wanted`: each, and the option that names another."""
    for name, option in wanted.items():
        places = [str(place) for place, found in enumerate(header, 1) if found == name]
        if len(places) > 1:
            raise DataError(
                f"has {len(places)} columns '{name}' ({', '.join(places)}), so it cannot be told which is meant; rename one "
                f"of them, or name another column ({option})",
                path=path,
                line=line,
            )


def odd_columns(header: Sequence[str]) -> Iterator[str]:
    """Notes on columns that nobody reads: those that stand twice, and those without a name."""
    doubled = [name for name in dict.fromkeys(header) if header.count(name) > 1 and name.strip()]
    if doubled:
        yield f"columns that stand more than once, and are not read: {listed(doubled)}"
    if unnamed := [str(place) for place, name in enumerate(header, 1) if not name.strip()]:
        yield f"columns without a name, and not read: {', '.join(unnamed[:5])}{', …' if len(unnamed) > 5 else ''}"


def is_json(head: bytes) -> bool:
    """Whether a file that begins so holds JSON records."""
    return _JSON.match(head) is not None


def is_array(head: bytes) -> bool:
    """Whether a file of JSON that begins so is one array."""
    return _ARRAY.match(head) is not None
