"""Folders of an adapter and of a model, made by hand: what safetensors files hold, byte for byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ADAPTER_CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "base",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
    "task_type": "CAUSAL_LM",
}
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def packed(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file; `length`: what it says of its header."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensors(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """A whole file of float32 zeros."""
    header: dict[str, Any] = {}
    reached = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [reached, reached + size]}
        reached += size
    return packed(json.dumps(header).encode(), bytes(reached))


@pytest.fixture
def adapter(tmp_path) -> Path:
    """An adapter of rank 4."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER_CONFIG))
    shapes = {f"{LAYER}.lora_A.weight": (4, 32), f"{LAYER}.lora_B.weight": (32, 4)}
    (folder / "adapter_model.safetensors").write_bytes(tensors(shapes))
    return folder


@pytest.fixture
def model(tmp_path) -> Path:
    """A model of one layer, 32 wide."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "qwen2", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 160})
    )
    shapes = {"model.embed_tokens.weight": (160, 32), "model.layers.0.self_attn.q_proj.weight": (32, 32)}
    (folder / "model.safetensors").write_bytes(tensors(shapes))
    return folder


@pytest.fixture
def change() -> Callable[..., None]:
    """A function that changes keys of a JSON file; None takes one away."""

    def changed(path: Path, **changes: Any) -> None:
        value = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: part for key, part in value.items() if part is not None}))

    return changed


@pytest.fixture
def files() -> Any:
    """What makes files: `packed`, `tensors`."""

    class Files:
        packed = staticmethod(packed)
        tensors = staticmethod(tensors)
        layer = LAYER

    return Files
