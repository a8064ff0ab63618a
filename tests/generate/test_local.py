"""The local engine gives what the model's own greedy generation gives, whatever the batch."""

from __future__ import annotations

import random

import pytest
import torch

from nertune.errors import InputError
from nertune.generate import Completion, Request
from nertune.generate.local import Decoding, LocalEngine
from nertune.models.attention import can_share_prefix

pytestmark = pytest.mark.engine

FAMILIES = ["qwen2", "llama", "phi3", "phi3-window", "mistral-window", "qwen3", "gemma3"]
STOP = frozenset(range(3, 9))


def _requests(shared: int = 7) -> list[Request]:
    draw = random.Random(3)
    common = [draw.randrange(9, 160) for _ in range(7)]
    requests = []
    for number, (length, limit) in enumerate([(5, 12), (1, 3), (9, 20), (2, 1), (5, 12), (14, 15)]):
        own = [20 + number, *(draw.randrange(9, 160) for _ in range(length - 1))]
        requests.append(Request((*common, *own), STOP, limit, shared_prefix=shared))
    return requests


def _reference(model, request: Request) -> Completion:
    ids = torch.tensor([request.prompt_ids])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(STOP),
        pad_token_id=0,
    )[0, ids.shape[1] :].tolist()
    ended = bool(out) and out[-1] in STOP
    return Completion(tuple(out[:-1] if ended else out), "end" if ended else "length")


@pytest.fixture(params=FAMILIES)
def pair(request, tiny_model):
    """An engine, and what plain generation gives for `_requests`."""
    expected = [_reference(tiny_model(request.param), one) for one in _requests()]
    model = tiny_model(request.param)
    assert can_share_prefix(model)
    return LocalEngine(model, shares_prefix=True, batch_size=4), expected


def test_equals_plain_generation_in_any_order_and_with_any_prefix(pair):
    engine, expected = pair
    assert {completion.stop for completion in expected} <= {"end", "length"}
    for shared in (7, 3, 0, 100):
        assert engine.generate(_requests(shared)) == expected
    backwards = engine.generate(_requests()[::-1])
    assert backwards[::-1] == expected
    assert [engine.generate([request])[0] for request in _requests()] == expected


def test_both_ways_of_stopping_occur(tiny_model):
    stops = {_reference(tiny_model("qwen2"), request).stop for request in _requests()}
    assert stops == {"end", "length"}


def test_a_model_that_cannot_share_gives_the_same(tiny_model):
    expected = [_reference(tiny_model("llama"), request) for request in _requests()]
    assert LocalEngine(tiny_model("llama"), shares_prefix=False, batch_size=3).generate(_requests()) == expected


def test_the_prefix_is_computed_once(tiny_model):
    model = tiny_model("gemma3")
    assert can_share_prefix(model)
    engine = LocalEngine(model, shares_prefix=True)
    lengths = []
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[1]))
    engine.generate(_requests()[:1])
    engine.generate(_requests()[2:3])
    assert lengths[0] == 7
    assert lengths.count(7) == 1
    # What follows is padded to few shapes where that makes products faster; never the prefix again.
    assert all(length % 32 == 0 or length < 32 for length in lengths[1:])


def test_progress_is_told_and_complete(tiny_model):
    model = tiny_model("qwen2")
    assert can_share_prefix(model)
    told: list[int] = []
    LocalEngine(model, shares_prefix=True, batch_size=2).generate(_requests(), done=told.append)
    assert told == sorted(told)
    assert told[-1] == len(_requests())


def test_nothing_asked_nothing_given(tiny_model):
    assert LocalEngine(tiny_model("qwen2"), shares_prefix=False).generate([]) == []


def test_a_prompt_that_does_not_fit_is_refused(tiny_model):
    engine = LocalEngine(tiny_model("qwen2"), shares_prefix=False)
    with pytest.raises(InputError, match=r"text 2: prompt of 500 tokens and 20 .* 512"):
        engine.generate([Request((5,) * 3, STOP, 2), Request((5,) * 500, STOP, 20)])


def test_requests_come_and_go_while_others_are_decoded(tiny_model):
    """One request a step; one is dropped while it waits, one in the middle of its answer; the others never notice."""
    reference = tiny_model("gemma3")
    pairs = sorted(
        ((_reference(reference, request), request) for request in _requests()), key=lambda pair: -len(pair[0].ids)
    )
    expected, requests = zip(*pairs, strict=True)
    model = tiny_model("gemma3")
    assert can_share_prefix(model)
    decoding = Decoding(LocalEngine(model, shares_prefix=True, batch_size=3))
    ended = {}
    for number, request in enumerate(requests):
        decoding.add(number, request)
        decoding.add(("again", number), request)
        ended.update(decoding.step())
        if number == 2:
            assert len(decoding.so_far(0)[0]) > 1  # in the middle of its answer
            decoding.drop(("again", 2))
            decoding.drop(0)
            decoding.drop("nobody")
    while len(decoding):
        ended.update(decoding.step())
    assert decoding.step() == {}
    assert len(ended) == 2 * len(requests) - 2
    assert not ended.keys() & {0, ("again", 2)}
    for key, completion in ended.items():
        assert completion == expected[key[1] if isinstance(key, tuple) else key]
