"""An adapter of another base model is refused by its shapes, before PEFT reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from nertune.errors import RunError
from nertune.models.fitting import check_fits
from nertune.safety import read_header


@pytest.fixture(scope="module")
def adapter_of(tmp_path_factory, tiny_model):
    """A function from a family, and changes of its sizes, to the folder of an adapter on all its linear layers."""

    def saved(family: str, **changes: int) -> Path:
        folder = tmp_path_factory.mktemp(family)
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        get_peft_model(tiny_model(family, **changes), config).save_pretrained(str(folder))
        return folder

    return saved


@pytest.mark.parametrize("family", ["qwen2", "llama", "phi3", "gemma3"])
def test_an_adapter_fits_the_model_that_it_was_made_for(family, adapter_of, tiny_model):
    folder = adapter_of(family)
    check_fits(tiny_model(family), folder)
    assert read_header(folder, "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("qwen2", {"hidden_size": 64}, "another base model: its .* is .*, and the layer here (takes|gives) "),
        ("qwen2", {"intermediate_size": 96}, "another base model: its "),
        ("qwen2", {"num_hidden_layers": 5}, "one with a layer model.layers.3"),
        ("phi3", {}, "one with a layer .*qkv_proj|gate_up_proj"),
    ],
)
def test_an_adapter_of_another_model_is_refused(family, changes, said, adapter_of, tiny_model):
    with pytest.raises(RunError, match=said):
        check_fits(tiny_model("qwen2"), adapter_of(family, **changes))


def test_a_pattern_is_not_tried(adapter_of, tiny_model):
    folder = adapter_of("qwen2")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target_modules": "(.*)*(.*)*x"}))
    with pytest.raises(RunError, match="target_modules is a pattern"):
        check_fits(tiny_model("qwen2"), folder)
