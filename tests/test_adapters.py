"""Several runs on one engine: each answers as it does by itself, and what does not go together is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import nertune
from nertune.adapters import load_runs
from nertune.errors import InputError, MissingFileError, RunError
from nertune.generate import Request
from nertune.prompt import PromptSpec, PromptTemplate, answer_format, template_hash
from nertune.run import RunManifest
from nertune.schema import LabelSet

pytestmark = pytest.mark.engine

TEXTS = ["叶老桂来自杭州", "浙商银行", "没有"]


@pytest.fixture(scope="module")
def tokenizer(family_of) -> Any:
    return family_of("qwen3").tokenizer


@pytest.fixture(scope="module")
def base(tiny_model, tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer.save_pretrained(folder)
    _model(tiny_model, tokenizer).save_pretrained(folder)
    return folder


def _model(tiny_model, tokenizer) -> Any:
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048, "num_hidden_layers": 2}
    return tiny_model("qwen2", initializer_range=0.3, **sizes)


def _spec(user: str, labels: tuple[str, ...], answer: str) -> PromptSpec:
    return PromptSpec(PromptTemplate(user, "专家"), LabelSet(labels), answer_format(answer))


SPECS = {
    "people": _spec("句：{text}", ("name", "address"), "inline"),
    "firms": _spec("找出{labels}：{text}", ("company",), "json"),
    "both": _spec("请看：{text}", ("name", "company"), "xml"),
}


@pytest.fixture(scope="module")
def run_of(base, tiny_model, tokenizer, tmp_path_factory) -> Callable[..., Path]:
    """A function from a name of SPECS, changes to the manifest and to PEFT's settings to a run directory."""

    def build(name: str, *, lora: dict | None = None, **manifest: Any) -> Path:
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(sorted(SPECS).index(name))
        settings = {"r": 2 + len(name), "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **(lora or {})}
        adapted = get_peft_model(_model(tiny_model, tokenizer), LoraConfig(**settings))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        adapted.save_pretrained(str(folder))
        given = RunManifest(str(base), SPECS[name], template_hash(tokenizer), (tokenizer.eos_token_id,), 512)
        replace(given, **manifest).write(folder)
        return folder

    return build


@pytest.fixture(scope="module")
def runs(run_of) -> dict[str, Path]:
    return {name: run_of(name) for name in SPECS}


def _same(one: Any, other: Any) -> None:
    assert [(p.entities, p.ungrounded, p.outcome) for p in one] == [
        (p.entities, p.ungrounded, p.outcome) for p in other
    ]
    for found, expected in zip(one, other, strict=True):
        scores = [entity.score for entity in found.entities]
        assert scores == pytest.approx([entity.score for entity in expected.entities], abs=1e-4)


def test_every_run_answers_as_when_loaded_by_itself_and_the_base_as_untrained(runs):
    loaded = load_runs(runs)
    assert list(loaded.recognizers) == list(runs)
    assert loaded.folders == runs
    assert loaded.offers_base
    assert {id(one.engine) for one in loaded.recognizers.values()} == {id(loaded.engine)}
    asked: list[Request] = []
    for name, folder in runs.items():
        alone = nertune.load(folder)
        ours = loaded.recognizers[name]
        assert (ours.adapter, ours.window, ours.renderer.spec) == (name, alone.window, SPECS[name])
        _same(ours.extract_many(TEXTS), alone.extract_many(TEXTS))
        asked += ours.prepare(TEXTS).requests
    # All of them and the base together, through one continuous batch.
    mixed = [*asked, *(replace(request, adapter=None) for request in asked)]
    assert loaded.engine.generate(mixed) == [loaded.engine.generate([request])[0] for request in mixed]


def test_tasks_of_a_run_share_its_adapter(run_of, runs):
    tasked = run_of("people", prompt=None, tasks={"a": SPECS["people"], "b": SPECS["firms"]})
    loaded = load_runs({"ner": tasked, "firms": runs["firms"]})
    assert list(loaded.recognizers) == ["ner/a", "ner/b", "firms"]
    assert [one.adapter for one in loaded.recognizers.values()] == ["ner", "ner", "firms"]
    _same(loaded.recognizers["ner/b"].extract_many(TEXTS), nertune.load(tasked, task="b").extract_many(TEXTS))
    with pytest.raises(InputError, match="'ner/a' would be the name of a run and of another run's task"):
        load_runs({"ner": tasked, "ner/a": runs["firms"]})


def test_one_run_alone_keeps_its_base_model_beside_it(runs):
    loaded = load_runs({"firms": runs["firms"]}, max_new_tokens=20, window=300)
    recognizer = loaded.recognizers["firms"]
    assert loaded.offers_base
    assert (recognizer.adapter, recognizer.max_new_tokens, recognizer.window) == ("firms", 20, 300)


@pytest.mark.parametrize(
    ("lora", "why"),
    [({"use_dora": True}, "it has DoRA"), ({"modules_to_save": ["norm"]}, "it has whole modules beside it")],
)
def test_a_run_of_another_kind_is_served_alone_merged(run_of, runs, lora, why):
    folder = run_of("both", lora=lora)
    with pytest.raises(RunError, match=rf"{why}.*cannot share an engine with other runs\. Serve it alone"):
        load_runs({"firms": runs["firms"], "other": folder})
    loaded = load_runs({"other": folder})
    assert not loaded.offers_base
    assert loaded.recognizers["other"].adapter is None
    _same(loaded.recognizers["other"].extract_many(TEXTS), nertune.load(folder).extract_many(TEXTS))


def test_a_whole_model_is_served_alone(run_of, runs, base, tokenizer, tmp_path):
    folder = Path(shutil.copytree(base, tmp_path / "whole"))
    replace(RunManifest.read(runs["both"]), kind="model").write(folder)
    with pytest.raises(RunError, match=r"all weights were trained.*cannot share an engine"):
        load_runs({"whole": folder, "firms": runs["firms"]})
    loaded = load_runs({"whole": folder})
    assert (loaded.offers_base, loaded.recognizers["whole"].adapter) == (False, None)
    assert len(loaded.recognizers["whole"].extract_many(TEXTS)) == len(TEXTS)


def test_runs_that_do_not_go_together_are_refused(run_of, runs, base, tmp_path):
    other = Path(shutil.copytree(base, tmp_path / "other"))
    with pytest.raises(RunError, match=r"trained on .*other, and .* on .*one base model\. Serve them apart"):
        load_runs({"firms": runs["firms"], "other": run_of("both", base_model=str(other))})
    with pytest.raises(RunError, match="tokens were added to its tokenizer, so it cannot share"):
        load_runs({"firms": runs["firms"], "marked": run_of("both", tokens=("[",))})
    small = run_of("both", quantize="4bit")
    with pytest.raises(RunError, match=r"trained on 4bit weights of the base model, and .* on whole ones"):
        load_runs({"firms": runs["firms"], "small": small})
    assert load_runs({"firms": runs["firms"], "small": small}, dtype="float32").offers_base


def test_a_base_model_may_be_named_in_two_ways(run_of, runs, base, tmp_path):
    (tmp_path / "link").symlink_to(base)
    loaded = load_runs({"firms": runs["firms"], "people": run_of("people", base_model=str(tmp_path / "link"))})
    assert loaded.engine.adapters.names == ("firms", "people")


def test_what_is_no_run_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="no run is named"):
        load_runs({})
    with pytest.raises(MissingFileError, match="no such run directory"):
        load_runs({"firms": runs["firms"], "gone": tmp_path / "gone"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="not a finished run"):
        load_runs({"empty": tmp_path / "empty"})
    pickled = Path(shutil.copytree(runs["both"], tmp_path / "pickled"))
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(RunError, match=r"only adapter_model\.bin, which is not loaded because it can run code"):
        load_runs({"pickled": pickled})
    damaged = Path(shutil.copytree(runs["both"], tmp_path / "damaged"))
    (damaged / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 0, "target_modules": []}))
    with pytest.raises(RunError, match="r is 0, and a rank is from 1"):
        load_runs({"damaged": damaged})
