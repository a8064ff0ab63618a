"""A tiny base model, a small corpus, and recipes that train the one on the other."""

from __future__ import annotations

import functools
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nertune import data
from nertune.schema import Document
from nertune.train.recipe import Recipe

other_model = runpy.run_path(str(Path(__file__).parents[1] / "tiny_models.py"))["other_model"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = ["方鹏", "林屿", "许若彤", "邱岳"]
PLACES = ["杭州", "青川", "漠北"]


def _tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, and the control tokens of ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {
        token: number for number, token in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet])
    }
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )


@pytest.fixture(scope="session")
def base_of(tmp_path_factory, tiny_model, other_model) -> Callable[[str], Path]:
    """A function from an architecture's name to the folder of a tiny model with a byte-level tokenizer."""

    @functools.cache
    def saved(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        tokenizer = _tokenizer()
        tokenizer.save_pretrained(folder)
        build = tiny_model if name in ("qwen2", "llama") else other_model
        build(name, vocab_size=len(tokenizer), max_position_embeddings=2048).save_pretrained(folder)
        return folder

    return saved


@pytest.fixture(scope="session")
def base(base_of) -> Path:
    """The folder of a tiny Qwen2 with a byte-level tokenizer and a ChatML template."""
    return base_of("qwen2")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "train.jsonl"
    documents = [
        Document.of(f"{name}去{place}", [("人名", 0, len(name)), ("地点", len(name) + 1, len(name) + 3)])
        for name in NAMES
        for place in PLACES
    ]
    data.write([*documents, Document("无人出门"), Document("天晴")], path, format="entities")
    return path


@pytest.fixture(scope="session")
def recipe_in(base, corpus) -> Callable[..., Recipe]:
    """A function from the folder of runs, a run's name and changes (None leaves a key out) to a recipe."""

    def build(folder: Path, output: str = "run", **changes) -> Recipe:
        value = {
            "model": str(base),
            "data": {"train": str(corpus), "validation": 0.25},
            "output": str(folder / output),
            "prompt": {"user": "抽取{labels}：{text}", "system": "专家"},
            "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
            "training": {
                "epochs": 3,
                "batch_size": 2,
                "learning_rate": 0.01,
                "log_steps": 1,
                "eval_steps": 4,
                "seed": 7,
            },
        }
        for key, change in changes.items():
            value[key] = {**value[key], **change} if isinstance(change, dict) and key in value else change
        return Recipe.model_validate({key: part for key, part in value.items() if part is not None})

    return build


@pytest.fixture
def recipe(recipe_in, tmp_path) -> Callable[..., Recipe]:
    """A function from a run's name and changes to a recipe that writes into the test's own folder."""
    return functools.partial(recipe_in, tmp_path)


@pytest.fixture(scope="session")
def drugs(tmp_path_factory) -> Path:
    """A second corpus, with other labels."""
    path = tmp_path_factory.mktemp("drugs") / "drugs.jsonl"
    documents = [
        Document.of(f"{drug}可治{disease}", [("药", 0, len(drug)), ("病", len(drug) + 2, len(drug) + 2 + len(disease))])
        for drug in ("阿司匹林", "青霉素", "黄连")
        for disease in ("头痛", "肺炎", "感冒")
    ]
    data.write([*documents, Document("多喝水")], path, format="entities")
    return path


@pytest.fixture(scope="session")
def two_tasks_in(recipe_in, corpus, drugs) -> Callable[..., Recipe]:
    """Like `recipe_in`, a recipe of two tasks: other labels, prompts and answer formats."""

    def build(folder: Path, output: str = "run", drugs_task: dict | None = None, **changes) -> Recipe:
        medical = {
            "data": {"train": str(drugs), "validation": 3},
            "labels": ["病", "药"],
            "prompt": {"user": "医学文本：{text}\n找出{labels}。{answer_format}"},
            "answer": {"format": "jsonl", "nothing": "无"},
        }
        tasks = {"people": {"data": {"train": str(corpus), "validation": 0.25}}, "drugs": medical | (drugs_task or {})}
        return recipe_in(folder, output, data=None, tasks=tasks, **changes)

    return build


@pytest.fixture
def two_tasks(two_tasks_in, tmp_path) -> Callable[..., Recipe]:
    """A function from a run's name and changes to a recipe of two tasks that writes into the test's own folder."""
    return functools.partial(two_tasks_in, tmp_path)
