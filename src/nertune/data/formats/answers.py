"""Answers of LLMs as annotations: what the data room must be told to read them, and the one kind it knows by itself.

The prompt room knows how answers are written, and this room may not know the prompt room. So whoever reads a file that
holds answers passes `Answers` along (`nertune.prompt.KNOWN_ANSWERS`); without it JSON objects alone are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nertune.data.strict_json import decode_at, forbidden_string, skip_space
from nertune.data.wording import describe
from nertune.schema import Document, Mention

__all__ = ["AnswerReader", "Answers", "JsonObjects", "Marks", "Said"]

# What an answer says: mentions in its order, or, where it is a copy of the text with marks in it, that text's entities.
Said = Document | tuple[Mention, ...]

_NOTHING = "没有找到任何实体"
_KEYS = (("label", "text"), ("entity_label", "entity_text"))


class AnswerReader(Protocol):
    """Reads answers that are written in one way."""

    @property
    def name(self) -> str:
        """The way, for people."""

    def read(self, answer: str) -> Said | None:
        """What an answer says; None where it is not written in this way to the letter. Never raises."""

    def problem(self, answer: str) -> str:
        """Why it is not, to follow the name of what holds the answer: `is not JSON (…)`."""


class Marks(AnswerReader, Protocol):
    """A way of marking entities within their text. `read` gives a document, or None."""

    def write(self, document: Document) -> str:
        """The text with its marks. Raises InputError for a document that `refusal` names."""

    def refusal(self, document: Document) -> str | None:
        """What kind of thing in a document the marks cannot say; None where they say all of it."""

    def holds(self, label: str) -> bool:
        """Whether a label can be written."""


class Answers(Protocol):
    """All that is known about answers."""

    def readers(self, answers: Sequence[str]) -> Sequence[AnswerReader]:
        """The ways in which some of a file's answers may be written, the likeliest first."""

    def marks(self) -> Sequence[Marks]:
        """The ways of marking entities within their text."""


@dataclass(frozen=True, slots=True)
class JsonObjects:
    """JSON objects of a label and a text, in arrays or one after another, under the two usual pairs of keys."""

    name: str = "json or jsonl"

    def read(self, answer: str) -> tuple[Mention, ...] | None:
        """The mentions; none for an empty answer, an empty array or the usual sentence."""
        try:
            return _mentions(answer)
        except ValueError:
            return None

    def problem(self, answer: str) -> str:
        """What is wrong with the JSON or with one of its objects."""
        try:
            _mentions(answer)
        except ValueError as error:
            return str(error)
        return "is read"


def _mentions(answer: str) -> tuple[Mention, ...]:
    """Raises ValueError for what is no such answer."""
    content = answer.strip()
    if not content or content.rstrip("。.") == _NOTHING:
        return ()
    items: list[object] = []
    position = 0
    try:
        while position < len(content):
            value, end = decode_at(content, position)
            items += value if isinstance(value, list) else [value]
            position = skip_space(content, end)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error}): {describe(answer)}") from error
    if forbidden_string(items) is not None:
        raise ValueError(f"holds NUL or half of a surrogate pair: {describe(answer)}")
    return tuple(map(_mention, items))


def _mention(item: object) -> Mention:
    keys = next((pair for pair in _KEYS if isinstance(item, dict) and pair[0] in item and pair[1] in item), None)
    if keys is None or not isinstance(item, dict):
        wanted = " or ".join(f"{{{label!r}, {text!r}}}" for label, text in _KEYS)
        raise ValueError(f"must hold objects {wanted}, found {describe(item)}")
    label, text = item[keys[0]], item[keys[1]]
    for key, value in zip(keys, (label, text), strict=True):
        if not isinstance(value, str):
            raise ValueError(f"holds an object whose {key!r} must be a string, found {describe(value)}")
    return Mention(label, text)
