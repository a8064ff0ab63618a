"""Adapters and models as strangers may send them: refused with one sentence, before any library reads them."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nertune
from nertune.errors import RunError, UnknownModelError
from nertune.models import load_model, load_tokenizer
from nertune.safety import (
    check_adapter,
    check_model,
    check_tokenizer,
    read_adapter_config,
    remote_code_trusted,
    trust_remote_code,
)

PACKAGE = Path(nertune.__file__).parent
INDEX = "model.safetensors.index.json"


def test_whole_folders_pass(adapter, model):
    assert check_adapter(adapter).rank == 4
    assert set(check_model(model)) == {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"}


# ---- Pickles


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_an_adapter_of_pickles_is_refused(adapter, name):
    (adapter / "adapter_model.safetensors").rename(adapter / name)
    with pytest.raises(RunError, match=r"needs adapter_model\.safetensors, found"):
        check_adapter(adapter)


def test_a_pickle_under_the_name_of_safetensors_is_refused(adapter):
    (adapter / "adapter_model.safetensors").write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n.")
    with pytest.raises(RunError, match="cannot be read"):
        check_adapter(adapter)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "weights.pt",
        "../model.safetensors",
        "/etc/passwd",
        "a/../../b.safetensors",
        "a\\b.safetensors",
        "x.safetensors/../../y.safetensors",
        "",
        None,
        3,
        "a\n.safetensors",
    ],
)
def test_an_index_that_leaves_its_folder_or_names_a_pickle_is_refused(model, name):
    (model / "model.safetensors").rename(model / "kept.safetensors")
    (model / INDEX).write_text(json.dumps({"weight_map": {"model.embed_tokens.weight": name}}))
    with pytest.raises(RunError, match="only safetensors files of this very folder are read"):
        check_model(model)


def test_an_index_is_followed_and_must_tell_the_truth(model):
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    by_tensor = dict.fromkeys(
        ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"], "model-00001-of-00001.safetensors"
    )
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": by_tensor}))
    assert len(check_model(model)) == 2
    (model / INDEX).write_text(json.dumps({"weight_map": {**by_tensor, "ghost": "model-00001-of-00001.safetensors"}}))
    with pytest.raises(RunError, match="'ghost' is not in model-00001"):
        check_model(model)
    for content in ('{"weight_map": {}}', '{"weight_map": []}', "{}"):
        (model / INDEX).write_text(content)
        with pytest.raises(RunError, match="no weight_map"):
            check_model(model)


# ---- Links


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "added_tokens.json"]
)
def test_a_link_out_of_the_folder_is_refused(adapter, tmp_path, name):
    outside = tmp_path / "outside"
    source = adapter / name
    outside.write_bytes(source.read_bytes() if source.exists() else b"{}")
    source.unlink(missing_ok=True)
    source.symlink_to(outside)
    with pytest.raises(RunError, match="a link that leaves its folder"):
        check_adapter(adapter)
    source.unlink()
    source.symlink_to("nowhere")
    with pytest.raises(RunError, match="a link that leads nowhere"):
        check_adapter(adapter)
    source.unlink()
    source.symlink_to(name)
    with pytest.raises(RunError, match="a link that leads nowhere"):
        check_adapter(adapter)


def test_a_link_within_the_folder_and_a_link_to_the_folder_are_taken(adapter, tmp_path):
    (adapter / "adapter_model.safetensors").rename(adapter / "weights")
    (adapter / "adapter_model.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(adapter)
    assert check_adapter(tmp_path / "link").rank == 4


def test_the_links_of_the_hubs_cache_are_taken_and_no_others(model, tmp_path):
    cached = tmp_path / "models--org--name"
    (cached / "blobs").mkdir(parents=True)
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in model.iterdir():
        path.rename(cached / "blobs" / f"{path.name}-blob")
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}-blob")
    assert check_model(snapshot)
    (tmp_path / "secret").write_text("{}")
    (snapshot / "tokenizer.json").symlink_to("../../../secret")
    with pytest.raises(RunError, match="a link that leaves its folder"):
        check_model(snapshot)


def test_a_pipe_is_no_file(adapter):
    (adapter / "adapter_config.json").unlink()
    os.mkfifo(adapter / "adapter_config.json")
    with pytest.raises(RunError, match="not a regular file"):
        check_adapter(adapter)


# ---- Configurations


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 10**9}, "a rank is from 1"),
        ({"r": 0}, "a rank is from 1"),
        ({"r": 2048}, "it says rank 2048, and the weights have rank 4"),
        ({"r": "4"}, "r is '4', not a rank"),
        ({"r": True}, "not a rank"),
        ({"rank_pattern": {"q_proj": 10**9}}, "a rank is from 1"),
        ({"rank_pattern": {"(a+)+$": 4}}, "regular expression"),
        ({"rank_pattern": [4]}, "not a rank or alpha by name"),
        ({"lora_alpha": "big"}, "lora_alpha is 'big', not a number"),
        ({"target_modules": [1]}, "something else than names"),
        ({"target_modules": {"a": 1}}, "not a list of names"),
        ({"target_modules": "x" * 2000}, "2,000 characters"),
        ({"peft_type": "IA3"}, "only LoRA is loaded"),
        ({"peft_type": 7}, "peft_type is 7, not a text"),
        ({"base_model_name_or_path": 7}, "not a name"),
        ({"use_dora": "yes"}, "neither true nor false"),
        ({"modules_to_save": "lm_head"}, "not a list of names"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "makes PEFT import a module"),
        ({"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, "names the module 'os'"),
        ({"auto_map": {"AutoModel": "code.X"}}, "never run for an adapter"),
        ({"init_lora_weights": "pissa"}, "changes the base model"),
        ({"layer_replication": [[0, 10**6]]}, "layer_replication"),
        ({"target_modules": None}, "damaged"),
    ],
    ids=str,
)
def test_an_adapter_config_that_is_absurd_is_refused(adapter, change, changes, said):
    change(adapter / "adapter_config.json", **changes)
    with pytest.raises(RunError, match=said):
        check_adapter(adapter)


def test_a_config_of_a_gigabyte_is_not_read(adapter):
    with (adapter / "adapter_config.json").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(RunError, match="1,000,000,000 bytes, more than"):
        check_adapter(adapter)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 9_000_000}, "which no model has"),
        ({"num_hidden_layers": 300}, "300 layers, and the weights have 1"),
        ({"hidden_size": 2**40}, "which no model has"),
        ({"hidden_size": 4096}, "no weight is 4,096 wide"),
        ({"vocab_size": "160"}, "which no model has"),
        ({"text_config": {"hidden_size": -1}}, "which no model has"),
        ({"transformers_weights": "../x.safetensors"}, "transformers_weights is not taken"),
    ],
    ids=str,
)
def test_a_models_config_that_is_absurd_is_refused(model, change, changes, said):
    change(model / "config.json", **changes)
    with pytest.raises(RunError, match=said):
        check_model(model)


def test_a_base_model_with_an_adapter_in_it_is_refused(model, adapter):
    (adapter / "adapter_config.json").rename(model / "adapter_config.json")
    with pytest.raises(RunError, match="so it is no base model"):
        check_model(model)


# ---- Code


@pytest.fixture
def forgetting():
    yield
    trust_remote_code(False)


@pytest.mark.usefixtures("forgetting")
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_code_of_the_folders_own_is_refused_unless_the_user_says_so(model, change, name):
    path = model / name
    if not path.exists():
        path.write_text("{}")
    change(path, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (model / "modeling_evil.py").write_text("raise SystemExit('ran')\n")
    assert not remote_code_trusted()
    for load in (load_model, load_tokenizer):
        with pytest.raises(UnknownModelError, match=rf"{name}: auto_map names code .*--trust-remote-code"):
            load(str(model))
    trust_remote_code()
    check_model(model)


@pytest.mark.parametrize("value", ["someone/kernel", "someone/kernel@main:flash"])
def test_attention_from_a_hub_is_code_too(model, change, value):
    change(model / "config.json", attn_implementation=value)
    with pytest.raises(RunError, match="is code on a hub"):
        check_model(model)


def test_a_tokenizers_folder_is_looked_at_too(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["code.X", None]}}))
    with pytest.raises(RunError, match="auto_map"):
        check_tokenizer(tmp_path)


# ---- Whatever else


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [
    "r",
    "lora_alpha",
    "target_modules",
    "peft_type",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "use_dora",
]
_KEYS += [
    "base_model_name_or_path",
    "auto_mapping",
    "megatron_config",
    "init_lora_weights",
    "layer_replication",
    "bias",
]


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4))
def test_any_adapter_config_is_read_or_is_one_error(adapter, changes):
    path = adapter / "adapter_config.json"
    good = {"peft_type": "LORA", "base_model_name_or_path": "b", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    path.write_text(json.dumps({**good, **changes}))
    said = str(path)
    try:
        assert 0 < read_adapter_config(adapter).rank <= 65_536
    except RunError as error:
        said = str(error)
    assert str(path) in said


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]":,0aA\\u', max_size=60).map(str.encode))
def test_any_bytes_as_config_are_read_or_are_one_error(model, content):
    (model / "config.json").write_bytes(content)
    said = str(model)
    try:
        check_model(model)
    except RunError as error:
        said = str(error)
    assert said.startswith(str(model))


def test_the_checks_are_there_without_asserts(adapter, model, change):
    """`python -O` leaves asserts out: what is refused is refused there too."""
    change(adapter / "adapter_config.json", r=2048)
    change(model / "config.json", auto_map={"AutoModel": "x.Y"})
    script = (
        "import sys, pathlib\n"
        "from nertune.errors import RunError\n"
        "from nertune.safety import check_adapter, check_model\n"
        "for check, folder in ((check_adapter, sys.argv[1]), (check_model, sys.argv[2])):\n"
        "    try:\n"
        "        check(pathlib.Path(folder))\n"
        "    except RunError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", script, adapter, model], capture_output=True, text=True, check=True, timeout=120
    )
    refused = done.stdout.splitlines()
    assert "it says rank 2048" in refused[0]
    assert "--trust-remote-code" in refused[1]


def test_no_check_of_the_package_is_an_assert():
    asserts = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert asserts == []
