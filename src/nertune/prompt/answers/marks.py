"""What the formats that copy the text have in common: marks around entities, and what marks cannot say.

Marks nest and never cross. How deep they nest is a setting of the format, as its grammar is written out to that depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nertune.errors import InputError
from nertune.prompt.answers.base import Refusal
from nertune.schema import Document, Entity, LabelSet

__all__ = ["DEEPEST", "DEPTH", "check_depth", "completed", "depth_of", "refusal", "resumed", "write_marked"]

DEPTH = 3
DEEPEST = 16  # the grammar grows with labels times depth
_TAIL = 12  # characters at the end of a copy by which its place in the text is found again


def check_depth(depth: int) -> None:
    """Raises InputError for a depth that no grammar is written for."""
    if not 1 <= depth <= DEEPEST:
        raise InputError(f"depth: {depth} entities inside each other; it must be from 1 to {DEEPEST}")


def depth_of(documents: Iterable[Document]) -> int:
    """How many entities lie inside each other at most, between 1 and the deepest that a grammar is written for."""
    deepest = 1
    for document in documents:
        ends: list[int] = []
        for entity in document.entities:
            while ends and ends[-1] <= entity.start:
                ends.pop()
            ends.append(entity.end)
            deepest = max(deepest, len(ends))
    return min(deepest, DEEPEST)


def refusal(document: Document, *, depth: int, name: str) -> Refusal | None:
    """Why marks cannot write a document: the first two entities that cross, or the first one too deep."""
    open_entities: list[Entity] = []
    for entity in document.entities:
        while open_entities and open_entities[-1].end <= entity.start:
            open_entities.pop()
        if open_entities and entity.end > open_entities[-1].end:
            outer = open_entities[-1]
            return Refusal(
                "entities that cross",
                f"{outer.text!r} [{outer.start}, {outer.end}) and {entity.text!r} [{entity.start}, {entity.end}) cross",
                "use answer: json, or mend the annotation",
            )
        open_entities.append(entity)
        if len(open_entities) > depth:
            return Refusal(
                f"entities nested deeper than {depth}",
                f"{entity.text!r} [{entity.start}, {entity.end}) is nested {len(open_entities)} deep",
                f"raise the option depth, as in answer: {{format: {name}, depth: {len(open_entities)}}}, or use answer: json",
            )
    return None


def write_marked(
    document: Document, *, escape: Callable[[str], str], opening: Callable[[str], str], closing: Callable[[str], str]
) -> str:
    """The text with a mark before and after each entity. `opening` and `closing` write a label's marks."""
    out: list[str] = []
    open_entities: list[Entity] = []
    waiting = list(reversed(document.entities))
    for position in range(len(document.text) + 1):
        while open_entities and open_entities[-1].end == position:
            out.append(closing(open_entities.pop().label))
        while waiting and waiting[-1].start == position:
            open_entities.append(waiting.pop())
            out.append(opening(open_entities[-1].label))
        out.append(escape(document.text[position : position + 1]))
    return "".join(out)


def resumed(text: str, copy: str) -> int | None:
    """Where the text goes on after an unfinished copy of it; None where the copy has gone astray."""
    if text.startswith(copy):
        return len(copy)
    tail = copy[-_TAIL:]
    place = text.find(tail, max(0, len(copy) - 4 * _TAIL)) if len(tail) == _TAIL else -1
    return place + _TAIL if place >= 0 else None


def completed(beginning: str, labels: LabelSet | None) -> str | None:
    """What is missing of the one label that begins so; None where there are several, or none."""
    if labels is None:
        return None
    if beginning in labels:
        return ""
    found = [label for label in labels if label.startswith(beginning)]
    return found[0][len(beginning) :] if len(found) == 1 else None
