"""From a model's name to a model and its tokenizer: built-in, a local folder, Hugging Face, or ModelScope.

Only safetensors are read and no code from a model repository is ever run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nertune.errors import MissingExtraError, UnknownModelError
from nertune.models.builtin import BUILTIN, Report, ensure_builtin
from nertune.models.linear import quicken

__all__ = ["load_model", "load_tokenizer", "resolve_model"]

_MODELSCOPE = "modelscope:"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve_model(name: str, *, report: Report | None = None) -> str:
    """A name that transformers can load: a local folder or a Hugging Face id.

    `name` is `builtin:gemma3-270m`, a folder, `org/name` on Hugging Face, or `modelscope:org/name`.
    Raises UnknownModelError for anything else.
    """
    if name == BUILTIN:
        return str(ensure_builtin(report))
    if name.startswith("builtin:"):
        raise UnknownModelError(f"unknown built-in model {name!r}. There is one: {BUILTIN}")
    if name.startswith(_MODELSCOPE):
        return _from_modelscope(name.removeprefix(_MODELSCOPE))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UnknownModelError(f"{folder}: no config.json there, so this is not the folder of a base model")
        return str(folder)
    if _HUB_ID.fullmatch(name) and not name.startswith((".", "/")):
        return name
    raise UnknownModelError(
        f"unknown model {name!r}: not {BUILTIN}, not a folder here ({folder.absolute()}), "
        "and not a hub name such as Qwen/Qwen2.5-7B-Instruct or modelscope:Qwen/Qwen2.5-7B-Instruct"
    )


def load_tokenizer(name: str, *, report: Report | None = None) -> Any:
    """The tokenizer of a base model (a transformers `PreTrainedTokenizerBase`)."""
    from transformers import AutoTokenizer

    resolved = resolve_model(name, report=report)
    try:
        return AutoTokenizer.from_pretrained(resolved, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loadable(name, error) from error


def load_model(name: str, *, dtype: str = "auto", device: str | None = None, report: Report | None = None) -> Any:
    """A causal language model with its weights, in evaluation mode.

    `dtype`: "float32", "bfloat16", "float16", or "auto" (float32 on a CPU, the checkpoint's own type on an accelerator).
    `device`: "cpu", "cuda", "cuda:1", …; None takes the first accelerator, or the CPU.
    """
    import torch
    from transformers import AutoModelForCausalLM

    resolved = resolve_model(name, report=report)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            resolved, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_loadable(name, error) from error
    if device == "cpu":
        quicken(model)
    return model.to(device).eval()


def _from_modelscope(name: str) -> str:
    try:
        from modelscope import snapshot_download
    except ImportError as error:
        raise MissingExtraError("a model from ModelScope", extra="modelscope") from error
    try:
        return str(snapshot_download(name))
    except Exception as error:
        raise _not_loadable(f"{_MODELSCOPE}{name}", error) from error


def _not_loadable(name: str, error: Exception) -> UnknownModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UnknownModelError(
        f"model {name!r} cannot be loaded: {reason}\nName a folder that holds it, or {BUILTIN}, or check the hub's name "
        "and the network (HF_ENDPOINT sets a mirror, modelscope:ORG/NAME takes it from ModelScope)"
    )
