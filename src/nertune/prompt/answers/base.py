"""What every answer format does: say how it is asked for, write entities, and read them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from nertune.schema import Document, LabelSet, Mention, ParseOutcome

__all__ = ["AnswerFormat", "ParsedAnswer", "Placed", "Refusal", "Written"]


class Written(NamedTuple):
    """Where in an answer an entity is written: half-open characters of the answer.

    `span`: everything that decides where the entity begins and ends, closing mark included; `label`: its label's name.
    """

    span: tuple[int, int]
    label: tuple[int, int]


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
    `written` says where each of `mentions` or of `placed` stands in the answer; empty where that is not known.
    """

    outcome: ParseOutcome
    mentions: tuple[Mention, ...] = ()
    copy: str | None = None
    placed: tuple[Placed, ...] = field(default=())
    written: tuple[Written, ...] = ()


class Refusal(NamedTuple):
    """Why a format cannot hold a document: what `kind` of thing, which one in this document, and what to do about it."""

    kind: str
    detail: str
    advice: str

    def explained(self, name: str) -> str:
        """The refusal as a message about one document, `name` being the format's."""
        return f"{self.detail}: the {name} format cannot write that; {self.advice}"


class AnswerFormat(Protocol):
    """How entities are written in a model's reply. `parse(write(document))` gives the document's entities back.

    Labels are here what stands in an answer: display names where a label set has them.
    """

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

    def check(self, labels: LabelSet) -> None:
        """Raises InputError for labels that the format cannot write."""
        ...

    def refusal(self, document: Document) -> Refusal | None:
        """Why `write` would refuse a document; None where it would not."""
        ...

    def parse(self, answer: str, *, cut: bool = False) -> ParsedAnswer:
        """Read an answer. Never raises: what cannot be read is said in the outcome.

        `cut`: the answer was cut off before it ended. What is half written is then left out, never made up.
        """
        ...

    def grammar(self, text: str, labels: LabelSet) -> str:
        """The language of the answers that can be true of `text`: a Lark grammar in llguidance's dialect.

        Every answer in it is read as CLEAN, names only `labels`, and only what stands in the text; whatever `write` gives
        for such a document is in it. The text must not be blank nor hold lone surrogates. Raises InputError as `check`.
        """
        ...

    def schema(self, labels: LabelSet) -> dict[str, object] | None:
        """A JSON schema of the answers, for engines that take no grammar; None where the answer is no JSON value.

        It knows the labels and not the text: what it lets through must still be grounded.
        """
        ...

    def draft(self, text: str, answer: str, labels: LabelSet | None = None) -> str:
        """What most likely follows an unfinished answer as far as it is a copy of the text; empty where nothing can be said.

        A guess, made in a time linear in the answer's length. Never raises. With `labels` a label is guessed to its end.
        """
        ...

    def options(self) -> dict[str, object]:
        """The settings that differ between two instances, as stored in the run manifest."""
        ...
