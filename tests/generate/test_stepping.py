"""The contract of a Stepping, kept by the real engine, by engines of whole answers, and by every fake of the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from nertune.errors import InputError
from nertune.generate import Completion, Request
from nertune.generate.local import LocalEngine
from nertune.generate.loop import WholeAnswers
from nertune.models.attention import can_share_prefix

KINDS = [
    *(pytest.param(name, marks=pytest.mark.engine) for name in ("decoding", "decoding-window", "whole")),
    "Counting",
    "Scripted",
    "Brief",
]
PREFIXES = ((11, 12, 13), (21, 22), ())
STOPS = frozenset({3, 4})


def _requests() -> list[Request]:
    """Of two shared prefixes and of none, long and short, so that slots of all kinds move when one is left."""
    found = []
    for number in range(9):
        prefix = PREFIXES[number % 3]
        own = tuple(30 + number + place for place in range(1 + number % 4))
        found.append(Request((*prefix, *own), STOPS, 6 + 2 * (number % 3), shared_prefix=len(prefix)))
    return found


@pytest.fixture(params=KINDS)
def fresh(request, tiny_model, family_of, fake_steppings) -> Callable[[], Any]:
    """A function that makes an empty Stepping, each time of the same kind."""
    kind = request.param
    if kind in ("decoding", "decoding-window", "whole"):
        model = tiny_model("gemma3" if kind == "decoding-window" else "qwen2")
        engine = LocalEngine(model, shares_prefix=can_share_prefix(model), batch_size=4)
        assert engine.shares_prefix
        return engine.decoding if kind != "whole" else lambda: WholeAnswers(engine, most=4, check=engine.check)
    if kind == "Counting":
        return fake_steppings.Counting
    if kind == "Brief":
        return lambda: fake_steppings.Brief([5, 6, 7])
    tokenizer = family_of("qwen3").tokenizer
    renderer: Any = type("Renderer", (), {"tokenizer": tokenizer, "answer_ids": staticmethod(tokenizer.encode)})
    return lambda: fake_steppings.Scripted(renderer, lambda prompt: f"甲乙{len(prompt)}")


@pytest.fixture
def expected(fresh) -> list[Completion]:
    """What comes of each request where it is alone."""
    return [_finish(_with(fresh(), {0: request}))[0] for request in _requests()]


def _with(stepping: Any, requests: dict[Hashable, Request]) -> Any:
    for key, request in requests.items():
        stepping.add(key, request)
    assert len(stepping) == len(requests)
    return stepping


def _finish(stepping: Any) -> dict[Hashable, Any]:
    found: dict[Hashable, Any] = {}
    for _ in range(200):
        if not len(stepping):
            return found
        ended = stepping.step()
        assert not found.keys() & ended.keys()
        found |= ended
    raise AssertionError("it never ends")


def test_every_request_is_answered_once_and_as_if_it_were_alone(fresh, expected):
    stepping = _with(fresh(), dict(enumerate(_requests())))
    assert _finish(stepping) == dict(enumerate(expected))
    assert stepping.step() == {}


def test_one_may_be_added_at_any_time(fresh, expected):
    stepping, found = fresh(), {}
    for key, request in enumerate(_requests()):
        stepping.add(key, request)
        found |= stepping.step()
    assert found | _finish(stepping) == dict(enumerate(expected))


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_whichever_is_dropped_at_whichever_step_the_others_never_notice(fresh, expected, steps):
    """In no thread's inference mode, as an engine's own thread is between two steps."""
    for gone in range(len(expected)):
        stepping = _with(fresh(), dict(enumerate(_requests())))
        found: dict[Hashable, Any] = {}
        for _ in range(steps):
            found |= stepping.step()
        before = len(stepping)
        stepping.drop(gone)
        assert len(stepping) == before - (gone not in found)
        stepping.drop("nobody")
        stepping.drop(gone)
        here = gone in found
        found |= _finish(stepping)
        assert found == {key: answer for key, answer in enumerate(expected) if key != gone or here}


def test_all_may_be_dropped_and_new_ones_come(fresh, expected):
    stepping = _with(fresh(), dict(enumerate(_requests())))
    stepping.step()
    for key in reversed(range(len(expected))):
        stepping.drop(key)
    assert len(stepping) == 0
    assert stepping.step() == {}
    stepping = _with(stepping, dict(enumerate(_requests())))
    assert _finish(stepping) == dict(enumerate(expected))


def test_what_is_told_so_far_only_grows_into_the_answer(fresh, expected):
    stepping = _with(fresh(), dict(enumerate(_requests())))
    told: dict[int, tuple[int, ...]] = dict.fromkeys(range(len(expected)), ())
    found: dict[Hashable, Any] = {}
    while len(stepping):
        found |= stepping.step()
        for key in told.keys() - found.keys():
            ids, logprobs = stepping.so_far(key)
            assert len(ids) == len(logprobs)
            assert tuple(ids[: len(told[key])]) == told[key]
            told[key] = tuple(ids)
    assert all(found[key].ids[: len(ids)] == ids for key, ids in told.items())
    assert tuple(map(len, stepping.so_far("nobody"))) == (0, 0)


def test_each_call_may_come_from_another_thread(fresh, expected):
    stepping, found = fresh(), {}

    def elsewhere(work: Callable[[], Any]) -> Any:
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(work()))
        thread.start()
        thread.join()
        return results[0]

    for key, request in enumerate(_requests()):
        elsewhere(lambda key=key, request=request: stepping.add(key, request))
    found |= elsewhere(stepping.step)
    elsewhere(lambda: stepping.drop(4))
    while len(stepping):
        found |= elsewhere(stepping.step)
    assert found == {key: answer for key, answer in enumerate(expected) if key != 4 or key in found}


@pytest.mark.engine
def test_a_request_that_cannot_be_answered_is_refused_and_is_not_there(tiny_model):
    model = tiny_model("qwen2")
    engine = LocalEngine(model, shares_prefix=can_share_prefix(model))
    for stepping in (engine.decoding(), WholeAnswers(engine, most=4, check=engine.check)):
        with pytest.raises(InputError, match="do not fit"):
            stepping.add("long", Request((5,) * 510, STOPS, 9))
        assert len(stepping) == 0


@pytest.mark.engine
def test_nothing_of_a_failed_step_goes_into_the_next_engine(tiny_model, monkeypatch) -> None:
    model = tiny_model("qwen2")
    engine = LocalEngine(model, shares_prefix=can_share_prefix(model), batch_size=4)
    expected = engine.generate(_requests())
    stepping = _with(engine.decoding(), dict(enumerate(_requests())))
    stepping.step()
    failing: Iterator[bool] = iter([True])
    forward = model.forward

    def once(*arguments: Any, **options: Any) -> Any:
        result = forward(*arguments, **options)
        if next(failing, False):
            raise RuntimeError("no memory")
        return result

    monkeypatch.setattr(model, "forward", once)
    with pytest.raises(RuntimeError, match="no memory"):
        stepping.step()
    stepping = _with(engine.decoding(), dict(enumerate(_requests())))
    assert _finish(stepping) == dict(enumerate(expected))


@pytest.mark.engine
def test_a_draft_or_grammar_that_fails_fails_its_own_request_alone(tiny_model, family_of) -> None:
    """Before its first token and in the middle of its answer."""
    tokenizer = family_of("qwen3").tokenizer
    model = tiny_model("qwen2", vocab_size=len(tokenizer))
    engine = LocalEngine(model, shares_prefix=can_share_prefix(model), tokenizer=tokenizer, batch_size=4)
    expected = engine.generate(_requests())

    def failing(after: int) -> Callable[[str], str]:
        calls = iter(range(after))

        def draft(text: str) -> str:
            if next(calls, None) is None:
                raise ZeroDivisionError(after)
            return ""

        return draft

    for after in (0, 1, 3):
        stepping = _with(engine.decoding(), dict(enumerate(_requests())))
        stepping.add("bad", replace(_requests()[4], draft=failing(after), stop_ids=frozenset(), max_new_tokens=20))
        found = _finish(stepping)
        assert repr(found.pop("bad")) == f"ZeroDivisionError({after})"
        assert found == dict(enumerate(expected))
    with pytest.raises(ZeroDivisionError):  # as it is, for whoever waits for whole answers
        engine.generate([replace(_requests()[4], draft=failing(0))])
