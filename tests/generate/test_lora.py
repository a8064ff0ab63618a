"""Adapters are read from PEFT's files without PEFT, and what is not a plain low-rank product of this base is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from nertune.errors import RunError
from nertune.generate.adapters import Adapters
from nertune.generate.lora import read_lora, why_alone

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Q = "base_model.model.model.layers.0.self_attn.q_proj"
ALONE = r"so (it|the adapter) cannot be served beside other(s| adapters) or its base model\. Serve it alone, merged"


def _save(model: Any, folder: Path, config: Any = None, **settings: Any) -> Path:
    config = config or LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], **settings})
    get_peft_model(model, config).save_pretrained(str(folder), save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory) -> Path:
    return _save(tiny_model("qwen2"), tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


def _configured(folder: Path, **changes: Any) -> Path:
    value = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**value, **changes}), encoding="utf-8")
    return folder


def _weighted(folder: Path, **changes: Any) -> Path:
    """Weights of some names changed; None leaves one out."""
    weights = load_file(folder / WEIGHTS) | changes
    save_file({key: tensor for key, tensor in weights.items() if tensor is not None}, folder / WEIGHTS)
    return folder


def test_parts_are_named_by_their_module_and_scaled(folder):
    parts = read_lora(folder)
    assert sorted(parts) == sorted(
        f"model.layers.{n}.{part}" for n in range(3) for part in ("self_attn.q_proj", "mlp.up_proj")
    )
    assert {part.scale for part in parts.values()} == {2.0}
    assert parts["model.layers.1.mlp.up_proj"].a_RI.shape == (4, 32)
    assert parts["model.layers.1.mlp.up_proj"].b_OR.shape == (48, 4)
    assert why_alone(folder) is None


def test_patterns_set_rank_and_scale_of_some_modules_as_peft_does(tiny_model, tmp_path):
    patterns = {
        "rank_pattern": {"layers.1.self_attn.q_proj": 2, "up_proj": 3},
        "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 1, "up_proj": 5, "layers.0.mlp.up_proj": 99, "proj": 77},
    }
    model = get_peft_model(tiny_model("qwen2"), LoraConfig(r=4, target_modules=["q_proj", "up_proj"], **patterns))
    model.save_pretrained(str(tmp_path))
    # Read back, because PEFT takes the first pattern that fits and writes them in another order.
    model = PeftModel.from_pretrained(tiny_model("qwen2"), str(tmp_path))
    layers = {
        name.removeprefix("base_model.model."): module for name, module in model.named_modules() if "proj" in name
    }
    parts = read_lora(tmp_path)
    assert len(parts) == 6
    for name, part in parts.items():
        assert part.scale == pytest.approx(layers[name].scaling["default"])
    # PEFT's names are expressions, so a dot may stand for any letter; no expression from a file is run here.
    assert why_alone(_configured(tmp_path, rank_pattern={"(a|a)*q_proj": 4})).startswith("its rank_pattern has expr")


def test_rank_stabilized_scale(tiny_model, tmp_path):
    parts = read_lora(_save(tiny_model("qwen2"), tmp_path, use_rslora=True))
    assert {part.scale for part in parts.values()} == {8 / math.sqrt(4)}


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"use_dora": True}, "it has DoRA"),
        ({"modules_to_save": ["norm"]}, "it has whole modules beside it"),
        ({"trainable_token_indices": [3, 4]}, "it has trained token embeddings"),
        ({"bias": "lora_only"}, "it has trained biases"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "it has biases of its own"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "holds .*lora_embedding_A.*no low-rank part"),
        ({"init_lora_weights": "pissa"}, r"trained on changed weights \(init_lora_weights: 'pissa'\)"),
    ],
)
def test_adapters_of_other_kinds_are_refused_and_sent_to_be_merged(tiny_model, tmp_path, settings, what):
    with pytest.raises(RunError, match=rf"{what}.*{ALONE}"):
        read_lora(_save(tiny_model("qwen2"), tmp_path, **settings))


def test_other_peft_types_and_settings_of_later_versions_are_refused(tiny_model, tmp_path, folder):
    _save(tiny_model("qwen2"), tmp_path, IA3Config(target_modules=["k_proj"], feedforward_modules=[]))
    with pytest.raises(RunError, match=rf"of PEFT's type 'IA3', not LORA.*{ALONE}"):
        read_lora(tmp_path)
    with pytest.raises(RunError, match=rf"it has PEFT’s twisted.*{ALONE}"):
        read_lora(_configured(folder, twisted={"by": 2}))


def test_the_output_layer_and_other_modules_are_refused(tiny_model, tmp_path):
    for name, target, what in (
        ("head", "lm_head", "output layer"),
        ("norm", "input_layernorm", "no linear layer but a"),
    ):
        folder = _save(tiny_model("qwen2"), tmp_path / name)
        weights = load_file(folder / WEIGHTS)
        path = "base_model.model." + ("lm_head" if target == "lm_head" else f"model.layers.0.{target}")
        weights |= {f"{path}.lora_A.weight": torch.ones(4, 32), f"{path}.lora_B.weight": torch.ones(160, 4)}
        save_file(weights, folder / WEIGHTS)
        with pytest.raises(RunError, match=rf"{what}.*{ALONE}"):
            Adapters(tiny_model("qwen2"), {"a": folder})


def test_another_base_model_is_refused(tiny_model, folder):
    with pytest.raises(RunError, match=r"another base model: .* turns 32 numbers into (32|48) there, and 48 into 48"):
        Adapters(tiny_model("qwen2", hidden_size=48), {"a": folder})
    with pytest.raises(RunError, match=r"another base model: this one has no model\.layers\.2"):
        Adapters(tiny_model("qwen2", num_hidden_layers=2), {"a": folder})
    with pytest.raises(RunError, match=r"another base model: this one has no .*(q|up)_proj"):
        Adapters(tiny_model("phi3"), {"a": folder})


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), f"needs {WEIGHTS}, which is missing"),
        (lambda folder: (folder / CONFIG).unlink(), f"needs {CONFIG}, which is missing"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"\x80\x04pickle"), "damaged"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 7 + b"\x7f" + b"{" * 50), "damaged"),
        (lambda folder: (folder / CONFIG).write_text("[" * 100_000), "damaged"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "damaged"),
        (lambda folder: (folder / CONFIG).write_text(" " * 2_000_000), "damaged .*larger than a megabyte"),
        (lambda folder: _configured(folder, alpha_pattern=[1]), "damaged .*alpha_pattern is no JSON object"),
        (lambda folder: _configured(folder, r=5), "matrices of rank 4 and 4, and adapter_config.json says 5"),
        (lambda folder: _configured(folder, r=True), "r is True, not a number above 0"),
        (lambda folder: _configured(folder, lora_alpha="8"), "lora_alpha is '8', not a number"),
        (lambda folder: _configured(folder, lora_alpha=float("nan")), "lora_alpha is nan"),
        (lambda folder: _weighted(folder, **{f"{Q}.lora_B.weight": None}), "lora_A of .*q_proj stands alone"),
        (lambda folder: _weighted(folder, **{f"{Q}.lora_A.weight": torch.ones(3, 32)}), "of rank 3 and 4"),
        (lambda folder: _weighted(folder, **{f"{Q}.lora_A.weight": torch.ones(128)}), "no matrix of finite numbers"),
        (
            lambda folder: _weighted(folder, **{f"{Q}.lora_A.weight": torch.full((4, 32), torch.nan)}),
            "no matrix of finite",
        ),
        (
            lambda folder: _weighted(folder, elsewhere=torch.ones(1)),
            "holds 'elsewhere', which is no low-rank part",
        ),
        (lambda folder: save_file({}, folder / WEIGHTS), "holds no weights"),
    ],
)
def test_damaged_and_unsafe_folders_are_refused(folder, spoil, what):
    spoil(folder)
    with pytest.raises(RunError, match=what):
        read_lora(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_links_that_leave_the_folder_are_refused(folder, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(RunError, match="a link that leaves the folder"):
        read_lora(folder)
