"""Grounding: from what an answer says to entities at known places of the text.

Formats that list mentions are placed by order: the n-th mention of a surface goes to its n-th occurrence. Formats that
copy the text are placed where they stand, after aligning the copy with the text where the model altered it. What the
text does not hold stays visible as ungrounded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from difflib import Match, SequenceMatcher
from typing import NamedTuple

from nertune.extract.scores import MentionScore
from nertune.prompt import ParsedAnswer, Placed
from nertune.schema import Entity, LabelSet, Mention, best_of_each, in_reading_order

__all__ = ["Grounded", "ground"]


_ALIGNED = 1000  # characters of an altered copy that are matched against the text

_Scores = tuple[float | None, float | None, float | None]
_UNKNOWN: _Scores = (None, None, None)


class Grounded(NamedTuple):
    """Entities in reading order without duplicates, and the mentions that have no place."""

    entities: tuple[Entity, ...]
    ungrounded: tuple[Mention, ...]


def ground(
    text: str, answer: ParsedAnswer, labels: LabelSet | None = None, scores: Sequence[MentionScore] = ()
) -> Grounded:
    """Place an answer's mentions in the text. Mentions with a label outside `labels` are ungrounded.

    An answer is written in display names: what comes out bears the labels. Here alone the one becomes the other.
    `scores`: of each mention, in the answer's order; the entities take them along. Empty where there are none.

    Tokenizers that normalize to NFC (Qwen's) give decomposed text back composed: such an answer is compared with the
    composed text and its places are carried back, unless it is a copy of the text to the letter.
    """
    if labels is not None and labels.display:
        answer = _labelled(answer, labels)
    composed = None if answer.copy == text or unicodedata.is_normalized("NFC", text) else _compose(text)
    if composed is not None:
        entities, ungrounded = _ground_in(composed.text, answer, scores)
        entities, outside = composed.carry_back(text, entities)
        ungrounded += outside
    if composed is None or ungrounded:
        direct = _ground_in(text, answer, scores)
        if composed is None or len(direct[1]) < len(ungrounded):
            entities, ungrounded = direct
    if labels is not None:
        ungrounded += [Mention(e.label, e.text) for e in entities if e.label not in labels]
        entities = [entity for entity in entities if entity.label in labels]
    return Grounded(in_reading_order(best_of_each(entities)), tuple(ungrounded))


def _labelled(answer: ParsedAnswer, labels: LabelSet) -> ParsedAnswer:
    """The answer with labels for what it calls them."""
    mentions = tuple(replace(mention, label=labels.label_of(mention.label)) for mention in answer.mentions)
    placed = tuple(replace(mention, label=labels.label_of(mention.label)) for mention in answer.placed)
    return replace(answer, mentions=mentions, placed=placed)


class _Composed(NamedTuple):
    """A text in NFC. `origin` gives, for each place of it between clusters, the place of the text as it was."""

    text: str
    origin: dict[int, int]

    def carry_back(self, text: str, entities: Sequence[Entity]) -> tuple[list[Entity], list[Mention]]:
        """The entities at their places in the text as it was, and those that begin or end inside a cluster."""
        carried, lost = [], []
        for entity in entities:
            start, end = self.origin.get(entity.start), self.origin.get(entity.end)
            if start is None or end is None:
                lost.append(Mention(entity.label, entity.text))
            else:
                carried.append(replace(entity, start=start, end=end, text=text[start:end]))
        return carried, lost


def _compose(text: str) -> _Composed | None:
    """The text in NFC (Unicode Standard Annex #15), cluster by cluster; None where clusters cannot be told apart."""
    parts: list[str] = []
    origin = {0: 0}
    length = start = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and (unicodedata.combining(text[end]) or "\u1160" <= text[end] <= "\u11ff"):
            continue
        parts.append(unicodedata.normalize("NFC", text[start:end]))
        length += len(parts[-1])
        origin[length] = start = end
    composed = "".join(parts)
    return _Composed(composed, origin) if composed == unicodedata.normalize("NFC", text) else None


def _ground_in(text: str, answer: ParsedAnswer, scores: Sequence[MentionScore]) -> tuple[list[Entity], list[Mention]]:
    known = [(score.both, score.span, score.label) for score in scores]
    if answer.copy is not None:
        return _ground_copy(text, answer.copy, answer.placed, known or [_UNKNOWN] * len(answer.placed))
    return _ground_mentions(text, answer.mentions, known or [_UNKNOWN] * len(answer.mentions))


def _ground_mentions(
    text: str, mentions: Sequence[Mention], scores: Sequence[_Scores]
) -> tuple[list[Entity], list[Mention]]:
    """The n-th mention of a surface to its n-th occurrence.

    When a surface is named more often than it occurs, a label not yet given to it goes to its first occurrence (one
    place may have two labels); a mere repetition has no place left and is ungrounded.
    """
    places: dict[str, list[int]] = {}
    used: dict[str, int] = {}
    entities: list[Entity] = []
    ungrounded: list[Mention] = []
    for mention, score in zip(mentions, scores, strict=True):
        if mention.text not in places:
            places[mention.text] = _occurrences(text, mention.text)
        starts, nth = places[mention.text], used.get(mention.text, 0)
        known_label = any(e.label == mention.label and e.text == mention.text for e in entities)
        if nth < len(starts):
            start = starts[nth]
            used[mention.text] = nth + 1
        elif starts and not known_label:
            start = starts[0]
        else:
            ungrounded.append(mention)
            continue
        entities.append(Entity(mention.label, start, start + len(mention.text), mention.text, *score))
    return entities, ungrounded


def _occurrences(text: str, surface: str) -> list[int]:
    """Where a surface starts, left to right, without overlaps."""
    starts = []
    start = text.find(surface) if surface else -1
    while start >= 0:
        starts.append(start)
        start = text.find(surface, start + len(surface))
    return starts


def _ground_copy(
    text: str, copy: str, placed: Sequence[Placed], scores: Sequence[_Scores]
) -> tuple[list[Entity], list[Mention]]:
    """Places in a copy to places in the text."""
    if copy == text:
        scored = zip(placed, scores, strict=True)
        return [Entity(p.label, p.start, p.end, text[p.start : p.end], *score) for p, score in scored], []
    # A template may strip the text's edges, so a copy of the stripped text is as good as a verbatim one.
    if copy.strip() and copy.strip() == text.strip():
        shift = text.index(copy.strip()) - copy.index(copy.strip())
        moved = [Placed(p.label, p.start + shift, p.end + shift) for p in placed]
        if all(p.start >= 0 and p.end <= len(text) for p in moved):
            return _ground_copy(text, text, moved, scores)
    expected = _aligned(copy, text)
    entities: list[Entity] = []
    ungrounded: list[Mention] = []
    for p, score in zip(placed, scores, strict=True):
        surface = copy[p.start : p.end]
        taken = {e.start for e in entities if e.label == p.label and e.text == surface}
        free = [start for start in _occurrences(text, surface) if start not in taken]
        if free:
            start = min(free, key=lambda start: (abs(start - expected[p.start]), start))
            entities.append(Entity(p.label, start, start + len(surface), surface, *score))
        else:
            ungrounded.append(Mention(p.label, surface))
    return entities, ungrounded


def _aligned(copy: str, text: str) -> list[int]:
    """For each place of the copy, the place of the text it most likely stands for (Ratcliff/Obershelp matching blocks).

    What both begin and end with is taken off first, and only the first _ALIGNED characters of the rest are matched: the
    time grows with their square where a model repeats itself.
    """
    begin = _common(copy, text)
    end = _common(copy[begin:][::-1], text[begin:][::-1])
    inner_copy, inner_text = copy[begin : len(copy) - end], text[begin : len(text) - end]
    matcher = SequenceMatcher(None, inner_copy[:_ALIGNED], inner_text[:_ALIGNED], autojunk=False)
    blocks = [
        Match(0, 0, begin),
        *(Match(block.a + begin, block.b + begin, block.size) for block in matcher.get_matching_blocks()[:-1]),
        Match(len(copy) - end, len(text) - end, end),
    ]
    expected = list(range(len(copy) + 1))
    shift = position = 0
    for block in blocks:
        for place in range(position, block.a):
            expected[place] = place + shift
        shift = block.b - block.a
        for place in range(block.a, block.a + block.size):
            expected[place] = place + shift
        position = block.a + block.size
    return expected


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
