"""Where in a file reading stands, and what tells one kind of file from another."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nertune.data.wording import listed

__all__ = ["BEGINNING", "Keys", "Place", "check_columns", "is_array", "is_json"]

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


def check_columns(header: Sequence[str], keys: Keys, note: Callable[[str], None]) -> None:
    """Raises ValueError for a table without a column for the text, or with two of it or of the id's.

    `note`: told of other columns that stand twice, and of those without a name.
    """
    doubled = [name for name in dict.fromkeys(header) if header.count(name) > 1 and name.strip()]
    for name in (keys.text, keys.id):
        if name in doubled:
            places = ", ".join(str(place) for place, found in enumerate(header, 1) if found == name)
            option = "--text-key" if name == keys.text else "--id-key"
            raise ValueError(
                f"has {header.count(name)} columns '{name}' ({places}), so it cannot be told which is meant; rename one "
                f"of them, or name another column ({option})"
            )
    if keys.text not in header:
        raise ValueError(
            f"has no column '{keys.text}'; its columns are {listed(header)}. Name the one that holds the texts (--text-key)"
        )
    if doubled:
        note(f"columns that stand more than once, and are not read: {listed(doubled)}")
    if unnamed := [str(place) for place, name in enumerate(header, 1) if not name.strip()]:
        note(f"columns without a name, and not read: {', '.join(unnamed[:5])}{', …' if len(unnamed) > 5 else ''}")


def is_json(head: bytes) -> bool:
    """Whether a file that begins so holds JSON records."""
    return _JSON.match(head) is not None


def is_array(head: bytes) -> bool:
    """Whether a file of JSON that begins so is one array."""
    return _ARRAY.match(head) is not None
