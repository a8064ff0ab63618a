"""Greedy answers of the local engine for models of other architectures, those through the fallback among them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from nertune.generate import Completion, Request
from nertune.generate.local import LocalEngine
from nertune.models.attention import can_share_prefix

pytestmark = pytest.mark.engine

SHARING = ["gpt-neox", "gpt2", "gemma3-tied"]
FALLING_BACK = ["gemma2", "qwen3-next", "falcon-h1", "mamba", "lfm2", "jamba"]
STOP = frozenset(range(3, 9))


def _requests(shared: int = 7) -> list[Request]:
    """Prompts of different lengths and limits with a common start; some answers end, some are cut."""
    draw = random.Random(11)
    common = [draw.randrange(9, 160) for _ in range(7)]
    requests = []
    for length, limit in [(5, 9), (1, 3), (9, 14), (2, 1), (14, 8), (3, 12), (1, 14), (6, 14)]:
        own = [draw.randrange(9, 160) for _ in range(length)]
        requests.append(Request((*common, *own), STOP, limit, shared_prefix=shared))
    return requests


def _alone(model, request: Request) -> Completion:
    """One token after the other, the whole row computed anew each time: greedy decoding by its definition."""
    ids = list(request.prompt_ids)
    with torch.no_grad():
        for count in range(request.max_new_tokens):
            token = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            if token in request.stop_ids:
                return Completion(tuple(ids[len(ids) - count :] if count else ()), "end")
            ids.append(token)
    return Completion(tuple(ids[len(request.prompt_ids) :]), "length")


def _strong(other_model, name: str):
    """Weights strong enough that answers differ from prompt to prompt."""
    return other_model(name, initializer_range=0.3)


@pytest.fixture(scope="module", params=SHARING + FALLING_BACK)
def case(request, other_model):
    """An engine, and what greedy decoding gives for `_requests`."""
    expected = [_alone(_strong(other_model, request.param), one) for one in _requests()]
    model = _strong(other_model, request.param)
    shares = can_share_prefix(model)
    assert shares == (request.param in SHARING)
    return LocalEngine(model, shares_prefix=shares, batch_size=4), expected


def test_equals_greedy_decoding(case):
    engine, expected = case
    assert len({completion.ids for completion in expected}) > len(expected) // 2
    assert engine.generate(_requests()) == expected


def test_order_duplicates_and_company_change_nothing(case):
    engine, expected = case
    requests = _requests(3)
    order = [4, 0, 0, 7, 3, 4, 1, 6, 5, 2, 0]
    assert engine.generate([requests[place] for place in order]) == [expected[place] for place in order]
    assert engine.generate(requests[2:3]) == expected[2:3]


def test_limits_and_stop_tokens_hold_for_each_request(case):
    """An answer that ends early, another limit for the same prompt, and other stop tokens in one batch."""
    engine, expected = case
    longest = max(range(len(expected)), key=lambda place: len(expected[place].ids))
    answer, request = expected[longest].ids, _requests()[longest]
    other_stop = answer[3]
    until = answer.index(other_stop)
    wanted = [
        Completion(answer[:1], "length"),
        Completion(answer[:until], "end"),
        expected[longest],
        Completion(answer[:2], "length"),
    ]
    asked = [
        replace(request, max_new_tokens=1),
        replace(request, stop_ids=frozenset({other_stop})),
        request,
        replace(request, max_new_tokens=2),
    ]
    assert engine.generate(asked) == wanted


def test_progress_never_goes_back_and_ends_with_all(case):
    engine, _ = case
    told: list[int] = []
    engine.generate(_requests(), done=told.append)
    assert told == sorted(told)
    assert told[-1] == len(_requests())
    assert engine.generate([], done=told.append) == []


@pytest.mark.parametrize("name", ["qwen3-next", "gpt2"])
def test_a_model_s_own_sampling_habits_are_not_followed(other_model, name):
    """Chat models come with settings for conversation, such as a repetition penalty; an extraction is greedy."""
    expected = [_alone(_strong(other_model, name), request) for request in _requests()]
    model = _strong(other_model, name)
    model.generation_config.update(
        do_sample=True, temperature=0.7, top_k=20, repetition_penalty=5.0, no_repeat_ngram_size=2, num_beams=2
    )
    engine = LocalEngine(model, shares_prefix=can_share_prefix(model), batch_size=3)
    assert engine.generate(_requests()) == expected


@pytest.mark.parametrize("name", ["gpt2", "mamba"])
def test_without_stop_tokens_only_the_limit_ends(other_model, name):
    requests = [replace(request, stop_ids=frozenset()) for request in _requests()]
    expected = [_alone(_strong(other_model, name), request) for request in requests]
    model = _strong(other_model, name)
    engine = LocalEngine(model, shares_prefix=can_share_prefix(model))
    assert engine.generate(requests) == expected
    assert {len(one.ids) for one in expected} == {request.max_new_tokens for request in requests}


def test_prefixes_of_two_tasks_do_not_mix(other_model):
    """Two tasks in turns through one engine: each prompt is answered under its own prefix."""
    first = _requests()
    second = [
        replace(request, prompt_ids=(*request.prompt_ids[:7][::-1], *request.prompt_ids[7:])) for request in first
    ]
    mixed = [request for both in zip(first, second, strict=True) for request in both]
    expected = [_alone(_strong(other_model, "gpt2"), request) for request in mixed]
    model = _strong(other_model, "gpt2")
    assert can_share_prefix(model)
    engine = LocalEngine(model, shares_prefix=True, batch_size=3)
    assert engine.generate(mixed) == expected
    assert engine.generate(second) == expected[1::2]
