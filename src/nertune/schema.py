"""The words that every room shares: entities, documents, label sets, predictions.

Offsets are half-open and count Unicode code points. `document.text[entity.start:entity.end] == entity.text` holds
for every entity that exists: the constructors refuse anything else, so no later stage has to check again.
Readers convert files that count otherwise; nothing past a reader ever sees another convention.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, NamedTuple, overload

from nertune.errors import InputError

__all__ = [
    "Document",
    "Entity",
    "LabelSet",
    "Mention",
    "ParseOutcome",
    "Prediction",
    "SourceText",
    "StopReason",
    "best_of_each",
    "in_reading_order",
    "label_title",
    "written_score",
]

StopReason = Literal["end", "length"]


class ParseOutcome(Enum):
    """What became of a model's answer when it was read.

    CLEAN: read as written. REPAIRED: read after a repair, or with parts left out. INVALID: nothing could be read.
    """

    CLEAN = "clean"
    REPAIRED = "repaired"
    INVALID = "invalid"


_LONGEST_LABEL = 1_000  # characters


@dataclass(frozen=True, slots=True)
class Entity:
    """A labelled stretch of a text.

    `start` and `end` are code points, half-open. `score`: the probability in [0, 1] that the model gave the entity, None
    where none was computed; `span_score` and `label_score`: of its place, and of its label there. Entities are equal that
    have one label, place and text, whatever their scores.
    """

    label: str
    start: int
    end: int
    text: str
    score: float | None = field(default=None, compare=False)
    span_score: float | None = field(default=None, compare=False)
    label_score: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise InputError(f"entity {self.text!r} has an empty or negative span [{self.start}, {self.end})")
        if self.end - self.start != len(self.text):
            raise InputError(
                f"entity {self.text!r} has {len(self.text)} characters, its span [{self.start}, {self.end}) "
                f"{self.end - self.start}"
            )


@dataclass(frozen=True, slots=True)
class Mention:
    """Something a model named: a label and a surface, at no known place. What stays one is *ungrounded*."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text and its entities, ordered by start, longer before shorter, then by label.

    Raises InputError when an entity's text is not the slice it names.
    """

    text: str
    entities: tuple[Entity, ...] = ()
    id: str | None = None

    def __post_init__(self) -> None:
        _check_slices(self.text, self.entities)
        object.__setattr__(self, "entities", in_reading_order(self.entities))

    @classmethod
    def of(cls, text: str, spans: Iterable[tuple[str, int, int]], *, id: str | None = None) -> Document:
        """A document from (label, start, end) triples; the entities' texts are the slices."""
        return cls(text, tuple(Entity(label, start, end, text[start:end]) for label, start, end in spans), id)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model found in one text.

    Every entity stands at its place in `text`; `ungrounded` keeps what the model named and the text does not hold.
    `stop` is "length" when the answer was cut off before it ended; `outcome` says how the answer was read.
    `windows`: in how many overlapping parts the text was read. `cut`: something was cut and may be missing or wrong for
    it: an answer that did not end, or a sentence too long for a window; a text cut between sentences is not.
    """

    text: str
    entities: tuple[Entity, ...] = ()
    ungrounded: tuple[Mention, ...] = ()
    stop: StopReason = "end"
    outcome: ParseOutcome = ParseOutcome.CLEAN
    id: str | None = None
    windows: int = 1
    cut: bool = False

    def __post_init__(self) -> None:
        _check_slices(self.text, self.entities)
        object.__setattr__(self, "entities", in_reading_order(self.entities))
        object.__setattr__(self, "cut", self.cut or self.stop == "length")

    def to_json(self) -> dict[str, object]:
        """The object of extraction JSONL: id, text, entities, ungrounded, stop; for several windows also windows and cut.

        An entity has the keys start, end, label, text, score; and span_score, label_score where these are known. Scores
        are rounded by `written_score`.
        """
        row: dict[str, object] = {
            "id": self.id,
            "text": self.text,
            "entities": [_entity_json(entity) for entity in self.entities],
            "ungrounded": [{"label": m.label, "text": m.text} for m in self.ungrounded],
            "stop": self.stop,
        }
        return row if self.windows == 1 else row | {"windows": self.windows, "cut": self.cut}


class SourceText(NamedTuple):
    """One row of a file of texts: what extraction reads.

    `id`: the row's own, or None. `row`: its number from 1: the line, or the record where the format has no lines.
    `problem`: why it cannot be used, None where it can; `text` is then what is known of it. `offset`: the byte of the file
    at which the next row begins, None where reading cannot begin there.
    """

    id: str | None
    text: str
    row: int = 1
    problem: str | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels that a task knows, in the order in which the prompt names them.

    `display`: what a model sees and writes instead of a label, such as 地点 for LOC; a label without an entry is shown as
    it is. `descriptions`: what a label covers, in a line, for the prompt. Entities always bear the label: `displayed` is
    the one way from labels to what a model writes, `label_of` the one way back.
    Raises InputError for names that answers cannot hold, for two labels that are shown alike, and for entries about labels
    that are not in the set.
    """

    names: tuple[str, ...]
    display: Mapping[str, str] = field(default_factory=dict, hash=False)
    descriptions: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("a label set needs at least one label")
        _check_names(self.names, "label")
        for what, entries in (("display name", self.display), ("description", self.descriptions)):
            _check_entries(entries, what, self.names)
        for name, shown in self.display.items():
            _check_names((shown,), f"the display name of {name},")
        # Entries that say nothing are left out, so that sets which show the same are equal.
        different = {name: self.display[name] for name in self.names if self.display.get(name, name) != name}
        object.__setattr__(self, "display", different)
        ordered = {name: self.descriptions[name] for name in self.names if name in self.descriptions}
        object.__setattr__(self, "descriptions", ordered)
        if alike := _shown_alike(self.names, different):
            raise InputError(
                f"labels {' and '.join(alike[1])} are both shown as {alike[0]!r}: make them one label, with data.label_map in "
                "a recipe, or give each a display name of its own"
            )

    @classmethod
    def from_documents(cls, documents: Iterable[Document]) -> LabelSet:
        """The labels that occur, most frequent first, ties by name."""
        counts: dict[str, int] = {}
        for document in documents:
            for entity in document.entities:
                counts[entity.label] = counts.get(entity.label, 0) + 1
        return cls(tuple(sorted(counts, key=lambda name: (-counts[name], name))))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, name: str) -> str | None:
        """The known label most like `name`, for messages."""
        found = difflib.get_close_matches(name, self.names, n=1, cutoff=0.5)
        return found[0] if found else None

    def title(self, name: str) -> str:
        """A label as people are shown it: `LOC (地点)`, or the label alone where a model sees no other."""
        return label_title(name, self.display)

    def shown(self) -> LabelSet:
        """The set as a model sees it: the display names are its labels, described as these are."""
        if not self.display:
            return self
        descriptions = {self.display.get(name, name): text for name, text in self.descriptions.items()}
        return LabelSet(tuple(self.display.get(name, name) for name in self.names), {}, descriptions)

    def displayed(self, document: Document) -> Document:
        """The document as an answer writes it: its entities bear the display names."""
        if not any(entity.label in self.display for entity in document.entities):
            return document
        shown = tuple(replace(e, label=self.display.get(e.label, e.label)) for e in document.entities)
        return replace(document, entities=shown)

    def label_of(self, written: str) -> str:
        """The label that an answer means: that of the display name, or what is written where it is none.

        So a label that a model writes in place of its display name is understood, unless another one is shown as that.
        """
        return next((name for name, shown in self.display.items() if shown == written), written)


def in_reading_order(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """Entities by start, outer before inner, then by label."""
    return tuple(sorted(entities, key=lambda e: (e.start, -e.end, e.label)))


def label_title(name: str, display: Mapping[str, str]) -> str:
    """A label as people are shown it: `LOC (地点)` where `display` has another name for it, which a model sees."""
    return f"{name} ({display[name]})" if name in display else name


def best_of_each(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """Each entity once, in the order of the first of its kind; of equal ones that with the highest score."""
    best: dict[Entity, Entity] = {}
    for entity in entities:
        known = best.get(entity)
        if known is None or (entity.score is not None and (known.score is None or entity.score > known.score)):
            best[entity] = entity
    return tuple(best.values())


@overload
def written_score(score: float) -> float: ...
@overload
def written_score(score: None) -> None: ...
@overload
def written_score(score: float | None) -> float | None: ...
def written_score(score: float | None) -> float | None:
    """A score as files and answers hold it: with six digits after the point, beyond which it depends on what was computed
    together with it.
    """
    return None if score is None else round(score, 6)


def _entity_json(entity: Entity) -> dict[str, object]:
    parts = {"span_score": written_score(entity.span_score), "label_score": written_score(entity.label_score)}
    return {
        "start": entity.start,
        "end": entity.end,
        "label": entity.label,
        "text": entity.text,
        "score": written_score(entity.score),
        **{key: value for key, value in parts.items() if value is not None},
    }


def _check_slices(text: str, entities: Iterable[Entity]) -> None:
    for entity in entities:
        found = text[entity.start : entity.end]
        if found != entity.text:
            raise InputError(
                f"entity {entity.text!r} ({entity.label}) is not what the text holds at "
                f"[{entity.start}, {entity.end}): {found!r}"
            )


def _check_names(names: Iterable[str], what: str) -> None:
    """Raises InputError for labels, or display names, that answers cannot hold, and for one that comes twice."""
    names = tuple(names)
    for name in names:
        if isinstance(name, str) and len(name) > _LONGEST_LABEL:
            raise InputError(
                f"a {what} of {len(name):,} characters cannot be used ({name[:40]}…): it stands in every prompt, so it is "
                f"{_LONGEST_LABEL:,} at most; is a text where a label should be?"
            )
        if not isinstance(name, str) or not name or name != name.strip() or any(c in name for c in "[]|\\\n\r"):
            raise InputError(
                f"{what} {name!r} cannot be used: labels are not empty, have no edge spaces, "
                "no line breaks and none of [ ] | \\"
            )
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(f"labels named twice: {', '.join(repeated)}")


def _check_entries(entries: Mapping[str, str], what: str, names: tuple[str, ...]) -> None:
    """Raises InputError for display names or descriptions of labels that are not there, and for such as are no line."""
    for name, text in entries.items():
        if name not in names:
            raise InputError(f"a {what} is given for {name!r}, which is none of the labels: {', '.join(names)}")
        if not isinstance(text, str) or not text.strip() or len(text.splitlines()) > 1:
            raise InputError(f"the {what} of {name} must be one line of text, found {text!r:.60}")


def _shown_alike(names: tuple[str, ...], display: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """What several labels are shown as, and these labels; None where each is shown as something of its own."""
    by_shown: dict[str, list[str]] = {}
    for name in names:
        by_shown.setdefault(display.get(name, name), []).append(name)
    return next(((shown, alike) for shown, alike in by_shown.items() if len(alike) > 1), None)
