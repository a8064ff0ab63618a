"""Tiny seeded models of real architectures, and small real tokenizers of the chat families, made in the test."""

from __future__ import annotations

import fcntl
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from nertune.models import ensure_builtin

SIZES = {
    "vocab_size": 160,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# A sliding window shorter than the rows of every test that uses these models.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "llama": ("Llama", {}),
    "phi3": ("Phi3", {}),
    "phi3-window": ("Phi3", {"sliding_window": 6}),
    "mistral-window": ("Mistral", {"sliding_window": 6}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma3": (
        "Gemma3Text",
        {
            "head_dim": 16,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 16,
        },
    ),
}


def pytest_configure() -> None:
    """Each worker of pytest-xdist computes on one thread, and so does every process that it starts."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))


# What may be skipped where CI is set, by a part of the reason; every other skip fails there, for it would prove nothing unseen.
MAY_BE_SKIPPED = (
    "the prompt makes no difference here",  # parameters that mean the same for this case
    "its table is large: once is enough",  # a large vocabulary in one of five formats
    "no converter, or no tokenizer that it knows",  # llama.cpp's converter is in no package; make peers looks for it
    "could not import 'bitsandbytes'",  # 4-bit weights want a GPU
    "could not import 'trackio'",  # brings a web framework's whole tree along
    "bitsandbytes is installed",  # the test of what is said without it
    "only root can mount a small disk",
    "needs Chromium",
    "no Chromium found",  # the page in a real browser; CI machines may lack it
    "Chromium is there and does not start",
    "the public corpora are not there",  # the folder beside the repository, where it is absent
    "no published",
    "shared",
    "no corpus at",
    "no tutorials beside",
    "needs the public corpora",
    "no Qwen2 tokenizer at",
    "no tokenizer at",
    "the real corpora are not on this machine",
    "could not import 'pandas'",  # comes with ray alone
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a test that is skipped for a reason that is not foreseen fails."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(part in reason for part in MAY_BE_SKIPPED):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI for a reason that is not foreseen in tests/conftest.py: {reason}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take whole files in this order: those with slow tests first, that none is alone with one at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The built-in model stands in the user's cache: of two workers one converts it, where it must be, and one waits."""
    with (tmp_path_factory.getbasetemp().parent / "converting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ensure_builtin()


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[str], Any]:
    """A function from a family's name to a fresh model in evaluation mode, equal weights each time."""

    def build(family: str, **changes: Any) -> Any:
        prefix, own = FAMILIES[family]
        config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **own, **changes})
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
        return model.eval()

    return build


def _beside(name: str) -> Any:
    """A module of this folder; the tests are no package, so nothing here can be imported by name."""
    specification = importlib.util.spec_from_file_location(f"nertune_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


chat_tokenizers = _beside("chat_tokenizers")


@pytest.fixture(scope="session")
def family_of() -> Callable[[str], Any]:
    """A function from a chat family's name to its tokenizer, control strings and turn end."""
    return chat_tokenizers.family


@pytest.fixture(scope="session", params=chat_tokenizers.BUILDERS)
def family(request: pytest.FixtureRequest) -> Any:
    """Every chat family in turn."""
    return chat_tokenizers.family(request.param)


@pytest.fixture(scope="session")
def fake() -> Any:
    """The module fake_server.py: an OpenAI-compatible server for tests."""
    return _beside("fake_server")


@pytest.fixture(scope="session")
def fake_steppings() -> Any:
    """The module fake_steppings.py: engines that say what they are told to."""
    return _beside("fake_steppings")


@pytest.fixture(scope="session")
def listening() -> Any:
    """A context manager from an ASGI application to its address on a free port."""
    return _beside("live_server").listening


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with _beside("browser").chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def payloads() -> list[str]:
    """A hundred texts that must stay texts in a page."""
    return list(_beside("payloads").PAYLOADS)


@pytest.fixture
def served(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A function from answers by path, and FakeServer's options, to a running server; no key is set."""
    for name in ("NERTUNE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as running:
        yield lambda answers, **options: running.enter_context(fake.serving(fake.FakeServer(answers, **options)))
