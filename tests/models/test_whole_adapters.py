"""Adapters that are not whole, or not finite, are refused with the tensor's name, merged and beside their base model alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nertune.assemble import load_weights
from nertune.errors import NotFiniteError, RunError, UnknownModelError
from nertune.generate import EngineLoop, Request
from nertune.generate.local import LocalEngine
from nertune.generate.loop import WholeAnswers
from nertune.models import load_model
from nertune.models.attention import can_share_prefix
from nertune.run import RunManifest

pytestmark = pytest.mark.engine

STOPS = frozenset({3, 4})
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Change = Callable[[dict[str, torch.Tensor]], Any]


@pytest.fixture
def folder(tmp_path, tiny_model) -> Path:
    """An adapter as PEFT writes it, in a folder beside its base model's."""
    from peft import LoraConfig, get_peft_model

    tiny_model("qwen2").save_pretrained(tmp_path / "base")
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(1)
    get_peft_model(tiny_model("qwen2"), config).save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def _merged(folder: Path, dtype: str = "float32") -> Any:
    manifest = RunManifest(str(folder.parent / "base"), None, "x", (3,), 64)

    class Tokenizer:
        def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
            return []

    return load_weights(folder, manifest, Tokenizer(), dtype=dtype, device="cpu")


def _beside(folder: Path, dtype: str = "float32") -> LocalEngine:
    model = load_model(str(folder.parent / "base"), dtype=dtype)
    return LocalEngine(model, shares_prefix=can_share_prefix(model), adapters={"a": folder, "b": folder})


WAYS = pytest.mark.parametrize("load", [_merged, _beside])


def _spoil(folder: Path, change: Change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _first(tensors: dict[str, torch.Tensor], part: str = "lora_A") -> str:
    return next(name for name in sorted(tensors) if part in name)


@WAYS
def test_a_whole_adapter_is_taken(folder, load):
    load(folder)


@WAYS
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop(_first(tensors)), r"lora_[AB]"),
        (
            lambda tensors: [tensors.pop(name) for name in sorted(tensors) if ".mlp." in name],
            r"lacks 18 of 42 tensors .*layers\.0\.mlp\.down_proj\.lora_A\.weight, .*, …",
        ),
        (
            lambda tensors: [tensors.pop(name) for name in sorted(tensors) if "layers.2." in name],
            r"lacks 14 of 42 tensors",
        ),
        (lambda tensors: tensors[_first(tensors)].fill_(float("nan")), r"lora_A.* finite"),
        (lambda tensors: tensors[_first(tensors, "lora_B")][0].fill_(float("inf")), r"lora_B.* finite"),
    ],
)
def test_what_is_missing_or_not_finite_is_named(folder, load, change, said):
    _spoil(folder, change)
    with pytest.raises(RunError, match=said) as refused:
        load(folder)
    assert str(folder / WEIGHTS) in str(refused.value)


@WAYS
def test_an_adapter_without_any_tensor_is_refused(folder, load):
    _spoil(folder, lambda tensors: tensors.clear())
    with pytest.raises(RunError, match=r"lacks 42 of 42 tensors|holds no weights"):
        load(folder)


@WAYS
def test_what_the_configuration_does_not_ask_for_is_named(folder, load):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "target_modules": ["q_proj", "v_proj"]}))
    with pytest.raises(
        RunError, match=r"holds 30 of 42 tensors that adapter_config.json does not ask for: .*down_proj"
    ):
        load(folder)


@WAYS
@pytest.mark.parametrize("alpha", [1e308, 0, -4, 2e6])
def test_an_absurd_scale_is_refused(folder, load, alpha):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "lora_alpha": alpha}))
    with pytest.raises(RunError, match=r"lora_alpha is "):
        load(folder)


def test_numbers_that_overflow_in_the_type_of_the_weights_are_refused(folder):
    _spoil(folder, lambda tensors: [tensor.fill_(1e5) for tensor in tensors.values()])
    with pytest.raises(RunError, match=r"not finite in float16"):
        _merged(folder, "float16")
    with pytest.raises(RunError, match=r"too large for torch.float16|too large for float16"):
        _beside(folder, "float16")


def test_a_base_model_that_lacks_tensors_is_refused(folder):
    base = folder.parent / "base"
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnknownModelError, match=r"lacks 1 tensors, among them model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(base))


def _damaged(tiny_model: Any, *, shares: bool = True) -> LocalEngine:
    """An engine whose model gives NaN for token 99, and for whatever comes after it."""
    model = tiny_model("qwen2")
    engine = LocalEngine(model, shares_prefix=shares and can_share_prefix(model), batch_size=4)
    with torch.no_grad():
        model.get_input_embeddings().weight[99] = float("nan")
    return engine


@pytest.mark.parametrize("shares", [True, False])
def test_an_answer_of_numbers_that_are_not_finite_is_an_error_and_the_others_are_not(tiny_model, shares):
    engine = _damaged(tiny_model, shares=shares)
    good = [Request((10 + n, 11, 12), STOPS, 6) for n in range(5)]
    expected = engine.generate(good)
    with pytest.raises(NotFiniteError, match="not finite"):
        engine.generate([*good, Request((99, 11), STOPS, 6)])
    build = engine.decoding if shares else lambda: WholeAnswers(engine, most=4, check=engine.check)
    loop = EngineLoop(build)
    try:
        jobs = [loop.submit(request) for request in (*good[:3], Request((10, 99), STOPS, 6), *good[3:], *good)]
        with pytest.raises(NotFiniteError):
            jobs.pop(3).result(20)
        # Nor those who come later, into the slot that it had.
        assert [job.result(20) for job in jobs] == [*expected, *expected]
        assert loop.failures == 0
    finally:
        loop.close(finish=False)
