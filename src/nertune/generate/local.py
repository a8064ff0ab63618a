"""The local engine: greedy decoding on this machine, many sequences at once, the shared prompt prefix computed once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from nertune.errors import InputError
from nertune.generate.cache import PrefixStates, SequenceCache
from nertune.generate.engine import Completion, Request
from nertune.generate.prefix import compute_prefix
from nertune.models.matmul import matmul_nt
from nertune.schema import StopReason

__all__ = ["LocalEngine"]


class _FewRowsHead(torch.nn.Module):
    """The output layer for the few rows of a decoding step on a processor: W hᵀ in place of h Wᵀ.

    With 8 to 64 rows and a vocabulary of 262,144 the product transposed is the faster one, and the output layer is most of
    a step.
    """

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = head.weight

    def forward(self, hidden_1BD: Tensor) -> Tensor:
        flat = hidden_1BD.flatten(0, -2)
        return matmul_nt(self.weight, flat).T.view(*hidden_1BD.shape[:-1], -1)


class LocalEngine:
    """Runs a causal language model of transformers.

    `model`: with any adapter merged; the engine owns it from here on. `batch_size`: sequences decoded together.
    Models whose attention cannot share a prefix are run through their own `generate`, several times slower;
    `shares_prefix` tells.
    """

    def __init__(self, model: Any, *, shares_prefix: bool, batch_size: int = 32) -> None:
        self.shares_prefix = shares_prefix
        self._model = model.eval()
        head = model.get_output_embeddings()
        if model.device.type == "cpu" and isinstance(head, torch.nn.Linear) and head.bias is None:
            model.set_output_embeddings(_FewRowsHead(head))
        self._batch_size = batch_size
        self._prefix_ids: tuple[int, ...] = ()
        self._prefix = PrefixStates([], [], 0)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], *, done: Callable[[int], None] | None = None) -> list[Completion]:
        """Raises InputError for a request that does not fit into the model's context."""
        self._check_lengths(requests)
        completions: dict[int, Completion] = {}
        for places in self._batches(requests):
            batch = [requests[place] for place in places]
            before = len(completions)
            tell = (lambda ended, before=before: done(before + ended)) if done else None
            finished = self._decode(batch, tell) if self.shares_prefix else self._decode_plain(batch)
            completions.update(zip(places, finished, strict=True))
            if done:
                done(len(completions))
        return [completions[place] for place in range(len(requests))]

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Places of requests to decode together: one shared prefix, similar lengths."""
        by_prefix: dict[tuple[int, ...], list[int]] = {}
        for place, request in enumerate(requests):
            shared = min(request.shared_prefix, len(request.prompt_ids) - 1)
            by_prefix.setdefault(request.prompt_ids[:shared], []).append(place)
        for prefix_ids, places in by_prefix.items():
            if self.shares_prefix and prefix_ids != self._prefix_ids:
                self._prefix_ids, self._prefix = prefix_ids, compute_prefix(self._model, prefix_ids)
            places.sort(key=lambda place: len(requests[place].prompt_ids))
            for start in range(0, len(places), self._batch_size):
                yield places[start : start + self._batch_size]

    def _check_lengths(self, requests: Sequence[Request]) -> None:
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        for number, request in enumerate(requests, 1):
            needed = len(request.prompt_ids) + request.max_new_tokens
            if limit is not None and needed > limit:
                raise InputError(
                    f"text {number}: prompt of {len(request.prompt_ids)} tokens and {request.max_new_tokens} for the "
                    f"answer do not fit into the model's {limit}; split the text"
                )

    def _decode(self, batch: Sequence[Request], tell: Callable[[int], None] | None) -> list[Completion]:
        """Greedy decoding of one batch; finished sequences leave it."""
        device = self._model.device
        own = [request.prompt_ids[len(self._prefix_ids) :] for request in batch]
        capacity = max(len(ids) + request.max_new_tokens for ids, request in zip(own, batch, strict=True))
        cache = SequenceCache(self._prefix, len(batch), capacity, device=device)
        counts = [len(ids) for ids in own]
        last = torch.tensor(counts, device=device).cumsum(0) - 1
        next_B = self._step(cache, torch.tensor([list(itertools.chain(*own))], device=device), counts, keep=last)

        answers: list[list[int]] = [[] for _ in batch]
        stops: list[StopReason] = ["length"] * len(batch)
        active = list(range(len(batch)))
        while True:
            going = []
            for slot, token in enumerate(next_B.tolist()):
                place = active[slot]
                if token in batch[place].stop_ids:
                    stops[place] = "end"
                else:
                    answers[place].append(token)
                    if len(answers[place]) < batch[place].max_new_tokens:
                        going.append(slot)
            if len(going) < len(active):
                slots_R = torch.tensor(going, dtype=torch.long, device=device)
                cache.keep_slots(slots_R)
                next_B = next_B[slots_R]
                active = [active[slot] for slot in going]
                if tell:
                    tell(len(batch) - len(active))
            if not active:
                break
            next_B = self._step(cache, next_B[None], [1] * len(active), keep=None)
        return [Completion(tuple(ids), stop) for ids, stop in zip(answers, stops, strict=True)]

    def _step(self, cache: SequenceCache, ids_1S: Tensor, counts: Sequence[int], *, keep: Tensor | None) -> Tensor:
        """Run the model on new tokens; the most likely next token of each slot, (B,)."""
        positions = cache.plan(counts)
        logits_1BV = self._model(
            input_ids=ids_1S,
            position_ids=positions,
            logits_to_keep=0 if keep is None else keep,
            use_cache=False,
            nertune_context=cache,
        ).logits
        next_B: Tensor = logits_1BV[0].argmax(dim=-1)
        return next_B

    def _decode_plain(self, batch: Sequence[Request]) -> list[Completion]:
        """The model's own generate, left-padded: for attention that cannot share a prefix."""
        from transformers import GenerationConfig

        longest = max(len(request.prompt_ids) for request in batch)
        gaps = [longest - len(request.prompt_ids) for request in batch]
        # A row may end early at what ends every request; what ends some is looked for below.
        common_stops = sorted(frozenset.intersection(*(request.stop_ids for request in batch)))
        pad = 0
        device = self._model.device
        # A model's own settings are for conversation: sampling, penalties. These would reach even a greedy call.
        self._model.generation_config = GenerationConfig()
        out = self._model.generate(
            input_ids=torch.tensor(
                [[pad] * gap + list(r.prompt_ids) for gap, r in zip(gaps, batch, strict=True)], device=device
            ),
            attention_mask=torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], device=device),
            max_new_tokens=max(request.max_new_tokens for request in batch),
            do_sample=False,
            eos_token_id=common_stops or None,
            pad_token_id=pad,
        )
        completions = []
        for request, ids in zip(batch, out[:, longest:].tolist(), strict=True):
            end = next((place for place, token in enumerate(ids) if token in request.stop_ids), len(ids))
            answer = ids[:end]
            stop: StopReason = "end" if len(answer) < min(len(ids), request.max_new_tokens) else "length"
            completions.append(Completion(tuple(answer[: request.max_new_tokens]), stop))
        return completions
