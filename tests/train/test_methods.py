"""Every method of fine-tuning: what is trained, saved, and loaded again is one and the same model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import nertune
from nertune.errors import InputError, MissingExtraError
from nertune.models.attention import PackedRow
from nertune.run import RunManifest
from nertune.train.adapter import prepare_model
from nertune.train.fit import train
from nertune.train.optimizer import raise_rate_of_b
from nertune.train.recipe import load_recipe

SHORT = {"max_steps": 4, "eval_steps": 4, "learning_rate": 0.005}
TOKENS = ["[", " | 人名]", " | 地点]"]
IDS, ROW = [40, 50, 60, 70, 80, 90, 100, 110, 120], (3, [2, 4])

METHODS = {
    "lora": {},
    "rslora": {"lora": {"rslora": True}},
    "dora": {"lora": {"dora": True}},
    "lora+": {"lora": {"plus_ratio": 16}},
    "full": {"method": "full", "lora": None},
    "tokens": {"tokens": TOKENS},
    "tokens and dora": {"tokens": TOKENS, "lora": {"dora": True}},
    "tokens and full": {"tokens": TOKENS, "method": "full", "lora": None},
}


def _packed_logits(model) -> torch.Tensor:
    row = PackedRow(*ROW, device="cpu")
    with torch.no_grad():
        return model(
            input_ids=torch.tensor([IDS]), position_ids=row.position_ids_1S, use_cache=False, nertune_context=row
        ).logits[0]


def _plain_logits(model) -> torch.Tensor:
    """The same places as in the packed row, each suffix behind the prefix."""
    prefix, lengths = ROW
    found, start = [], prefix
    with torch.no_grad():
        for length in lengths:
            ids = torch.tensor([IDS[:prefix] + IDS[start : start + length]])
            found.append(model(input_ids=ids, use_cache=False).logits[0, prefix:])
            start += length
    return torch.cat(found)


def _trained(recipe) -> tuple[Path, torch.Tensor]:
    """The run, and the logits of the model at the end of training."""
    seen: list[torch.Tensor] = []
    run = train(recipe, samples=lambda model, *_: seen.append(_packed_logits(model)) or ()).folder
    (logits,) = seen
    return run, logits


@pytest.mark.parametrize("name", ["qwen2", "gemma3-tied"])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_loads_as_the_model_that_was_trained(recipe, base_of, method, name):
    base = base_of(name)
    run, trained = _trained(recipe(model=str(base), training=SHORT, **METHODS[method]))
    losses = [line["loss"] for line in map(json.loads, (run / "metrics.jsonl").open()) if "loss" in line]
    assert losses[-1] < losses[0]
    assert load_recipe(run / "recipe.yaml").method == RunManifest.read(run).kind.replace("model", "full").replace(
        "adapter", "lora"
    )

    recognizer = nertune.load(run)
    torch.testing.assert_close(_packed_logits(recognizer.engine._model), trained, rtol=1e-4, atol=1e-4)
    assert recognizer.extract("方鹏去漠北").text == "方鹏去漠北"
    assert ("full" in method) == (run / "model.safetensors").exists() != (run / "adapter_model.safetensors").exists()

    if "full" in method:
        peer = AutoModelForCausalLM.from_pretrained(run)
    else:
        peer = AutoModelForCausalLM.from_pretrained(base)
        if "tokens" in method:
            peer.resize_token_embeddings(len(AutoTokenizer.from_pretrained(run)))
        peer = PeftModel.from_pretrained(peer, run)
    torch.testing.assert_close(_plain_logits(peer.eval()), trained[3:], rtol=1e-4, atol=1e-4)


class InterruptionError(Exception):
    """Stands for the signal that ends a training from outside."""


@pytest.mark.parametrize("method", ["dora", "lora+", "full", "tokens"])
def test_checkpointing_changes_no_number_and_an_interrupted_run_goes_on(recipe, method):
    """Activation checkpointing in the run that is interrupted, none in the one that is not: the same weights."""

    def interrupt(progress) -> None:
        if progress.step == 3:
            raise InterruptionError

    settings = {**SHORT, "eval_steps": 2, "learning_rate": 0.001}
    whole = train(recipe("whole", training=settings, **METHODS[method])).folder
    saving = recipe("saving", training={**settings, "gradient_checkpointing": True}, **METHODS[method])
    with pytest.raises(InterruptionError):
        train(saving, report=interrupt)
    resumed = train(saving, resume=True).folder
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    found, expected = load_file(resumed / weights), load_file(whole / weights)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-5, msg=name)
    for saved in load_file(resumed / "checkpoints" / "checkpoint-4" / weights):
        assert saved in expected
