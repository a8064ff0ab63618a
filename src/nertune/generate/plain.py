"""Generation by the model's own `generate`: for attention that cannot share a prefix, and to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from nertune.generate.engine import Completion, Request
from nertune.generate.sequence import check_finite, constraint_of
from nertune.models.grammar import Constraint, Vocabulary, ids_of
from nertune.schema import StopReason

__all__ = ["generate_plain"]


def generate_plain(model: Any, batch: Sequence[Request], vocabulary: Vocabulary | None) -> list[Completion]:
    """Greedy answers to requests decoded together, left-padded."""
    longest = max(len(request.prompt_ids) for request in batch)
    gaps = [longest - len(request.prompt_ids) for request in batch]
    # A row may end early at what ends every request; what ends some is looked for below.
    common_stops = sorted(frozenset.intersection(*(request.stop_ids for request in batch)))
    pad = 0
    # A model's own settings are for conversation: sampling, penalties. These would reach even a greedy call.
    model.generation_config = GenerationConfig()
    record = _Record(batch, vocabulary)
    out = model.generate(
        input_ids=torch.tensor(
            [[pad] * gap + list(r.prompt_ids) for gap, r in zip(gaps, batch, strict=True)], device=model.device
        ),
        attention_mask=torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], device=model.device),
        max_new_tokens=max(request.max_new_tokens for request in batch),
        do_sample=False,
        eos_token_id=common_stops or None,
        pad_token_id=pad,
        logits_processor=LogitsProcessorList([record]),
    )
    completions = []
    for number, (request, ids) in enumerate(zip(batch, out[:, longest:].tolist(), strict=True)):
        end = next((place for place, token in enumerate(ids) if token in request.stop_ids), len(ids))
        answer = ids[: min(end, request.max_new_tokens)]
        stop: StopReason = "end" if len(answer) < min(len(ids), request.max_new_tokens) else "length"
        logprobs = record.of(number, [*ids[:end], *ids[end : end + 1]])
        for logprob in logprobs:
            check_finite(logprob)
        completions.append(Completion(tuple(answer), stop, logprobs))
    return completions


class _Record(LogitsProcessor):
    """Keeps every row in its grammar, and the probabilities of what may be chosen."""

    def __init__(self, batch: Sequence[Request], vocabulary: Vocabulary | None) -> None:
        self._batch = batch
        self._rows = [_Row(request, constraint_of(request, vocabulary)) for request in batch]
        self._start: int | None = None
        self._logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._start is None:
            self._start = input_ids.shape[1]
        for number, row in enumerate(self._rows):
            allowed = row.follow(input_ids[number, self._start :].tolist())
            if allowed is not None:
                kept = scores[number, allowed]
                scores[number] = float("-inf")
                scores[number, allowed] = kept
        self._logprobs.append(scores.float().log_softmax(dim=-1))
        return scores

    def of(self, number: int, ids: Sequence[int]) -> tuple[float, ...]:
        """Logarithmic probabilities of a row's first new tokens."""
        limit = self._batch[number].max_new_tokens
        steps = zip(self._logprobs, ids[:limit], strict=False)
        return tuple(float(logprobs[number, token]) for logprobs, token in steps)


class _Row:
    """Where one row stands in its grammar."""

    def __init__(self, request: Request, constraint: Constraint | None) -> None:
        self._request = request
        self._constraint = constraint
        self._seen = 0
        self._forced: list[int] = []
        self._ended = constraint is None

    def follow(self, answer: Sequence[int]) -> list[int] | None:
        """Take what was chosen since; returns what may be next, None for anything."""
        if self._ended or self._constraint is None:
            return None
        for token in answer[self._seen :]:
            if token in self._request.stop_ids:
                self._ended = True
                return None
            self._constraint.advance(token)
        self._seen = len(answer)
        if not self._forced:
            self._forced = self._constraint.forced()
        if self._forced:
            return [self._forced.pop(0)]
        allowed: list[int] = ids_of(self._constraint.allowed()).tolist()
        return allowed
