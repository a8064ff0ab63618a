"""Tags of tokens (BIO and its relatives) to stretches of tokens, and back.

Tags are read as conlleval reads them (CoNLL-2000, https://www.clips.uantwerpen.be/conll2000/chunking/output.html), with the
E and S that its successors know: seqeval's `get_entities` gives the same stretches for any sequence, well formed or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, NamedTuple

from nertune.data.loss import Expressed, Loss, flat, unscored, without
from nertune.errors import InputError
from nertune.schema import Document, Entity, LabelSet

__all__ = [
    "SCHEMES",
    "Chunk",
    "Scheme",
    "Tag",
    "Tagging",
    "chunks",
    "is_label",
    "is_tag",
    "letters_of",
    "taggable",
    "tags_of",
]

Scheme = Literal["bio", "bioes", "bmes"]
SCHEMES: tuple[Scheme, ...] = ("bio", "bioes", "bmes")

# What the letters of all the schemes mean in those of BIOES: M(iddle), L(ast), U(nit), W(hole).
_MEANS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
_BEFORE = re.compile(r"([BIMELSUW])[-_](.+)", re.DOTALL)
_BEHIND = re.compile(r"(.+)[-_]([BIMELSUW])", re.DOTALL)
_WHOLE = re.compile("S|BI*E")
_WRITTEN: dict[Scheme, tuple[str, str, str, str]] = {
    "bio": ("B", "I", "I", "B"),
    "bioes": ("B", "I", "E", "S"),
    "bmes": ("B", "M", "E", "S"),
}


class Tag(NamedTuple):
    """A tag in the letters of BIOES, `O` without a label."""

    letter: str
    label: str


OUTSIDE = Tag("O", "")


class Chunk(NamedTuple):
    """A labelled stretch of tokens, half-open. `letters`: those of its tags."""

    label: str
    start: int
    end: int
    letters: str


@dataclass(frozen=True)
class Tagging:
    """How a file's tags are written: `scheme`, for people, and where the letter stands (None: bare labels)."""

    scheme: str
    letter: Literal["before", "behind"] | None = "before"

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]]) -> Tagging:
        """Told from the tags of some sentences. Scheme "" where they are all O."""
        sentences = list(sentences)
        distinct = {tag for tags in sentences for tag in tags if not _is_outside(tag)}
        if not distinct:
            return cls("")
        before, behind = (sum(form.fullmatch(tag) is not None for tag in distinct) for form in (_BEFORE, _BEHIND))
        if not before and not behind:
            return cls("IO", None)
        letter: Literal["before", "behind"] = "behind" if behind > before else "before"
        form, group = (_BEFORE, 1) if letter == "before" else (_BEHIND, 2)
        letters = {found[group] for tag in distinct if (found := form.fullmatch(tag))}
        return cls(_scheme(letters, cls("", letter), sentences), letter)

    def parse(self, tag: str) -> Tag | None:
        """A tag, or None for what is none in this way of writing."""
        if _is_outside(tag):
            return OUTSIDE
        if self.letter is None:
            return Tag("I", tag) if tag else None
        if self.letter == "before":
            found = _BEFORE.fullmatch(tag)
            return found and Tag(_MEANS[found[1]], found[2])
        found = _BEHIND.fullmatch(tag)
        return found and Tag(_MEANS[found[2]], found[1])

    def is_broken(self, chunk: Chunk) -> bool:
        """Whether the scheme does not write a stretch so."""
        if self.scheme in ("IO", "IOB1"):
            return False
        if self.scheme in ("", "BIO"):
            return chunk.letters[0] != "B"
        return _WHOLE.fullmatch(chunk.letters) is None


def is_tag(tag: str) -> bool:
    """Whether it looks like a tag of any scheme but the one of bare labels."""
    return _is_outside(tag) or _BEFORE.fullmatch(tag) is not None or _BEHIND.fullmatch(tag) is not None


def chunks(tags: Iterable[Tag]) -> Iterator[Chunk]:
    """The stretches that the tags mark, in their order."""
    before, start, letters = OUTSIDE, 0, ""
    for position, tag in enumerate(chain(tags, [OUTSIDE])):
        apart = tag.letter in "BSO" or before.letter in "ESO" or tag.label != before.label
        if apart and before.letter != "O":
            yield Chunk(before.label, start, position, letters)
        if apart:
            start, letters = position, ""
        letters += tag.letter
        before = tag


def letters_of(scheme: Scheme) -> str:
    """The letters that a scheme's tags begin with, but O."""
    return "".join(dict.fromkeys(_WRITTEN[scheme]))


def tags_of(document: Document, tokens: Sequence[tuple[int, int]], scheme: Scheme) -> list[str]:
    """A tag for each token (code points, half-open) of a document that `taggable` gave."""
    first, inner, last, only = _WRITTEN[scheme]
    starts = {start: position for position, (start, _) in enumerate(tokens)}
    ends = {end: position for position, (_, end) in enumerate(tokens)}
    tags = ["O"] * len(tokens)
    for entity in document.entities:
        begin, end = starts[entity.start], ends[entity.end]
        letters = [only] if begin == end else [first, *[inner] * (end - begin - 1), last]
        tags[begin : end + 1] = [f"{letter}-{entity.label}" for letter in letters]
    return tags


def taggable(document: Document) -> Expressed:
    """What tags can say of a document: flat entities that begin and end with a character that is not white space."""
    return Expressed(document).then(_labelled).then(_trimmed).then(flat).then(unscored)


def _labelled(document: Document) -> Expressed:
    """A document whose labels a tag can hold."""
    losses = tuple(
        Loss("labels that no tag can hold", entity, left_out=True)
        for entity in document.entities
        if not is_label(entity.label) or "\t" in entity.label
    )
    return Expressed(without(document, (loss.entity for loss in losses if loss.entity)), losses)


def _trimmed(document: Document) -> Expressed:
    kept: list[Entity] = []
    losses: list[Loss] = []
    for entity in document.entities:
        text = entity.text.strip()
        if text == entity.text:
            kept.append(entity)
            continue
        losses.append(Loss("white space at the edges of entities", entity, left_out=not text))
        if text:
            start = entity.start + len(entity.text) - len(entity.text.lstrip())
            kept.append(replace(entity, start=start, end=start + len(text), text=text))
    return Expressed(replace(document, entities=tuple(kept)), tuple(losses)) if losses else Expressed(document)


def is_label(label: str) -> bool:
    """Whether a reader would take it for a label."""
    try:
        LabelSet((label,))
    except InputError:
        return False
    return True


def _is_outside(tag: str) -> bool:
    return tag in ("O", "o")


def _scheme(letters: set[str], tagging: Tagging, sentences: Iterable[Sequence[str]]) -> str:
    if letters & {"M", "W"}:
        return "BMES" if "W" not in letters else "BMEW"
    if letters & {"L", "U"}:
        return "BILOU"
    if letters & {"E", "S"}:
        return "BIOES"
    # IOB1 has B only where an entity follows another of its label at once (Ramshaw and Marcus 1995, cmp-lg/9505040).
    started = False
    for tags in sentences:
        before = OUTSIDE
        for tag in (tagging.parse(tag) or OUTSIDE for tag in tags):
            if tag.letter == "B" and before.label != tag.label:
                return "BIO"
            started = started or (tag.letter == "I" and before.label != tag.label)
            before = tag
    return "IOB1" if started else "BIO"
