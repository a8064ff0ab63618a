"""The local engine: greedy decoding on this machine, many sequences at once, each entering and leaving on its own.

What is computed once is kept: the states of every prompt's shared prefix. What the grammar forces is not asked of the
model, what a draft guesses right costs no step of its own, and of the output layer only the rows are computed that the
grammar allows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nertune.errors import InputError
from nertune.generate.cache import PrefixStates, SequenceCache
from nertune.generate.engine import Completion, Request
from nertune.generate.head import ChoiceHead
from nertune.generate.plain import generate_plain
from nertune.generate.prefix import compute_prefix
from nertune.generate.sequence import Layout, Sequence
from nertune.models.grammar import Ids, Vocabulary
from nertune.models.matmul import rounded

__all__ = ["LocalEngine"]

_PREFIXES = 8  # kept with their states
_PROMPT_TOKENS = 512  # read in one step, of all sequences together


class LocalEngine:
    """Runs a causal language model of transformers.

    `model`: with any adapter merged; the engine owns it from here on. `tokenizer`: a fast one of transformers; requests
    with a grammar need it. `batch_size`: sequences decoded together. `memory`: bytes that keys and values of sequences
    may take; fewer are decoded together where they are long. `drafts`: tokens that are checked in one step beyond those
    that must be, of all sequences together; 0 takes no guesses.
    Models whose attention cannot share a prefix are run through their own `generate`, several times slower;
    `shares_prefix` tells.
    """

    def __init__(
        self,
        model: Any,
        *,
        shares_prefix: bool,
        tokenizer: Any = None,
        batch_size: int = 32,
        memory: int = 2 << 30,
        drafts: int = 128,
    ) -> None:
        self.shares_prefix = shares_prefix
        self._model = model.eval()
        self._head = ChoiceHead.take_over(model)
        self._vocabulary_size: int = model.get_input_embeddings().weight.shape[0]
        self._vocabulary = Vocabulary(tokenizer, self._vocabulary_size) if tokenizer is not None else None
        self._batch_size = batch_size
        self._drafts = drafts
        self._places = max(1, memory // _bytes_per_token(model))
        self._prefixes: OrderedDict[tuple[int, ...], PrefixStates] = OrderedDict()

    @torch.inference_mode()
    def generate(self, requests: Items[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        """Raises InputError for a request that does not fit into the model's context, or whose grammar cannot be used."""
        self._check_lengths(requests)
        if not self.shares_prefix:
            return self._generate_plain(requests, done)
        completions: dict[int, Completion] = {}
        # Long answers first: so the last ones, which have the machine to themselves, are short.
        waiting = sorted(range(len(requests)), key=lambda place: -_places(requests[place]))
        waiting.reverse()
        batch = _Batch(SequenceCache(self._model.device))
        while waiting or batch.active:
            while waiting and self._fits(batch, requests[waiting[-1]]):
                place = waiting.pop()
                prefix_ids, prefix = self._prefix_of(requests[place])
                own_ids = requests[place].prompt_ids[len(prefix_ids) :]
                batch.enter(place, Sequence(requests[place], own_ids, self._vocabulary), prefix)
            ended = self._step(batch)
            completions.update(ended)
            if done and ended:
                done(len(completions))
        return [completions[place] for place in range(len(requests))]

    def _check_lengths(self, requests: Items[Request]) -> None:
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        for number, request in enumerate(requests, 1):
            needed = len(request.prompt_ids) + request.max_new_tokens
            if limit is not None and needed > limit:
                raise InputError(
                    f"text {number}: prompt of {len(request.prompt_ids)} tokens and {request.max_new_tokens} for the "
                    f"answer do not fit into the model's {limit}; split the text"
                )

    def _fits(self, batch: _Batch, request: Request) -> bool:
        """Whether one more sequence may enter: the slots are of equal length, that of the longest."""
        longest = max([_places(request), *(_places(sequence.request) for sequence in batch.active)])
        slots = len(batch.active) + 1
        return slots == 1 or (slots <= self._batch_size and slots * longest <= self._places)

    def _prefix_of(self, request: Request) -> tuple[tuple[int, ...], PrefixStates]:
        ids = request.prompt_ids[: min(request.shared_prefix, len(request.prompt_ids) - 1)]
        if ids not in self._prefixes:
            self._prefixes[ids] = compute_prefix(self._model, ids)
        self._prefixes.move_to_end(ids)
        states = self._prefixes[ids]
        if len(self._prefixes) > _PREFIXES:
            self._prefixes.popitem(last=False)
        return ids, states

    def _step(self, batch: _Batch) -> dict[int, Completion]:
        """One call of the model; returns the answers that are finished."""
        guesses = -(-self._drafts // len(batch.active))
        budget = _PROMPT_TOKENS
        layouts: list[Layout] = []
        for sequence in batch.active:
            layouts.append(sequence.lay_out(guesses, max(budget, 1)))
            budget -= layouts[-1].decided
        chosen, logprobs = self._choose(batch.cache, layouts)
        start = 0
        for slot, (sequence, layout) in enumerate(zip(batch.active, layouts, strict=True)):
            end = start + len(layout.options)
            kept = sequence.accept(chosen[start:end], logprobs[start:end])
            batch.cache.forget(slot, len(layout.ids) - kept)
            start = end
        return batch.leave()

    def _choose(self, cache: SequenceCache, layouts: Items[Layout]) -> tuple[list[int], list[float]]:
        """The model's choice and its logarithmic probability for each option of each layout, in order."""
        counts = [len(layout.ids) for layout in layouts]
        padding = rounded(sum(counts), self._model.get_input_embeddings().weight) - sum(counts)
        positions_1S = cache.plan(counts, padding=padding)
        keep: list[int] = []
        start = 0
        for layout, count in zip(layouts, counts, strict=True):
            keep += range(start + layout.decided - 1, start + layout.decided - 1 + len(layout.options))
            start += count
        ids = [token for layout in layouts for token in layout.ids] + [0] * padding
        options = [option for layout in layouts for option in layout.options]
        tokens, allowed = _candidates(options, self._vocabulary_size)
        device = self._model.device
        self._head.candidates = None if tokens is None else torch.from_numpy(tokens).to(device)
        logits_QC: Tensor = self._model(
            input_ids=torch.tensor([ids], device=device),
            position_ids=positions_1S,
            logits_to_keep=torch.tensor(keep or [0], device=device),
            use_cache=False,
            nertune_context=cache,
        ).logits[0]
        if not keep:
            return [], []
        if allowed is not None:
            logits_QC = logits_QC.float().masked_fill_(torch.from_numpy(~allowed).to(device), float("-inf"))
        best_Q = logits_QC.argmax(dim=-1)
        logprobs = logits_QC.float().log_softmax(dim=-1).gather(1, best_Q[:, None])[:, 0].tolist()
        chosen = best_Q.tolist() if tokens is None else tokens[best_Q.cpu().numpy()].tolist()
        return chosen, logprobs

    def _generate_plain(self, requests: Items[Request], done: Callable[[int], None] | None) -> list[Completion]:
        completions: list[Completion] = []
        for start in range(0, len(requests), self._batch_size):
            batch = requests[start : start + self._batch_size]
            completions += generate_plain(self._model, batch, self._vocabulary)
            if done:
                done(len(completions))
        return completions


class _Batch:
    """The sequences being decoded; `active[b]` is the one in slot b of the cache."""

    def __init__(self, cache: SequenceCache) -> None:
        self.cache = cache
        self.active: list[Sequence] = []
        self._places: list[int] = []

    def enter(self, place: int, sequence: Sequence, prefix: PrefixStates) -> None:
        self.active.append(sequence)
        self._places.append(place)
        self.cache.enter(prefix)

    def leave(self) -> dict[int, Completion]:
        """Take out what is finished: answers by their places among the requests."""
        ended = {}
        for slot in reversed(range(len(self.active))):
            completion = self.active[slot].completion
            if completion is None:
                continue
            ended[self._places[slot]] = completion
            self.cache.leave(slot)
            self.active[slot], self._places[slot] = self.active[-1], self._places[-1]
            self.active.pop()
            self._places.pop()
        return ended


def _candidates(options: Items[Ids | None], size: int) -> tuple[Ids | None, npt.NDArray[np.bool_] | None]:
    """All tokens that any option names, (C,), and which of them each option allows, (Q, C).

    Where an option is free: None for all `size` tokens of the vocabulary; and None where all are allowed.
    """
    lengths = [0 if option is None else len(option) for option in options]
    if not any(lengths):
        return None, None
    rows = np.repeat(np.arange(len(options)), lengths)
    named = np.concatenate([option for option in options if option is not None])
    free = [number for number, option in enumerate(options) if option is None]
    tokens: Ids | None = None
    columns = named
    if not free:
        tokens, columns = np.unique(named, return_inverse=True)
    allowed = np.zeros((len(options), size if tokens is None else len(tokens)), dtype=np.bool_)
    allowed[rows, columns] = True
    allowed[free] = True
    return tokens, allowed


def _places(request: Request) -> int:
    """How many tokens of its own a sequence may come to have."""
    shared = min(request.shared_prefix, len(request.prompt_ids) - 1)
    return len(request.prompt_ids) - shared + request.max_new_tokens


def _bytes_per_token(model: Any) -> int:
    """Keys and values of one token in all layers, in bytes."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width: int = model.get_input_embeddings().weight.element_size()
    return max(1, 2 * int(config.num_hidden_layers) * int(heads) * int(size) * width)
