"""What every answer format does: say how it is asked for, write entities, and read them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from nertune.schema import Document, Mention, ParseOutcome

__all__ = ["AnswerFormat", "ParsedAnswer", "Placed"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A mention at a place in the answer's own copy of the text: half-open code points."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What an answer says, before anything is looked up in the text.

    Formats that list entities fill `mentions`, in the order of the answer. Formats that copy the text fill `copy` and
    `placed`, whose offsets count in `copy`. `outcome` says whether the answer was read as it stands.
    """

    outcome: ParseOutcome
    mentions: tuple[Mention, ...] = ()
    copy: str | None = None
    placed: tuple[Placed, ...] = field(default=())


class AnswerFormat(Protocol):
    """How entities are written in a model's reply. `parse(write(document))` gives the document's entities back."""

    @property
    def name(self) -> str:
        """The name used in recipes and run manifests."""
        ...

    @property
    def instruction(self) -> str:
        """What the prompt says about the answer, for templates with `{answer_format}`."""
        ...

    def write(self, document: Document) -> str:
        """The answer that a perfect model gives. Raises InputError when the format cannot hold the document."""
        ...

    def parse(self, answer: str) -> ParsedAnswer:
        """Read an answer. Never raises: what cannot be read is said in the outcome."""
        ...

    def options(self) -> dict[str, object]:
        """The settings that differ between two instances, as stored in the run manifest."""
        ...
