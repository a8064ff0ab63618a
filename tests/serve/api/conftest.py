"""The application on a loopback port: over an engine that says what it is told to, and over a tiny run of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from nertune.extract import Recognizer
from nertune.generate import EngineLoop, ScriptedEngine
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format, template_hash
from nertune.run import RunManifest
from nertune.schema import LabelSet
from nertune.serve.app import build_app
from nertune.serve.models import ServedModel
from nertune.serving import Service, load_runs, open_service

SPEC = PromptSpec(PromptTemplate("句：{text}", "专家"), LabelSet(("name", "address")), answer_format("inline"))


class Served:
    """A running server. `url` ends without /v1; `client` is the official one, which tries once."""

    def __init__(self, url: str, loop: EngineLoop, stepping: Any) -> None:
        self.url, self.loop, self.stepping = url, loop, stepping
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=30)

    def close(self) -> None:
        self.client.close()
        self.http.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever stands on the tiny runs meets a real engine."""
    for item in items:
        if "tiny_runs" in getattr(item, "fixturenames", ()):
            item.add_marker("engine")


@pytest.fixture(scope="session")
def renderer(family_of) -> Renderer:
    return Renderer(family_of("qwen3").tokenizer, SPEC)


@pytest.fixture
def saying(renderer, listening, scripted) -> Iterator[Callable[..., Served]]:
    """A function from what the engine says to a prompt, to a server of the models `base` and `ner`."""
    with ExitStack() as running:

        def build(say: Callable[[str], str], *, context: int | None = 2048, **options: Any) -> Served:
            stepping = scripted(renderer, say)

            def renewed() -> Any:
                stepping.active = {}
                return stepping

            loop = EngineLoop(renewed, **options)
            running.callback(loop.close, finish=False)
            common = {
                "tokenizer": renderer.tokenizer,
                "stop_ids": renderer.stop_ids,
                "vocabulary": len(renderer.tokenizer),
                "context": context,
            }
            models = {
                "base": ServedModel("base", root="org/base", **common),
                "ner": ServedModel(
                    "ner",
                    root="runs/ner",
                    parent="base",
                    recognizer=Recognizer(renderer, ScriptedEngine(()), window=200),
                    **common,
                ),
            }
            url = running.enter_context(listening(build_app(models, loop)))
            served = Served(url, loop, stepping)
            running.callback(served.close)
            return served

        yield build


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory, tiny_model, family_of) -> dict[str, Path]:
    """Run directories: a tiny Qwen2, and LoRA adapters of random weights that read entities of their own choice."""
    from peft import LoraConfig, get_peft_model

    tokenizer = family_of("qwen3").tokenizer
    base = tmp_path_factory.mktemp("models") / "base"
    tokenizer.save_pretrained(base)
    tiny_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=2048).save_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    renderer = Renderer(tokenizer, SPEC)
    runs = {}
    for seed, name in enumerate(("tiny", "other"), 1):
        runs[name] = tmp_path_factory.mktemp("runs") / name
        model = tiny_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=2048)
        torch.manual_seed(seed)
        get_peft_model(model, config).save_pretrained(runs[name])
        RunManifest(str(base), SPEC, template_hash(tokenizer), tuple(renderer.stop_ids), 512).write(runs[name])
    return runs


@pytest.fixture(scope="session")
def tiny_run(tiny_runs) -> Path:
    return tiny_runs["tiny"]


@pytest.fixture(scope="session")
def tiny_service(tiny_runs) -> Iterator[Service]:
    service = open_service(load_runs(tiny_runs, batch_size=8))
    yield service
    service.loop.close(finish=False)


@pytest.fixture(scope="session")
def tiny(tiny_service, listening) -> Iterator[Served]:
    """A server of the tiny runs."""
    with listening(tiny_service.app) as url:
        served = Served(url, tiny_service.loop, None)
        yield served
        served.close()


@pytest.fixture(scope="session")
def scripted(fake_steppings) -> Any:
    """A Stepping that says what it is told to."""
    return fake_steppings.Scripted
