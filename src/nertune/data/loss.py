"""What a format cannot hold of a document: named before it is written, so that nothing is dropped without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from nertune.schema import Document, Entity

__all__ = ["Expressed", "Loss", "flat", "one_score", "uncrossed", "unnamed", "unscored", "without"]


class Loss(NamedTuple):
    """Something that cannot be written: `kind`, the same words for all of a kind; `entity`, where it is about one.

    `left_out`: the entity itself is not in what is written, rather than something about it.
    """

    kind: str
    entity: Entity | None = None
    left_out: bool = False


class Expressed(NamedTuple):
    """The part of a document that a format holds, as it is read back, and what it does not hold.

    `document`: None where nothing of it can be written. Its `id` is None where the format keeps none.
    """

    document: Document | None
    losses: tuple[Loss, ...] = ()

    def then(self, express: Callable[[Document], Expressed]) -> Expressed:
        """What a further restriction leaves of it."""
        if self.document is None:
            return self
        document, losses = express(self.document)
        return Expressed(document, self.losses + losses)


def unscored(document: Document) -> Expressed:
    """A document without its entities' scores."""
    losses = tuple(Loss("scores", entity) for entity in document.entities if entity.score is not None)
    if not losses:
        return Expressed(document)
    plain = (replace(entity, score=None, span_score=None, label_score=None) for entity in document.entities)
    return Expressed(replace(document, entities=tuple(plain)), losses)


def one_score(document: Document) -> Expressed:
    """A document whose entities have no scores of their place and label apart."""
    parts = [e for e in document.entities if e.span_score is not None or e.label_score is not None]
    if not parts:
        return Expressed(document)
    entities = tuple(replace(e, span_score=None, label_score=None) for e in document.entities)
    losses = tuple(Loss("the scores of an entity's place and label", entity) for entity in parts)
    return Expressed(replace(document, entities=entities), losses)


def unnamed(document: Document) -> Expressed:
    """A document without its id."""
    return Expressed(document) if document.id is None else Expressed(replace(document, id=None), (Loss("ids"),))


def flat(document: Document) -> Expressed:
    """A document of which no character is in two entities: of those that overlap, the longest is kept.

    Among equally long ones the first in reading order is kept.
    """
    return _apart(document, lambda other, entity: other.start < entity.end and entity.start < other.end)


def uncrossed(document: Document) -> Expressed:
    """A document whose entities lie beside or inside each other: of those that cross, the longest is kept."""
    return _apart(document, _cross)


def _cross(other: Entity, entity: Entity) -> bool:
    first, second = (other, entity) if other.start <= entity.start else (entity, other)
    return first.start < second.start < first.end < second.end


def _apart(document: Document, at_odds: Callable[[Entity, Entity], bool]) -> Expressed:
    kept: list[Entity] = []
    losses: list[Loss] = []
    for entity in sorted(document.entities, key=lambda e: (e.start - e.end, e.start)):
        rival = next((other for other in kept if at_odds(other, entity)), None)
        if rival is None:
            kept.append(entity)
        else:
            losses.append(Loss(_relation(entity, rival), entity, left_out=True))
    return Expressed(replace(document, entities=tuple(kept)), tuple(losses)) if losses else Expressed(document)


def without(document: Document, entities: Iterable[Entity]) -> Document:
    """The document without some of its entities."""
    gone = set(entities)
    return replace(document, entities=tuple(entity for entity in document.entities if entity not in gone))


def _relation(entity: Entity, other: Entity) -> str:
    if (entity.start, entity.end) == (other.start, other.end):
        return "second labels of one span"
    return (
        "entities inside others"
        if other.start <= entity.start and entity.end <= other.end
        else "entities that cross others"
    )
