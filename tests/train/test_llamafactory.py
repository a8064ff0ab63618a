"""LLaMA-Factory's YAML files: every key is honoured, taken with a note, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

import nertune
from nertune.cli import main
from nertune.errors import MissingFileError, RecipeError
from nertune.prompt import PromptTemplate, answer_format
from nertune.run import RunManifest
from nertune.train.fit import train
from nertune.train.llamafactory import OpenedRecipe, open_recipe
from nertune.train.llamafactory_keys import FIXED, HONOURED, KNOWN, NOTED, SECRET, is_llamafactory
from nertune.train.recipe import LoraSection, Recipe
from nertune.train.task import load_tasks

TUTORIAL = Path(__file__).parents[2] / "recipes" / "cluener-llamafactory.yaml"
NAMES, PLACES = ["方鹏", "林屿", "许若彤", "邱岳"], ["杭州", "青川", "漠北"]
PROMPT = "抽取人名、地点，输出JSON。\n<输入文本>"


def alpaca(names: Sequence[str] = NAMES, prompt: str = PROMPT, **more: object) -> list[dict[str, object]]:
    """Rows as the tutorial makes them: the prompt, the sentence, the answer."""
    return [
        {
            "instruction": prompt,
            "input": f"{name}去{place}",
            "output": json.dumps(
                [{"label": "人名", "text": name}, {"label": "地点", "text": place}], ensure_ascii=False
            ),
            **more,
        }
        for name in names
        for place in PLACES
    ]


Open = Callable[..., OpenedRecipe]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with `data/dataset_info.json` and one data set, `clue`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    put(tmp_path, clue=({"file_name": "clue.json"}, alpaca()))
    return tmp_path


def put(folder: Path, **sets: tuple[dict[str, object], list[dict[str, object]]]) -> None:
    """Write data sets and their entries."""
    path = folder / "data" / "dataset_info.json"
    info = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, (entry, rows) in sets.items():
        info[name] = entry
        if "file_name" in entry:
            (folder / "data" / str(entry["file_name"])).write_text(json.dumps(rows), encoding="utf-8")
    path.write_text(json.dumps(info), encoding="utf-8")


@pytest.fixture
def opened(folder) -> Open:
    """A function from keys (and overrides) to what their file becomes; the smallest file's keys are there already."""

    def build(*overrides: str, **keys: object) -> OpenedRecipe:
        value = {"model_name_or_path": "m", "dataset": "clue", "output_dir": "out", **keys}
        (folder / "theirs.yaml").write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
        return open_recipe("theirs.yaml", overrides)

    return build


def problems(opened: Open, *overrides: str, **keys: object) -> str:
    with pytest.raises(RecipeError) as caught:
        opened(*overrides, **keys)
    assert caught.value.exit_code == 2
    return "\n".join(caught.value.problems)


def test_the_tutorials_file_becomes_this_recipe(folder):
    put(folder, alpaca_clue_train=({"file_name": "alpaca_clue_train.json"}, alpaca()))
    recipe, notes = open_recipe(TUTORIAL)
    assert (recipe.model, recipe.output, recipe.max_tokens) == ("Qwen/Qwen2.5-7B-Instruct", TUTORIAL_OUTPUT, 1024)
    assert recipe.data.model_dump() == {
        "train": "data/alpaca_clue_train.json",
        "validation": 0.1,
        "format": "alpaca",
        "columns": None,
        "limit": 15000,
        "seed": 42,
        "hold_out": "random",
        "label_map": None,
        "doubtful": "refuse",
    }
    assert recipe.prompt.load() == PromptTemplate(PROMPT + "\n{text}", QWEN)
    assert recipe.answer_format().options() == {"label_key": "label", "text_key": "text", "distinct": True}
    assert recipe.lora == PLAIN
    assert (recipe.method, recipe.tokens, recipe.training.quantize) == ("lora", (), None)
    training = recipe.training
    assert (training.epochs, training.batch_size, training.accumulation, training.learning_rate) == (3, 4, 8, 1e-4)
    assert (training.scheduler, training.warmup, training.dtype) == ("cosine", 0.1, "bfloat16")
    assert (training.log_steps, training.eval_steps, training.save_steps, training.seed) == (10, 500, 500, 42)
    assert (training.keep_best, training.keep_checkpoints, training.gradient_checkpointing) == (False, None, True)
    said = "\n".join(notes)
    for key in yaml.safe_load(TUTORIAL.read_text(encoding="utf-8")):
        assert key in HONOURED or key in FIXED or key in said, key
    assert "left out by name" in said
    assert "code from a model's repository is run only where the command line says --trust-remote-code" in said


PLAIN = LoraSection(rank=8, alpha=16, dropout=0.0)
TUTORIAL_OUTPUT = "runs/cluener-llamafactory"
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def test_a_silent_file_takes_their_defaults(opened):
    recipe = opened().recipe
    assert recipe.lora == PLAIN
    assert (recipe.method, recipe.tokens, recipe.training.quantize) == ("lora", (), None)
    assert recipe.max_tokens == 2048
    assert recipe.data.validation == 0
    training = recipe.training
    assert (training.epochs, training.batch_size, training.accumulation, training.learning_rate) == (3, 8, 1, 5e-5)
    assert (training.scheduler, training.warmup, training.weight_decay) == ("linear", 0, 0)
    assert (training.log_steps, training.eval_steps, training.save_steps) == (500, "never", 500)
    assert (training.gradient_checkpointing, training.dtype, training.seed) == (True, "auto", 42)
    assert recipe.prompt.load().system is None
    assert Recipe.model_validate(yaml.safe_load(recipe.to_yaml())) == recipe


@pytest.mark.parametrize(
    ("keys", "ours", "value"),
    [
        ({"lora_rank": 32}, "lora.alpha", 64),
        ({"lora_alpha": 5}, "lora.alpha", 5),
        ({"lora_target": "q_proj, v_proj"}, "lora.targets", ("q_proj", "v_proj")),
        ({"lora_target": ["q_proj"]}, "lora.targets", ("q_proj",)),
        ({"lora_dropout": 0.05}, "lora.dropout", 0.05),
        ({"use_rslora": True}, "lora.rslora", True),
        ({"use_dora": True}, "lora.dora", True),
        ({"loraplus_lr_ratio": 16}, "lora.plus_ratio", 16.0),
        ({"finetuning_type": "full"}, "method", "full"),
        ({"finetuning_type": "full", "lora_rank": 3}, "lora.rank", 64),
        ({"quantization_bit": 4}, "training.quantize", "4bit"),
        ({"quantization_bit": 4, "quantization_method": "bitsandbytes"}, "training.quantize", "4bit"),
        ({"quantization_method": "gptq"}, "training.quantize", None),
        ({"adapter_name_or_path": "runs/a"}, "lora.start", "runs/a"),
        ({"add_tokens": "<a>,<b>"}, "tokens", ("<a>", "<b>")),
        ({"add_tokens": ["<a>"], "add_special_tokens": ["<b>"], "resize_vocab": True}, "tokens", ("<a>", "<b>")),
        ({"add_tokens": "<a>", "additional_target": "embed_tokens,lm_head"}, "tokens", ("<a>",)),
        ({"learning_rate": "1e-4"}, "training.learning_rate", 1e-4),
        ({"max_steps": 30}, "training.max_steps", 30),
        ({"max_steps": -1}, "training.max_steps", None),
        ({"warmup_ratio": 0.1}, "training.warmup", 0.1),
        ({"warmup_steps": 20}, "training.warmup", 20),
        ({"warmup_steps": 20, "warmup_ratio": 0.1}, "training.warmup", 20),
        ({"warmup_steps": 0, "warmup_ratio": 0.1}, "training.warmup", 0.1),
        ({"disable_gradient_checkpointing": True}, "training.gradient_checkpointing", False),
        ({"pure_bf16": True}, "training.dtype", "bfloat16"),
        ({"bf16": False}, "training.dtype", "auto"),
        ({"save_strategy": "epoch"}, "training.save_steps", "epoch"),
        ({"save_strategy": False}, "training.save_steps", "never"),
        ({"save_total_limit": 3}, "training.keep_checkpoints", 3),
        ({"eval_strategy": "steps", "val_size": 0.2}, "training.eval_steps", 500),
        ({"eval_strategy": "steps", "val_size": 0.2, "logging_steps": 5}, "training.eval_steps", 5),
        ({"eval_strategy": "epoch", "val_size": 0.2}, "training.eval_steps", "epoch"),
        ({"evaluation_strategy": "epoch", "val_size": 0.2}, "training.eval_steps", "epoch"),
        ({"val_size": 3}, "data.validation", 3),
        ({"val_size": 2.0}, "data.validation", 2),
        ({"max_samples": 5}, "data.limit", 5),
        ({"seed": 7, "data_seed": 7}, "data.seed", 7),
        ({"default_system": "专家", "template": "qwen"}, "prompt.system", "专家"),
        ({"template": "qwen"}, "prompt.system", QWEN),
        ({"template": "llama3"}, "prompt.system", False),
        ({"resume_from_checkpoint": None}, "resume", False),
        ({"resume_from_checkpoint": True}, "resume", True),
        ({"resume_from_checkpoint": "out/checkpoints/checkpoint-3"}, "resume", "out/checkpoints/checkpoint-3"),
        ({"lr_scheduler_type": "cosine_with_restarts"}, "training.scheduler", "cosine_with_restarts"),
    ],
)
def test_honoured_keys(opened, keys, ours, value):
    found = opened(**keys).recipe
    for part in ours.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_an_adapter_to_go_on_from_decides_what_the_file_is_silent_about(opened):
    silent = opened(adapter_name_or_path="runs/a").recipe.lora
    assert silent.model_fields_set == {"start", "dropout", "plus_ratio"}
    spoken = opened(adapter_name_or_path="runs/a", lora_rank=4, use_dora=True).recipe.lora
    assert spoken.model_fields_set == {"start", "dropout", "plus_ratio", "rank", "dora"}
    assert (spoken.rank, spoken.dora) == (4, True)


def test_what_becomes_of_added_tokens_is_told(opened):
    said = "\n".join(opened(add_special_tokens="<a>").notes)
    assert "their own rows of the embeddings are trained" in said
    assert "add_special_tokens: added as add_tokens does" in said
    assert "their own rows" not in "\n".join(opened(add_tokens="<a>", finetuning_type="full").notes)
    assert "pure_bf16: the weights are kept in float32" in "\n".join(
        opened(pure_bf16=True, finetuning_type="full").notes
    )


def test_the_best_state_is_kept_where_it_is_saved(opened):
    keys = {"load_best_model_at_end": True, "val_size": 0.2, "eval_strategy": "steps", "eval_steps": 10}
    assert opened(**keys, save_steps=20).recipe.training.keep_best
    assert "load_best_model_at_end: evaluations (10) and checkpoints (25)" in problems(opened, **keys, save_steps=25)
    assert "nothing is evaluated" in problems(opened, load_best_model_at_end=True)


@pytest.mark.parametrize("key", sorted(NOTED))
def test_noted_keys_are_named_with_the_reason(opened, key):
    # 1 is a value that no reason depends on.
    assert any(key in note.partition(": ")[0].split(", ") and NOTED[key] in note for note in opened(**{key: 1}).notes)


def test_one_reason_is_one_line_and_secrets_stay_secret(opened):
    notes = opened(do_sample=True, top_p=0.5, hf_hub_token="hf_abc", swanlab_api_key="sw_abc").notes
    assert any(note.startswith("do_sample, top_p: ") for note in notes)
    assert not any("_abc" in note for note in notes)
    assert set(KNOWN) >= SECRET


@pytest.mark.parametrize("key", sorted(FIXED))
def test_fixed_keys_take_their_values_and_refuse_others_with_the_reason(opened, key):
    for value in FIXED[key].values:
        opened(**{key: list(value) if isinstance(value, tuple) else value})
    assert problems(opened, **{key: "xyz"}) == f"{key}: 'xyz' is refused: {FIXED[key].why}"
    opened(**{key: None})


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"lora_rnak": 8}, "lora_rnak: unknown key; did you mean 'lora_rank'?"),
        ({"标签": 8}, "标签: unknown key; not one of LLaMA-Factory's keys"),
        (
            {"max_tokens": 8},
            "max_tokens: unknown key; that is nertune's own; this file is LLaMA-Factory's, whose key is",
        ),
        ({"training": {"epochs": 8}}, "training: unknown key; that is nertune's own"),
        ({"lora_rank": "big"}, "lora_rank: expected a whole number, found 'big'"),
        ({"lora_rank": 1.5}, "lora_rank: expected a whole number, found 1.5"),
        ({"lora_rank": True}, "lora_rank: expected a whole number, found True"),
        ({"lora_rank": 0}, "lora_rank: input should be greater than 0, found 0"),
        ({"lora_dropout": 1.0}, "lora_dropout: input should be less than 1"),
        ({"learning_rate": 0}, "learning_rate: input should be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: .nan is not finite"),
        ({"learning_rate": [1]}, "learning_rate: expected a number, found [1]"),
        ({"bf16": "yes"}, "bf16: expected yes or no, found 'yes'"),
        ({"cutoff_len": -1}, "cutoff_len: input should be greater than 0"),
        ({"max_samples": 0}, "max_samples: input should be greater than 0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio: input should be"),
        ({"val_size": -1}, "val_size: input should be"),
        ({"lora_target": []}, "lora_target: expected names, joined by commas, found []"),
        ({"lr_scheduler_type": "cosin"}, "lr_scheduler_type: input should be 'linear', 'cosine',"),
        (
            {"eval_strategy": "stpes"},
            "eval_strategy: expected no, steps or epoch, found 'stpes'; did you mean 'steps'?",
        ),
        ({"eval_strategy": "steps"}, "eval_strategy: there is nothing to evaluate on"),
        ({"template": "qwne"}, "template: 'qwne' is refused"),
        ({"template": "qwne"}, "did you mean 'qwen'?"),
        ({"template": "alpaca"}, "template: 'alpaca' is refused: the turns are those of the model's own chat template"),
        ({"default_system": ""}, "default_system: empty"),
        ({"data_seed": 5}, "data_seed: there is one seed"),
        ({"model_name_or_path": None}, "model_name_or_path: required key is missing"),
        ({"model_name_or_path": 3}, "model_name_or_path: expected text, found 3"),
        ({"dataset": None}, "dataset: required key is missing"),
        ({"dataset": "clue,other"}, "dataset: 'other' is not in data/dataset_info.json"),
        ({"dataset": "clue,clue"}, "dataset: named twice: clue"),
        (
            {"mix_strategy": "interleave_under"},
            "mix_strategy: 'interleave_under' is refused: all rows of all data sets",
        ),
        ({"dataset": "cleu"}, "dataset: 'cleu' is not in data/dataset_info.json; did you mean 'clue'?"),
        ({"dataset": "人民日报"}, "it knows 'clue'"),
        ({"dataset_dir": "nowhere"}, "dataset: nowhere/dataset_info.json: no such file"),
        ({"dataset_dir": "ONLINE"}, "on a hub"),
        ({"eval_dataset": "clue", "val_size": 0.1}, "val_size: eval_dataset is set too"),
        ({"eval_dataset": "nope"}, "eval_dataset: 'nope' is not in"),
        ({"stage": "dpo"}, "stage: 'dpo' is refused: nertune fine-tunes on annotated answers (sft) alone"),
        ({"quantization_bit": 8}, "quantization_bit: 8 is refused"),
        ({"quantization_bit": 4, "quantization_type": "fp4"}, "quantization_type: 'fp4' is refused"),
        ({"quantization_bit": 4, "quantization_method": "hqq"}, "quantization_method: 'hqq' is refused"),
        ({"quantization_bit": 4, "double_quantization": False}, "double_quantization: False is refused"),
        ({"quantization_bit": 4, "finetuning_type": "full"}, "quantization_bit: 4-bit weights cannot be trained"),
        ({"finetuning_type": "freeze"}, "finetuning_type: input should be 'lora' or 'full', found 'freeze'"),
        ({"finetuning_type": "full", "adapter_name_or_path": "a"}, "adapter_name_or_path: finetuning_type full"),
        ({"loraplus_lr_ratio": 0.5}, "loraplus_lr_ratio: input should be greater than or equal to 1"),
        ({"adapter_name_or_path": "a,b"}, "adapter_name_or_path: 2 adapters; training goes on with one"),
        ({"adapter_name_or_path": "a", "create_new_adapter": True}, "create_new_adapter: True is refused"),
        ({"additional_target": "embed_tokens"}, "additional_target: embed_tokens is refused"),
        ({"add_tokens": "<a>", "additional_target": "norm"}, "additional_target: norm is refused"),
        ({"add_tokens": "<a>,<a>"}, "add_tokens: each must be a text of its own"),
        ({"deepspeed": "ds_z3_config.json"}, "torchrun"),
    ],
)
def test_refusals_name_the_key_and_the_way_out(opened, keys, problem):
    assert problem in (said := problems(opened, **keys))
    assert said.count("\n") == 0


@pytest.mark.parametrize("key", sorted(HONOURED))
def test_no_value_slips_through_unnamed(opened, key):
    odd = ([], {}, [[1]], {"a": 1}, -3, 0, 10**30, 1.5, "", " ", "x\0", True, float("inf"), ["a", "b"], "2026-01-01")
    named: list[str] = []
    for value in odd:
        try:
            opened(**{key: value})
        except RecipeError as error:
            named += [problem.partition(":")[0] for problem in error.problems]
    assert named
    assert set(named) <= set(HONOURED)


def test_reasoning_is_said_to_be_off(opened):
    assert any("empty reasoning part" in note for note in opened(template="qwen3").notes)
    assert sum("reasoning" in note for note in opened(template="qwen3", enable_thinking=False).notes) == 1


def test_all_problems_come_together(opened):
    said = problems(
        opened,
        "lora_rank=x",
        "nonsense",
        cutof_len=3,
        stage="rm",
        dataset="nope",
        template="vicuna",
        neftune_noise_alpha=5,
    )
    assert len(said.splitlines()) == 7


def test_overrides_use_their_keys(opened):
    recipe = opened("learning_rate=3e-4", "lora_target=q_proj,v_proj", "val_size=0.25", "trust_remote_code=true").recipe
    assert recipe.training.learning_rate == 3e-4
    assert recipe.lora.targets == ("q_proj", "v_proj")
    assert recipe.data.validation == 0.25
    assert "training: unknown key" in problems(opened, "training.epochs=3")
    assert "model: unknown key" in problems(opened, "model=m")


def test_both_kinds_of_files_are_told_apart(folder, opened):
    (folder / "ours.yaml").write_text("model: m\noutput: o\ndata: {train: x}\n", encoding="utf-8")
    assert open_recipe("ours.yaml", ["training.epochs=5"]) == OpenedRecipe(
        nertune.train.load_recipe("ours.yaml", ["training.epochs=5"])
    )
    assert not is_llamafactory({"model": "m", "dataset": "x"})
    assert is_llamafactory({"stage": "sft", "lora_rank": 3})
    with pytest.raises(MissingFileError):
        open_recipe("none.yaml")
    with pytest.raises(RecipeError, match=r"LLaMA-Factory's: nertune\.train\.open_recipe reads it"):
        nertune.train.load_recipe(TUTORIAL)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"hf_hub_url": "a/b"}, "hf_hub_url: data on a hub"),
        ({"file_name": "x.json", "formatting": "kto"}, "formatting: 'kto' rows are not read"),
        (
            {"file_name": "x.json", "formatting": "sharegpt", "columns": {"prompt": "a"}},
            "columns.prompt: not used here",
        ),
        ({"file_name": "x.json", "formatting": "sharegpt", "tags": {"role_tag": "a"}}, "must be named once any is"),
        ({"file_name": "x.json", "ranking": True}, "ranking:"),
        ({"file_name": "x.json", "num_samples": 5}, "num_samples:"),
        ({"file_name": "x.json", "colums": {}}, "colums: unknown; did you mean 'columns'?"),
        ({"file_name": "x.json", "columns": {"promt": "a"}}, "columns.promt: not used here; did you mean 'prompt'?"),
        ({"file_name": "x.json", "columns": {"prompt": "a"}}, "response must be named"),
        ({"file_name": "x.json", "columns": ["a"]}, "columns: expected names of columns"),
        ({"file_name": "x.parquet"}, "neither .json nor .jsonl"),
        ({}, "file_name is missing"),
    ],
)
def test_entries_that_cannot_be_used(folder, opened, entry, problem):
    put(folder, other=(entry, alpaca()))
    assert problem in problems(opened, dataset="other")


def test_files_that_are_not_there_or_not_json(folder, opened):
    (folder / "data" / "clue.json").unlink()
    assert "clue.json is not there" in problems(opened)
    (folder / "data" / "dataset_info.json").write_text("{", encoding="utf-8")
    assert "dataset_info.json: not JSON" in problems(opened)
    (folder / "data" / "dataset_info.json").write_text("[]", encoding="utf-8")
    assert "expected an object" in problems(opened)


def test_columns_and_systems_of_the_entry_are_honoured(folder, opened):
    rows = [
        {
            "问": row["instruction"],
            "句": row["input"],
            "答": row["output"],
            "系统": "专家",
            "前": [],
            "input": "not this",
        }
        for row in alpaca()
    ]
    columns = {"prompt": "问", "query": "句", "response": "答", "system": "系统", "history": "前"}
    put(folder, other=({"file_name": "other.json", "columns": columns}, rows))
    recipe = opened(dataset="other", template="qwen", val_size=0.25).recipe
    assert recipe.prompt.load() == PromptTemplate(PROMPT + "\n{text}", "专家")
    assert load_tasks(recipe)[0].labels.names == ("人名", "地点")
    assert {document.text for document in load_tasks(recipe)[0].train} <= {str(row["input"]) for row in alpaca()}
    rows[3]["前"] = [["你好", "好"]]
    put(folder, other=({"file_name": "other.json", "columns": columns}, rows))
    assert "holds earlier turns" in problems(opened, dataset="other")


def test_rows_that_ask_differently_are_refused(folder, opened):
    put(folder, mixed=({"file_name": "mixed.json"}, [*alpaca(), *alpaca(prompt="别的：")]))
    assert "a run has one prompt" in problems(opened, dataset="mixed")
    put(folder, dev=({"file_name": "dev.json"}, alpaca(prompt="别的：")))
    assert "eval_dataset: its rows ask otherwise" in problems(opened, eval_dataset="dev")
    put(folder, braces=({"file_name": "braces.json"}, alpaca(prompt="{labels}：")))
    assert "stand for something here" in problems(opened, dataset="braces")
    put(folder, bad=({"file_name": "bad.json"}, [{"instruction": "a", "input": "b", "output": "no json"}]))
    assert "bad.json:1: 'output' is not JSON" in problems(opened, dataset="bad")


def test_several_data_sets_become_tasks(folder, opened):
    other = alpaca(prompt="列出地名：", system="专家")
    put(folder, **{"other.zh": ({"file_name": "other.json", "columns": SYSTEM}, other)})
    recipe, notes = opened(dataset="clue, other.zh", template="qwen", max_samples=10, val_size=0.2)
    assert recipe.data is None
    clue, second = load_tasks(recipe)
    assert (clue.name, second.name) == ("clue", "other_zh")
    assert clue.spec.template == PromptTemplate(PROMPT + "\n{text}", QWEN)
    assert second.spec.template == PromptTemplate("列出地名：\n{text}", "专家")
    assert [(len(task.train), len(task.validation)) for task in (clue, second)] == [(8, 2), (8, 2)]
    assert any("name one when you use the run" in note for note in notes)
    put(folder, dev=({"file_name": "dev.json"}, alpaca()[:3]), dev2=({"file_name": "dev2.json"}, alpaca()[:2]))
    several = {"dataset": "clue,other.zh", "eval_dataset": "dev,dev2"}
    assert "eval_dataset: its rows ask otherwise" in problems(opened, **several)
    assert "eval_dataset: 1 data sets for 2 of dataset" in problems(opened, **{**several, "eval_dataset": "dev"})
    assert "val_size: 3 rows of 2 data sets; give a share" in problems(opened, dataset="clue,other.zh", val_size=3)
    assert "max_samples: input should be greater than 0" in problems(opened, dataset="clue,other.zh", max_samples=0)
    put(folder, dev2=({"file_name": "dev2.json", "columns": SYSTEM}, other[:2]))
    assert [len(task.validation) for task in load_tasks(opened(**several).recipe)] == [3, 2]


SYSTEM = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}


def test_the_whole_prompt_in_instruction_and_other_answers(folder, opened):
    rows = [
        {
            "instruction": f"{PROMPT}\n{row['input']}",
            "output": "\n".join(
                json.dumps({"entity_text": item["text"], "entity_label": item["label"]}, ensure_ascii=False)
                for item in json.loads(str(row["output"]))
            ),
        }
        for row in alpaca()
    ]
    put(folder, lines=({"file_name": "lines.json"}, rows))
    recipe, notes = opened(dataset="lines")
    assert recipe.prompt.user == PROMPT + "\n{text}"
    assert recipe.answer_format().write(load_tasks(recipe)[0].train[0]) == rows[0]["output"]
    assert not any("another wording" in note for note in notes)
    rows[0]["output"] = str(rows[0]["output"]).replace(": ", ":")
    put(folder, lines=({"file_name": "lines.json"}, rows))
    assert any("1 of 12 answers are trained in another wording" in note for note in opened(dataset="lines").notes)


TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


@pytest.mark.parametrize(
    ("entry", "key", "names"),
    [
        ({}, "conversations", ("from", "value", "human", "gpt")),
        ({"columns": {"messages": "messages"}, "tags": TAGS}, "messages", tuple(TAGS.values())),
        ({"columns": {"messages": "对话"}}, "对话", ("from", "value", "human", "gpt")),
    ],
)
def test_conversations_are_trained_as_the_same_rows_of_alpaca(folder, opened, entry, key, names):
    role, content, user, assistant = names
    rows = [
        {
            key: [
                {role: user, content: f"{PROMPT}\n{row['input']}"},
                {role: assistant, content: row["output"]},
            ]
        }
        for row in alpaca()
    ]
    put(folder, talks=({"file_name": "talks.json", "formatting": "sharegpt", **entry}, rows))
    ours, theirs = opened(val_size=0.25).recipe, opened(dataset="talks", val_size=0.25).recipe
    assert theirs.data.format == "sharegpt"
    assert theirs.prompt == ours.prompt
    assert theirs.answer == ours.answer
    assert load_tasks(theirs)[0].train == load_tasks(ours)[0].train
    put(folder, dev=({"file_name": "dev.json"}, alpaca()))
    assert "its rows are alpaca, those of dataset sharegpt" in problems(opened, dataset="talks", eval_dataset="dev")


@pytest.mark.parametrize("name", ["grouped", "inline", "xml"])
def test_answers_of_all_formats_are_trained_as_they_stand(folder, opened, name):
    rows = alpaca()
    for row, document in zip(rows, load_tasks(opened(val_size=0).recipe)[0].train, strict=True):
        row["output"] = answer_format(name).write(document)
    put(folder, other=({"file_name": "other.json"}, rows))
    recipe, notes = opened(dataset="other", val_size=0)
    assert recipe.answer["format"] == name
    assert not any("another wording" in note for note in notes)
    (task,) = load_tasks(recipe)
    assert [task.spec.answer.write(document) for document in task.train] == [row["output"] for row in rows]


def test_the_tutorials_file_trains_a_tiny_model(folder, base, capsys):
    put(folder, alpaca_clue_train=({"file_name": "alpaca_clue_train.json"}, alpaca()))
    overrides = [f"model_name_or_path={base}", "output_dir=run", "max_steps=3", "bf16=false", "eval_steps=2"]
    overrides += ["save_steps=2", "per_device_train_batch_size=2", "gradient_accumulation_steps=1", "val_size=3"]
    assert main(["preview", str(TUTORIAL), *overrides]) == 0
    assert main(["train", str(TUTORIAL), *overrides]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("run\n")
    assert "overwrite_output_dir" not in said.err
    run = folder / "run"
    assert (run / "loss.png").is_file()
    assert RunManifest.read(run).prompt.template == PromptTemplate(PROMPT + "\n{text}", QWEN)
    assert json.loads((run / "adapter_config.json").read_text())["lora_alpha"] == 16
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-3"]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "eval_loss" in line] == [2, 3]
    nertune.load(run).extract("方鹏去漠北")

    assert main(["train", str(TUTORIAL), *overrides, "overwrite_output_dir=false"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["train", str(TUTORIAL), *overrides]) == 0  # the file says overwrite_output_dir: true
    assert "overwrite: the run that was in run is deleted" in capsys.readouterr().err
    assert main(["train", str(TUTORIAL), "lora_rnak=3"]) == 2
    resumed = [*overrides, "max_steps=4", "resume_from_checkpoint=run/checkpoints/checkpoint-2"]
    assert main(["train", str(TUTORIAL), *resumed]) == 0
    assert main(["train", str(TUTORIAL), *overrides, "resume_from_checkpoint=run/nothing"]) == 2
    assert "resume: run/nothing is not the folder of a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"eval_steps": "never"}, {"eval_steps": "epoch"}, {"save_steps": "never"}])
def test_rhythms_train(recipe, settings):
    trained = train(recipe(training={"epochs": 1, "keep_best": False, "keep_checkpoints": None, **settings}))
    evaluated = "eval_loss" in (trained.folder / "metrics.jsonl").read_text()
    assert evaluated == (settings.get("eval_steps") != "never")
    saved = [path.name for path in (trained.folder / "checkpoints").glob("checkpoint-*")]
    assert saved == (["checkpoint-5"] if settings == {"eval_steps": "epoch"} else [])
