"""Adapters beside one base model answer as if each were merged into a model of its own, whatever they are batched with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from nertune.errors import InputError
from nertune.generate import Completion, Request
from nertune.generate.adapters import Adapters
from nertune.generate.local import Decoding, LocalEngine
from nertune.models.attention import can_share_prefix, plain_attention

pytestmark = pytest.mark.engine

STOP = frozenset(range(3, 9))
# Targets of an attention layer and of a feed-forward one, by architecture; the last two cannot share a prefix.
TARGETS = {
    "qwen2": (["q_proj", "v_proj"], ["down_proj"]),
    "phi3-window": (["qkv_proj"], ["gate_up_proj", "down_proj"]),
    "gemma3": (["q_proj", "k_proj", "v_proj", "o_proj"], ["up_proj"]),
    "gpt2": (["c_attn"], ["c_fc", "mlp.c_proj"]),
    "gemma3-tied": (["o_proj"], ["gate_proj", "up_proj"]),
    "gemma2": (["q_proj", "v_proj"], ["down_proj"]),
    "lfm2": (["q_proj", "out_proj"], ["w1", "w2"]),
}
FALLING_BACK = ("gemma2", "lfm2")
NAMES = (None, "narrow", "wide", "both")


def _requests(adapter: str | None = None) -> list[Request]:
    draw = random.Random(3)
    common = [draw.randrange(9, 160) for _ in range(7)]
    return [
        Request(
            (*common, *(draw.randrange(9, 160) for _ in range(length))), STOP, limit, shared_prefix=7, adapter=adapter
        )
        for length, limit in [(5, 9), (1, 3), (20, 7), (2, 1)]
    ]


def save_adapter(model: Any, folder: Path, *, seed: int, **config: Any) -> Path:
    """An adapter as PEFT writes it, with weights strong enough to change answers."""
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(**config))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(str(folder))
    return folder


class Case:
    """Three adapters of one architecture: other targets, ranks and scales. `expected`: each merged, asked by itself."""

    def __init__(self, build: Callable[[], Any], targets: tuple[list[str], list[str]], folder: Path) -> None:
        self.build = build
        first, second = targets
        self.folders = {
            "narrow": save_adapter(build(), folder / "narrow", seed=1, r=2, lora_alpha=3, target_modules=first),
            "wide": save_adapter(
                build(), folder / "wide", seed=2, r=12, lora_alpha=8, target_modules=second, use_rslora=True
            ),
            "both": save_adapter(
                build(),
                folder / "both",
                seed=3,
                r=4,
                lora_alpha=8,
                target_modules=[*first, *second],
                rank_pattern={first[0]: 6},
                alpha_pattern={second[-1]: 2},
            ),
        }
        self.expected = {name: _engine(self.merged(name)).generate(_requests()) for name in NAMES}

    def merged(self, name: str | None) -> Any:
        model = self.build()
        return model if name is None else PeftModel.from_pretrained(model, str(self.folders[name])).merge_and_unload()

    def engine(self, **options: Any) -> LocalEngine:
        return _engine(self.build(), adapters=self.folders, **options)


def _engine(model: Any, **options: Any) -> LocalEngine:
    return LocalEngine(model, shares_prefix=can_share_prefix(model), **options)


def _check_equal(found: list[Completion], expected: list[Completion]) -> None:
    assert found == expected
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.fixture(scope="module", params=list(TARGETS))
def case(request, tiny_model, other_model, tmp_path_factory) -> Case:
    build = tiny_model if request.param in ("qwen2", "phi3-window", "gemma3") else other_model
    made = Case(
        lambda: build(request.param, initializer_range=0.2),
        TARGETS[request.param],
        tmp_path_factory.mktemp(request.param),
    )
    assert made.engine().shares_prefix == (request.param not in FALLING_BACK)
    return made


@pytest.fixture(scope="module")
def qwen2(tiny_model, tmp_path_factory) -> Case:
    return Case(
        lambda: tiny_model("qwen2", initializer_range=0.2), TARGETS["qwen2"], tmp_path_factory.mktemp("one-qwen2")
    )


def test_each_alone_answers_as_merged(case):
    assert len({tuple(one.ids for one in answers) for answers in case.expected.values()}) == len(NAMES)
    engine = case.engine()
    for name in NAMES:
        _check_equal(engine.generate(_requests(name)), case.expected[name])


def test_a_mixed_batch_answers_as_each_alone_in_any_order(case):
    engine = case.engine(batch_size=7)
    asked = [(name, place) for name in NAMES for place in range(4)] * 2
    for seed in range(2):
        random.Random(seed).shuffle(asked)
        found = engine.generate([_requests(name)[place] for name, place in asked])
        _check_equal(found, [case.expected[name][place] for name, place in asked])


def test_the_same_logits_as_peft_s_own_forward_pass(case):
    ids = torch.tensor([_requests()[2].prompt_ids])
    ours = case.build()
    adapters = Adapters(ours, case.folders)
    with torch.no_grad():
        plain = case.build()(input_ids=ids).logits
        for name, folder in case.folders.items():
            expected = PeftModel.from_pretrained(case.build(), str(folder))(input_ids=ids).logits
            with adapters.answering(name):
                torch.testing.assert_close(ours(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(expected, plain, atol=1e-2)
        assert torch.equal(ours(input_ids=ids).logits, plain)  # outside, nothing is added


def test_sequences_of_several_adapters_come_and_go(qwen2):
    decoding = Decoding(qwen2.engine(batch_size=3))
    ended: dict[Any, Completion] = {}
    keys = [(name, place) for place in range(4) for name in NAMES]
    for key in keys:
        decoding.add(key, _requests(key[0])[key[1]])
        ended.update(decoding.step())
        decoding.add((*key, "dropped"), _requests(key[0])[key[1]])
        decoding.step() if key[1] == 2 else None
        decoding.drop((*key, "dropped"))
    while len(decoding):
        ended.update(decoding.step())
    for name, place in keys:
        if (name, place) in ended:
            _check_equal([ended[name, place]], [qwen2.expected[name][place]])
    assert len(ended) > len(keys) // 2


def test_tasks_of_one_adapter_keep_their_own_prefixes(qwen2):
    """Two prompts for each adapter, in turns."""
    mixed = []
    for name in NAMES:
        for request in _requests(name):
            mixed += [request, replace(request, prompt_ids=request.prompt_ids[6::-1] + request.prompt_ids[7:])]
    engine = qwen2.engine(batch_size=5)
    together = engine.generate(mixed)
    assert len(engine._prefixes) == 2 * len(NAMES)
    _check_equal(together, [qwen2.engine().generate([request])[0] for request in mixed])


def test_prefixes_are_kept_in_proportion_to_adapters_and_no_more(qwen2):
    engine = qwen2.engine()
    for token in range(20):
        for name in NAMES:
            engine.prefix_of(replace(_requests(name)[0], prompt_ids=(9 + token, 10, 11), shared_prefix=2))
    assert len(engine._prefixes) == 8 * len(NAMES)


@pytest.mark.parametrize("shares", [True, False])
def test_an_unknown_adapter_is_refused_by_name(qwen2, shares):
    model = qwen2.build()
    assert can_share_prefix(model)
    engine = LocalEngine(model, shares_prefix=shares, adapters=qwen2.folders)
    with pytest.raises(InputError, match=r"text 2: there is no adapter 'wider' here; known: narrow, wide, both"):
        engine.generate([_requests("wide")[0], _requests("wider")[0]])
    with pytest.raises(InputError, match="no adapter 'wide' here; known: none"):
        LocalEngine(model, shares_prefix=shares).check(_requests("wide")[0])


def test_an_engine_that_fails_in_a_call_adds_nothing_afterwards(qwen2):
    model = qwen2.build()
    assert can_share_prefix(model)
    adapters = Adapters(model, qwen2.folders)
    ids = torch.tensor([[9, 10, 11]])
    with pytest.raises(ZeroDivisionError), adapters.answering("wide"):
        raise ZeroDivisionError
    with torch.no_grad(), plain_attention(model):
        assert torch.equal(model(input_ids=ids).logits, qwen2.build()(input_ids=ids).logits)


def test_weights_that_are_not_finite_are_refused_so_none_reach_other_rows(qwen2, tmp_path):
    """Were they let in, their own rows alone would suffer; tests/generate/test_lora.py has the refusal."""
    engine = qwen2.engine(batch_size=8)
    for module in engine.model.modules():
        for hook in module._forward_hooks.values():
            parts = hook.args[0]
            if "wide" in parts:
                parts["wide"].b_OR.fill_(float("nan"))
    requests = [_requests(name)[0] for name in (None, "narrow", "both")]
    alone = [qwen2.expected[name][0] for name in (None, "narrow", "both")]
    decoding = Decoding(engine)
    decoding.add("sick", _requests("wide")[0])
    for number, request in enumerate(requests):
        decoding.add(number, request)
    ended: dict[Any, Completion] = {}
    while len(ended) < 3:
        ended.update({key: answer for key, answer in decoding.step().items() if key != "sick"})
    _check_equal([ended[number] for number in range(3)], alone)
