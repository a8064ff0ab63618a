"""The model's probability of each entity of an answer, from the probabilities of the tokens that write it.

By the chain rule the probability of a stretch of an answer is the product of its tokens' probabilities, each given all
that stands before it. Under a grammar a token's probability is that among the tokens the grammar allowed at its place, so
what the grammar forces has probability 1 and changes no score. In the `inline` format the product over the tokens of
`[叶老桂 | ` says: opened here, gone on with at each character, closed here; that over `name` says: this label and no other.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from nertune.prompt import ParsedAnswer
from nertune.prompt.answers.base import Written
from nertune.schema import LabelSet

__all__ = ["MentionScore", "mention_scores"]

# Natural logarithms below it make no difference to a probability, and an endless one would spoil the sums behind it.
_LOWEST = -1000.0


class MentionScore(NamedTuple):
    """Probabilities in [0, 1]: of an entity's place (`span`) and of its label (`label`).

    Each is given what the answer says before it: where the label is written last, it is the label's at this place.
    """

    span: float
    label: float

    @property
    def both(self) -> float:
        """The probability of the entity: of this place with this label."""
        return self.span * self.label


def mention_scores(
    places: Sequence[tuple[int, int]], logprobs: Sequence[float], answer: ParsedAnswer, labels: LabelSet
) -> tuple[MentionScore, ...]:
    """Scores of an answer's mentions, in their order; empty where the answer does not say where these are written.

    `places`: for each token the half-open characters of the answer that it holds, in order (`Renderer.token_places`).
    `logprobs`: the natural logarithm of each token's probability; further ones, as of a stop token, are passed over.
    `labels`: as answers name them, which is `Renderer.shown`.

    No token counts twice in a mention. One that holds a character of the label counts for the label, whatever else it
    holds; of the others, those that hold a character of the span count for the span, also where they begin before it: a
    token `，[` is the decision to open. Where another label begins with this one, the character after the label, which
    tells them apart, belongs to the label. Of an entity nested in another, the tokens that lie in it altogether count
    for it alone: the outer one's score is that given the inner one. In formats that list mentions, all that follows the
    mention before counts for the span too: the decision to list one more. Time: linear but for sorting the mentions.
    """
    names = [placed.label for placed in answer.placed] or [mention.label for mention in answer.mentions]
    if len(names) != len(answer.written):
        return ()
    tokens = _Tokens(places, logprobs)
    written = _listed(answer.written) if answer.copy is None else answer.written
    scores = []
    for name, (span, label), nested in zip(names, written, _inner_sums(tokens, written), strict=True):
        first, last = tokens.touching(*span)
        label_first, label_last = tokens.touching(label[0], label[1] + _is_ambiguous(name, labels))
        shared = tokens.sum(max(first, label_first), min(last, label_last))
        span_sum = tokens.sum(first, last) - shared - nested
        scores.append(MentionScore(_probability(span_sum), _probability(tokens.sum(label_first, label_last))))
    return tuple(scores)


class _Tokens:
    """Tokens by their characters, and sums of their log-probabilities."""

    def __init__(self, places: Sequence[tuple[int, int]], logprobs: Sequence[float]) -> None:
        self._starts = [start for start, _ in places]
        self._ends = [end for _, end in places]
        bounded = (min(max(value, _LOWEST), 0.0) for value in logprobs[: len(places)])
        self._before = list(accumulate(bounded, initial=0.0))

    def touching(self, start: int, end: int) -> tuple[int, int]:
        """The half-open range of the tokens that hold a character of [start, end)."""
        return bisect_right(self._ends, start), bisect_left(self._starts, end)

    def within(self, start: int, end: int) -> tuple[int, int]:
        """The half-open range of the tokens that hold no character outside [start, end)."""
        return bisect_left(self._starts, start), bisect_right(self._ends, end)

    def sum(self, first: int, last: int) -> float:
        """Of the log-probabilities of tokens [first, last); 0 where that is empty."""
        return self._before[last] - self._before[first] if last > first else 0.0


def _listed(written: Sequence[Written]) -> list[Written]:
    """Spans that begin where the mention before has ended."""
    found, before = [], 0
    for span, label in written:
        found.append(Written((min(before, span[0]), span[1]), label))
        before = max(before, span[1], label[1])
    return found


def _inner_sums(tokens: _Tokens, written: Sequence[Written]) -> list[float]:
    """For each mention the log-probability of the tokens that lie within mentions nested in its span."""
    sums = [0.0] * len(written)
    around: list[int] = []
    for number in sorted(range(len(written)), key=lambda number: (written[number].span[0], -written[number].span[1])):
        span, label = written[number]
        while around and written[around[-1]].span[1] < span[1]:
            around.pop()
        if around and span[0] < written[around[-1]].span[1] and written[around[-1]].span != span:
            first, last = written[around[-1]].span
            inside = max(first, min(span[0], label[0])), min(last, max(span[1], label[1]))
            sums[around[-1]] += tokens.sum(*tokens.within(*inside))
        around.append(number)
    return sums


def _is_ambiguous(name: str, labels: LabelSet) -> bool:
    return any(other != name and other.startswith(name) for other in labels)


def _probability(logarithm: float) -> float:
    return math.exp(min(logarithm, 0.0))
