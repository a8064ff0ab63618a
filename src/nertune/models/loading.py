"""From a model's name to a model and its tokenizer: built-in, a local folder, Hugging Face, or ModelScope.

Only safetensors are read, local folders are looked at before any library reads them (nertune.safety), and no code from a
model's folder or repository is run unless the user said so on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nertune.errors import InputError, MissingExtraError, RunError, UnknownModelError
from nertune.models.builtin import BUILTIN, Report, ensure_builtin
from nertune.models.linear import quicken
from nertune.safety import check_model, check_tokenizer, remote_code_trusted

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
    """The tokenizer of a base model, or that in a run's folder (a transformers `PreTrainedTokenizerBase`)."""
    from transformers import AutoTokenizer

    alone = (Path(name) / "tokenizer_config.json").is_file()
    resolved = name if alone else resolve_model(name, report=report)
    _checked(name, resolved, check_tokenizer)
    try:
        return AutoTokenizer.from_pretrained(resolved, trust_remote_code=remote_code_trusted())
    except Exception as error:  # the libraries raise what they like of a damaged file, plain Exceptions among it
        raise _not_loadable(name, error) from error


def load_model(
    name: str,
    *,
    dtype: str = "auto",
    device: str | None = None,
    quantize: str | None = None,
    report: Report | None = None,
) -> Any:
    """A causal language model with its weights, in evaluation mode.

    `dtype`: "float32", "bfloat16", "float16", or "auto" (float32 on a CPU, the checkpoint's own type on an accelerator).
    `device`: "cpu", "cuda", "cuda:1", …; None takes the first accelerator, or the CPU.
    `quantize`: "4bit" holds the weights of all linear layers but the output layer in 4-bit NormalFloat, with the scales
    quantized again (Dettmers et al. 2023, arXiv 2305.14314), and computes in `dtype`.
    Raises UnknownModelError, InputError for a device that is not there, or MissingExtraError where bitsandbytes is absent.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    resolved = resolve_model(name, report=report)
    _checked(name, resolved, check_model)
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    options: dict[str, Any] = {"dtype": dtype}
    if quantize:
        options = _four_bits(dtype) | {"device_map": {"": device}}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            resolved,
            use_safetensors=True,
            trust_remote_code=remote_code_trusted(),
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_loadable(name, error) from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise UnknownModelError(
            f"model {name!r} cannot be loaded: it lacks {len(missing):,} tensors, among them {', '.join(missing[:3])}, which "
            "would be made up at random. Download it anew, or name the whole model"
        )
    if device == "cpu":
        quicken(model)
    if not quantize:
        return model.to(device).eval()
    for module in model.modules():
        # On some processors bitsandbytes packs weights anew at the first evaluation and rounds their scales to bfloat16:
        # the model that is evaluated would not be the one that is trained.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.eval()


def _checked(name: str, resolved: str, check: Callable[[Path], object]) -> None:
    """Look at a local folder before any library does; what is on a hub comes through the hub's own client."""
    if Path(resolved).is_dir():
        try:
            check(Path(resolved))
        except RunError as error:
            raise UnknownModelError(f"model {name!r} cannot be loaded: {error}") from error


def _check_device(name: str) -> None:
    """Raises InputError for a device that torch does not know, or does not find here."""
    import torch

    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"device {name!r} cannot be used here: {reason:.200}. Name cpu, or cuda or cuda:1 where there is one"
        ) from error


def _four_bits(dtype: str) -> dict[str, Any]:
    """transformers' options for NF4 weights with double quantization, computed with in `dtype`."""
    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("a base model in 4 bits", extra="quantize")
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    computing = getattr(torch, dtype)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=computing,
    )
    return {"dtype": computing, "quantization_config": quantization}


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
        f"model {name!r} cannot be loaded: {reason:.300}\nName a folder that holds it, or {BUILTIN}, or check the hub's name "
        "and the network (HF_ENDPOINT sets a mirror, modelscope:ORG/NAME takes it from ModelScope)"
    )
