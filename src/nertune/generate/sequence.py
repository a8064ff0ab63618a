"""One answer being generated: what the model is asked at the next step, and what its reply makes of the answer.

A step computes the states of `pending` tokens, which are decided, and of a *draft*, which is not: tokens that the grammar
forces, and a guess at what follows. The model's choice after each of them is known afterwards; the draft counts as far as
it is what the model chose, so guesses change the time and never the answer (Leviathan et al. 2023, arXiv 2211.17192,
with greedy choices; drafts copied from the prompt as in Saxena's prompt lookup decoding).
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from typing import NamedTuple

import numpy as np

from nertune.errors import NotFiniteError
from nertune.generate.engine import Completion, Request
from nertune.models.grammar import Allowed, Constraint, Vocabulary, is_mask
from nertune.schema import StopReason

__all__ = ["Layout", "Sequence", "check_finite", "constraint_of"]


def constraint_of(request: Request, vocabulary: Vocabulary | None) -> Constraint | None:
    """A request's grammar at its start; None where the model is free. Raises InputError for one that cannot be used."""
    if request.grammar is None:
        return None
    if vocabulary is None:
        raise ValueError("a request with a grammar needs an engine that knows its tokenizer")
    return vocabulary.constraint(request.grammar, request.stop_ids, foreign=request.foreign)


def check_finite(logprob: float) -> None:
    """Raises NotFiniteError where a token was chosen among numbers of which some are NaN or infinite."""
    if not math.isfinite(logprob):
        raise NotFiniteError(
            "the model's output is not finite (NaN or infinite), so its answer means nothing: its weights are damaged, or its "
            "numbers are too large for the type it runs in; try float32 (--dtype float32), or restore the model's files"
        )


class Layout(NamedTuple):
    """What one sequence brings into a step.

    `ids`: decided tokens, then the draft. `decided`: how many are decided. `options`: for the last decided token and each
    token of the draft, the tokens among which the model chooses next; None for all of the vocabulary. There are fewer
    than that where the answer may not grow any further, and none while a long prompt is still being read.
    """

    ids: list[int]
    decided: int
    options: list[Allowed | None]


class Sequence:
    """An unfinished answer. `pending`: decided tokens whose states are not computed yet, never empty."""

    def __init__(self, request: Request, own_ids: Items[int], vocabulary: Vocabulary | None) -> None:
        self.request = request
        self.pending = list(own_ids)
        self._vocabulary = vocabulary
        self._constraint = constraint_of(request, vocabulary)
        self._answer: list[int] = []
        self._logprobs: list[float] = []
        self._guess: list[int] | None = None
        self._stop: StopReason | None = None

    def lay_out(self, guesses: int, most: int) -> Layout:
        """The next step: a draft of at most `guesses` uncertain tokens; no more than `most` tokens of a long prompt."""
        if len(self.pending) > most:
            self._layout = Layout(self.pending[:most], most, [])
            return self._layout
        draft: list[int] = []
        options: list[Allowed | None] = []
        room = self.request.max_new_tokens - len(self._answer)
        while len(options) < room:
            forced = self._forced(room - len(options))
            for token in forced:
                options.append(np.array([token]))
                self._advance(draft, token)
            if forced:
                self._guess = None
                continue
            options.append(self._constraint.allowed() if self._constraint else None)
            guess = self._guesses(draft) if guesses else []
            if not guess or not self._may(guess[0], options[-1]):
                break
            guesses -= 1
            self._advance(draft, guess.pop(0))
        self._layout = Layout(self.pending + draft, len(self.pending), options)
        return self._layout

    def accept(self, chosen: Items[int], logprobs: Items[float]) -> int:
        """Take the model's choices, one for each of the layout's options; returns how many states are to be kept.

        Raises InputError where its grammar cannot be followed, NotFiniteError where the model's numbers are not finite.
        """
        layout = self._layout
        draft = layout.ids[layout.decided :]
        if not layout.options:
            self.pending = self.pending[layout.decided :]
            return layout.decided
        kept = 0
        for token, logprob in zip(chosen, logprobs, strict=True):
            check_finite(logprob)
            self._logprobs.append(logprob)
            if token in self.request.stop_ids:
                self._stop = "end"
                break
            self._answer.append(token)
            if len(self._answer) == self.request.max_new_tokens:
                self._stop = "length"
                break
            if kept < len(draft) and draft[kept] == token:
                kept += 1
                continue
            self._take(token, kept, draft)
            break
        return layout.decided + kept

    @property
    def completion(self) -> Completion | None:
        """The finished answer, None before that."""
        if self._stop is None:
            return None
        return Completion(tuple(self._answer), self._stop, tuple(self._logprobs))

    @property
    def so_far(self) -> tuple[Items[int], Items[float]]:
        """The tokens of the answer, and their logprobs."""
        return self._answer, self._logprobs

    def _take(self, token: int, kept: int, draft: list[int]) -> None:
        """Go on from the first choice that the draft does not hold."""
        if self._constraint:
            self._constraint.rollback(len(draft) - kept)
            self._constraint.advance(token)
            if self._constraint.finished:
                self._stop = "end"
                self._logprobs.append(0.0)
        if kept < len(draft) or not self._guess or self._guess[0] != token:
            self._guess = None
        else:
            self._guess = self._guess[1:]
        self.pending = [token]

    def _forced(self, room: int) -> list[int]:
        return self._constraint.forced()[:room] if self._constraint else []

    def _advance(self, draft: list[int], token: int) -> None:
        draft.append(token)
        if self._constraint:
            self._constraint.advance(token)

    def _may(self, token: int, options: Allowed | None) -> bool:
        if token in self.request.stop_ids:
            return False
        return options is None or bool(options[token] if is_mask(options) else (options == token).any())

    def _guesses(self, draft: list[int]) -> list[int]:
        """What is expected to follow the draft."""
        if self._guess is None:
            self._guess = []
            if self.request.draft is not None and self._vocabulary is not None:
                expected = self.request.draft(self._vocabulary.text(self._answer + draft))
                self._guess = self._vocabulary.ids(expected) if expected else []
        return self._guess
