"""Where in a file reading stands, and what tells one kind of file from another."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["BEGINNING", "Keys", "Place", "is_array", "is_json"]

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


def is_json(head: bytes) -> bool:
    """Whether a file that begins so holds JSON records."""
    return _JSON.match(head) is not None


def is_array(head: bytes) -> bool:
    """Whether a file of JSON that begins so is one array."""
    return _ARRAY.match(head) is not None
