"""The local engine: greedy decoding on this machine, many sequences at once, each entering and leaving on its own.

What is computed once is kept: the states of every prompt's shared prefix. What the grammar forces is not asked of the
model, what a draft guesses right costs no step of its own, and where a grammar allows few tokens only their rows of the
output layer are computed.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nertune.errors import InputError
from nertune.generate.adapters import Adapters
from nertune.generate.allocator import give_back_large_blocks
from nertune.generate.cache import Move, PrefixStates, SequenceCache
from nertune.generate.engine import Completion, Outcome, Request
from nertune.generate.head import ChoiceHead
from nertune.generate.plain import generate_plain
from nertune.generate.prefix import compute_prefix
from nertune.generate.sequence import Layout, Sequence
from nertune.models.grammar import Allowed, Ids, Mask, Vocabulary, ids_of, is_mask
from nertune.models.matmul import rounded

__all__ = ["Decoding", "LocalEngine"]

_PREFIXES = 8  # kept with their states, for the model and for each adapter
_PROMPT_TOKENS = 512  # read in one step, of all sequences together


class LocalEngine:
    """Runs a causal language model of transformers.

    `model`: with any adapter merged that is not of `adapters`; the engine owns it from here on. `tokenizer`: a fast one of
    transformers; requests with a grammar need it. `batch_size`: sequences decoded together. `memory`: bytes that keys and
    values of sequences may take; fewer are decoded together where they are long. `drafts`: tokens that are checked in one
    step beyond those that must be, of all sequences together; 0 takes no guesses. `adapters`: folders of LoRA adapters by
    name, which stay beside the model's weights; sequences of all of them and of the model itself are decoded together.
    Models whose attention cannot share a prefix are run through their own `generate`, several times slower;
    `shares_prefix` tells. Raises RunError for an adapter that cannot be used so, or not with this model.
    """

    def __init__(
        self,
        model: Any,
        *,
        shares_prefix: bool,
        tokenizer: Any = None,
        batch_size: int = 96,
        memory: int = 2 << 30,
        drafts: int = 96,
        adapters: Mapping[str, str | Path] | None = None,
    ) -> None:
        if model.device.type == "cpu":
            give_back_large_blocks()
        self.shares_prefix = shares_prefix
        self.model = model.eval()
        self.adapters = Adapters(model, adapters or {})
        self._head = ChoiceHead.take_over(model)
        self.vocabulary_size: int = model.get_input_embeddings().weight.shape[0]
        self.vocabulary = Vocabulary(tokenizer, self.vocabulary_size) if tokenizer is not None else None
        self.batch_size = batch_size
        self.drafts = drafts
        self.places = max(1, memory // _bytes_per_token(model))
        self._prefixes: OrderedDict[tuple[str | None, tuple[int, ...]], PrefixStates] = OrderedDict()

    def decoding(self) -> Decoding:
        """A new Decoding, into which nothing goes over from an earlier one: the prefixes' states are computed anew."""
        self._prefixes.clear()
        return Decoding(self)

    @torch.inference_mode()
    def generate(self, requests: Items[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        """Raises InputError for a request that does not fit into the model's context, or whose grammar cannot be used, and
        NotFiniteError where the model's numbers are not finite."""
        for number, request in enumerate(requests, 1):
            self.check(request, number)
        if not self.shares_prefix:
            return self._generate_plain(requests, done)
        completions: dict[Hashable, Completion] = {}
        decoding = Decoding(self)
        # Long answers first: so the last ones, which have the machine to themselves, are short.
        for place in sorted(range(len(requests)), key=lambda place: -_places(requests[place])):
            decoding.add(place, requests[place])
        while len(decoding):
            try:
                ended = decoding.step()
            except BaseException:
                self._prefixes.clear()  # as far as anybody knows they are to blame
                raise
            for key, outcome in ended.items():
                if isinstance(outcome, Exception):
                    raise outcome
                completions[key] = outcome
            if done and ended:
                done(len(completions))
        return [completions[place] for place in range(len(requests))]

    def check(self, request: Request, number: int | None = None) -> None:
        """Raises InputError for a request that does not fit into the model's context or vocabulary, or names no adapter.

        `number`: how the request is called.
        """
        about = "" if number is None else f"text {number}: "
        ids, size = request.prompt_ids, self.vocabulary_size
        if not ids or min(ids) < 0 or max(ids) >= size or any(not 0 <= token < size for token in request.stop_ids):
            raise InputError(f"{about}a prompt is at least one token id, and token ids are from 0 to {size - 1}")
        if request.adapter is not None and request.adapter not in self.adapters.names:
            known = ", ".join(self.adapters.names) or "none"
            raise InputError(f"{about}there is no adapter {request.adapter!r:.100} here; known: {known}")
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        needed = len(request.prompt_ids) + request.max_new_tokens
        if limit is not None and needed > limit:
            raise InputError(
                f"{about}prompt of {len(request.prompt_ids)} tokens and {request.max_new_tokens} for the answer do not "
                f"fit into the model's {limit}; split the text"
            )

    @torch.inference_mode()
    def prefix_of(self, request: Request) -> tuple[tuple[int, ...], PrefixStates]:
        """The tokens whose states a request takes over, and these states under its adapter."""
        ids = request.prompt_ids[: request.prefix_length]
        key = request.adapter, ids
        if key not in self._prefixes:
            with self.adapters.answering(request.adapter):
                self._prefixes[key] = compute_prefix(self.model, ids)
        self._prefixes.move_to_end(key)
        states = self._prefixes[key]
        if len(self._prefixes) > _PREFIXES * (1 + len(self.adapters.names)):
            self._prefixes.popitem(last=False)
        return ids, states

    @torch.inference_mode()
    def choose(
        self, cache: SequenceCache, layouts: Items[Layout], adapters: Items[str | None]
    ) -> tuple[list[int], list[float]]:
        """The model's choice and its logarithmic probability for each option of each layout, in order.

        `adapters`: who answers in each layout.
        """
        counts = [len(layout.ids) for layout in layouts]
        padding = rounded(sum(counts), self.model.get_input_embeddings().weight) - sum(counts)
        positions_1S = cache.plan(counts, padding=padding)
        keep: list[int] = []
        start = 0
        for layout, count in zip(layouts, counts, strict=True):
            keep += range(start + layout.decided - 1, start + layout.decided - 1 + len(layout.options))
            start += count
        ids = [token for layout in layouts for token in layout.ids] + [0] * padding
        options = [option for layout in layouts for option in layout.options]
        few = {place: ids_of(one) for place, one in enumerate(options) if one is not None and not is_mask(one)}
        wide = {place: one for place, one in enumerate(options) if place not in few}
        order = [*few, *wide]  # as the output layer wants them
        tokens, among = _candidates(list(few.values()))
        device = self.model.device
        self._head.narrow = len(few)
        self._head.candidates = torch.from_numpy(tokens).to(device) if few else None
        with self.adapters.answering_rows(zip(adapters, counts, strict=True)):
            logits: Tensor = self.model(
                input_ids=torch.tensor([ids], device=device),
                position_ids=positions_1S,
                logits_to_keep=torch.tensor([keep[place] for place in order] or [0], device=device),
                use_cache=False,
                nertune_context=cache,
            ).logits
        if not keep:
            return [], []
        few_QC, every_QV = self._head.split(logits, self.vocabulary_size)
        columns, logprobs = _best(few_QC, among)
        chosen, others = _best(every_QV, _masks(list(wide.values())))
        found = dict(zip(order, zip([*tokens[columns].tolist(), *chosen], logprobs + others, strict=True), strict=True))
        return [found[place][0] for place in range(len(options))], [found[place][1] for place in range(len(options))]

    def _generate_plain(self, requests: Items[Request], done: Callable[[int], None] | None) -> list[Completion]:
        """In batches of one adapter each."""
        completions: dict[int, Completion] = {}
        for adapter in dict.fromkeys(request.adapter for request in requests):
            places = [place for place, request in enumerate(requests) if request.adapter == adapter]
            for start in range(0, len(places), self.batch_size):
                part = places[start : start + self.batch_size]
                with self.adapters.answering(adapter):
                    answers = generate_plain(self.model, [requests[place] for place in part], self.vocabulary)
                completions.update(zip(part, answers, strict=True))
                if done:
                    done(len(completions))
        return [completions[place] for place in range(len(requests))]


class Decoding:
    """Requests that an engine decodes together: add them at any time, and step until none is left.

    `key`: by which a request is known, and its answer given back. Not for several threads at once.
    """

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._cache = SequenceCache(engine.model.device, most=engine.places)
        self._waiting: deque[tuple[Hashable, Request]] = deque()
        self._keys: list[Hashable] = []
        self._active: list[Sequence] = []  # of each slot of the cache

    def __len__(self) -> int:
        """Requests that have no answer yet."""
        return len(self._waiting) + len(self._active)

    def add(self, key: Hashable, request: Request) -> None:
        """Raises InputError for a request that does not fit into the model's context."""
        self._engine.check(request)
        self._waiting.append((key, request))

    def drop(self, key: Hashable) -> None:
        """Forget a request: nobody waits for its answer any more."""
        self._waiting = deque(item for item in self._waiting if item[0] != key)
        if key in self._keys:
            self._leave(self._keys.index(key))

    def so_far(self, key: Hashable) -> tuple[Items[int], Items[float]]:
        """The tokens of an unfinished answer, and the logarithms of their probabilities."""
        return self._active[self._keys.index(key)].so_far if key in self._keys else ((), ())

    @torch.inference_mode()
    def step(self) -> dict[Hashable, Outcome]:
        """Let in what fits and call the model once; returns the answers that are finished.

        A request whose grammar cannot be used, or followed, has an InputError for an answer, one at which the model's numbers
        are not finite a NotFiniteError, and one whose grammar or draft fails in any other way has that error; the others go on.
        """
        outcomes: dict[Hashable, Outcome] = {}
        self._enter(outcomes)
        layouts = self._lay_out(outcomes)
        engine, active = self._engine, self._active
        if not active:
            return outcomes
        adapters = [sequence.request.adapter for sequence in active]
        chosen, logprobs = engine.choose(self._cache, layouts, adapters)
        start = 0
        for slot, (sequence, layout) in enumerate(zip(active, layouts, strict=True)):
            end = start + len(layout.options)
            try:
                kept = sequence.accept(chosen[start:end], logprobs[start:end])
            except Exception as error:  # of this request alone: its grammar's, its draft's
                outcomes[self._keys[slot]] = error
                kept = len(layout.ids)
                self._cache.wipe(slot)
            self._cache.forget(slot, len(layout.ids) - kept)
            start = end
        for slot in reversed(range(len(active))):
            completion = active[slot].completion
            if completion is not None:
                outcomes.setdefault(self._keys[slot], completion)
            if self._keys[slot] in outcomes:
                self._leave(slot)
        return outcomes

    def _enter(self, outcomes: dict[Hashable, Outcome]) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            key, request = self._waiting.popleft()
            prefix_ids, prefix = self._engine.prefix_of(request)
            try:
                sequence = Sequence(request, request.prompt_ids[len(prefix_ids) :], self._engine.vocabulary)
            except Exception as error:
                outcomes[key] = error
                continue
            self._keys.append(key)
            self._active.append(sequence)
            moves = self._cache.enter(prefix)
            self._follow(moves)
            if moves:
                self._keys[moves[-1].source], self._active[moves[-1].source] = key, sequence

    def _lay_out(self, outcomes: dict[Hashable, Outcome]) -> list[Layout]:
        """What each slot brings into the step; slots that can bring nothing are left."""
        guesses = -(-self._engine.drafts // max(1, len(self._active)))
        budget = _PROMPT_TOKENS
        layouts: list[Layout] = []
        while (slot := len(layouts)) < len(self._active):
            try:
                layouts.append(self._active[slot].lay_out(guesses, max(budget, 1)))
            except Exception as error:
                outcomes[self._keys[slot]] = error
                self._leave(slot)  # others, which are not laid out yet, close the gap
                continue
            budget -= layouts[-1].decided
        return layouts

    def _fits(self, request: Request) -> bool:
        """Whether one more sequence may enter: the slots are of equal length, that of the longest."""
        slots = len(self._active) + 1
        if slots == 1 or slots > self._engine.batch_size:
            return slots == 1
        longest = max([_places(request), *(_places(sequence.request) for sequence in self._active)])
        return slots * longest <= self._engine.places

    def _leave(self, slot: int) -> None:
        self._follow(self._cache.leave(slot))
        self._active.pop()
        self._keys.pop()

    def _follow(self, moves: Items[Move]) -> None:
        for source, target in moves:
            self._active[target], self._keys[target] = self._active[source], self._keys[source]


def _candidates(options: Items[Ids]) -> tuple[Ids, Mask]:
    """All tokens that any option names, (C,), and which of them each option allows, (Q, C)."""
    tokens, columns = np.unique(np.concatenate([*options, np.empty(0, np.int64)]), return_inverse=True)
    among = np.zeros((len(options), len(tokens)), dtype=np.bool_)
    among[np.repeat(np.arange(len(options)), [len(option) for option in options]), columns] = True
    return tokens, among


def _masks(options: Items[Allowed | None]) -> Mask | None:
    """The masks of options, (Q, V), where None allows every token; None where all do."""
    size = next((len(option) for option in options if option is not None), None)
    if size is None:
        return None
    return np.stack([np.ones(size, dtype=np.bool_) if option is None else option for option in options])


def _best(logits_QC: Tensor, allowed: Mask | None) -> tuple[list[int], list[float]]:
    """The column of each row's most probable allowed token, and its logarithmic probability among the allowed ones."""
    if not len(logits_QC):
        return [], []
    if allowed is not None:
        barred = torch.from_numpy(~allowed).to(logits_QC.device)
        logits_QC = logits_QC.float().masked_fill_(barred, float("-inf"))
    best_Q = logits_QC.argmax(dim=-1)
    logprobs_Q = logits_QC.float().log_softmax(dim=-1).gather(1, best_Q[:, None])[:, 0]
    return best_Q.tolist(), logprobs_Q.tolist()


def _places(request: Request) -> int:
    """How many tokens of its own a sequence may come to have."""
    return len(request.prompt_ids) - request.prefix_length + request.max_new_tokens


def _bytes_per_token(model: Any) -> int:
    """Keys and values of one token in all layers, in bytes."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width: int = model.get_input_embeddings().weight.element_size()
    return max(1, 2 * int(config.num_hidden_layers) * int(heads) * int(size) * width)
