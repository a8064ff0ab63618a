"""vLLM's command line for runs of nertune, and whether vLLM can serve them at all: said before it starts, not after.

A run is a PEFT adapter, so vLLM loads it as it is, beside its base model; a whole model is served by itself. What vLLM
refuses (vllm/lora/peft_helper.py, version 0.32) is refused here with what to do instead.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from nertune.errors import InputError
from nertune.run import RunManifest, check_weights
from nertune.safety import AdapterConfig, read_adapter_config, read_json, remote_code_trusted

__all__ = [
    "BASE",
    "RANKS",
    "ServedRun",
    "VllmSettings",
    "find_vllm",
    "has_chat_template",
    "open_run",
    "parse_extra",
    "vllm_command",
    "vllm_environment",
]

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` takes."""
BASE = "base"
"""The base model's own name on a server of adapters."""
_SHORTEST = 1024  # tokens of prompt and answer
_NAME = re.compile(r"[\w.-]+")


class ServedRun(NamedTuple):
    """A run that vLLM can serve; `config` is None for a whole model."""

    name: str
    folder: Path
    manifest: RunManifest
    config: AdapterConfig | None


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """`max_model_len`: tokens of prompt and answer, None for what the runs need. `extra`: more of vLLM's own arguments."""

    host: str = "127.0.0.1"
    port: int = 8000
    dtype: str = "auto"
    max_model_len: int | None = None
    tensor_parallel: int = 1
    chat_template: Path | None = None
    extra: Sequence[str] = field(default=())


def open_run(folder: Path, name: str | None = None) -> ServedRun:
    """A run, looked at. `name`: what clients call it, the folder's name where none is given.

    Raises InputError with everything that vLLM would refuse, RunError for a run that is damaged or not safe to load.
    """
    name = name or folder.resolve().name
    if not _NAME.fullmatch(name) or name == BASE:
        raise InputError(f"{folder}: a model cannot be called {name!r} on a server; name it otherwise: NAME=RUN")
    manifest = RunManifest.read(folder)
    check_weights(folder, manifest.kind)
    if manifest.kind == "model":
        return ServedRun(name, folder, manifest, None)
    config = read_adapter_config(folder)
    problems = list(_problems(manifest, config))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InputError(
            f"{folder}: vLLM cannot serve this adapter beside its base model:\n{listed}\nMerge the two, and serve the result:\n"
            f"  nertune export {folder} merged {folder}-merged\n  nertune serve {folder}-merged --engine vllm"
        )
    return ServedRun(name, folder, manifest, config)


def _problems(manifest: RunManifest, config: AdapterConfig) -> Sequence[str]:
    checks = {
        f"its rank is {config.rank}, and vLLM takes {RANKS[-1]} at most": config.rank > RANKS[-1],
        "it is a DoRA adapter (use_dora), which vLLM does not know": config.dora,
        f"it brings whole layers with it (modules_to_save: {', '.join(config.modules_to_save)})": config.modules_to_save,
        f"it trains biases (bias: {config.bias})": config.bias != "none",
        f"tokens were added to its vocabulary ({', '.join(manifest.tokens)})": manifest.tokens,
        "it trains rows of the embeddings (trainable_token_indices)": config.value.get("trainable_token_indices"),
        "it was trained on 4-bit weights (quantize: 4bit), and vLLM would put it on the whole ones": manifest.quantize,
    }
    return [problem for problem, found in checks.items() if found]


def vllm_command(program: Sequence[str], base: str, runs: Sequence[ServedRun], settings: VllmSettings) -> list[str]:
    """The arguments that serve `runs` on `base`, a folder or a hub's name, as a list: no shell is ever asked.

    `program`: how vLLM's server is called, as `find_vllm` gives it. Raises InputError for runs that do not go together.
    """
    adapters = [run for run in runs if run.config is not None]
    if len({run.manifest.base_model for run in runs}) > 1 or (len(runs) > 1 and len(adapters) < len(runs)):
        raise InputError("several runs are served beside one base model: adapters, all trained on the same one")
    served = BASE if adapters else runs[0].name
    length = settings.max_model_len or _length(base, runs)
    command = [*program, base] if program[-1] == "serve" else [*program, "--model", base]
    command += ["--served-model-name", served, "--host", settings.host, "--port", str(settings.port)]
    command += ["--dtype", settings.dtype, "--max-model-len", str(length), "--enable-prefix-caching"]
    # Sampling settings of the model's own would change what it answers; grammars are llguidance's.
    command += ["--generation-config", "vllm", "--structured-outputs-config", '{"backend": "guidance"}']
    if adapters:
        rank = max(run.config.rank for run in adapters if run.config)
        command += ["--enable-lora", "--max-lora-rank", str(next(known for known in RANKS if known >= rank))]
        command += ["--max-loras", str(len(adapters)), "--lora-modules"]
        command += [f"{run.name}={run.folder.resolve()}" for run in adapters]
    if settings.tensor_parallel > 1:
        command += ["--tensor-parallel-size", str(settings.tensor_parallel)]
    if settings.chat_template is not None:
        command += ["--chat-template", str(settings.chat_template)]
    if remote_code_trusted():
        command += ["--trust-remote-code"]
    return [*command, *parse_extra(settings.extra)]


def _length(base: str, runs: Sequence[ServedRun]) -> int:
    """Twice the longest row that a run was trained on: its prompt and text, and room for the longest answer."""
    longest = max(run.manifest.max_tokens for run in runs)
    wanted = max(_SHORTEST, -(-2 * longest // 64) * 64)
    config = read_json(Path(base), "config.json") if Path(base).is_dir() else None
    text = (config or {}).get("text_config", config)
    held = text.get("max_position_embeddings") if isinstance(text, dict) else None
    return min(wanted, held) if isinstance(held, int) and held > 0 else wanted


def has_chat_template(folder: Path) -> bool:
    """Whether a base model's folder has turns of its own; without them nertune's are needed by clients that send messages."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    return bool((read_json(folder, "tokenizer_config.json") or {}).get("chat_template"))


def find_vllm(python: str | None = None) -> list[str]:
    """How vLLM's server is called: by the Python named, by `vllm` on PATH, or by this Python. Raises InputError."""
    module = ["-m", "vllm.entrypoints.openai.api_server"]
    if python is not None:
        found = shutil.which(str(Path(python).expanduser()))
        if found is None:
            raise InputError(f"--vllm-python {python}: no such program")
        return [str(Path(found).absolute()), *module]  # a link is kept: a virtual environment is known by it
    if found := shutil.which("vllm"):
        return [found, "serve"]
    if find_spec("vllm") is not None:
        return [sys.executable, *module]
    raise InputError(
        "vLLM is not here. It wants an environment of its own. Type:\n"
        "  python -m venv vllm-env && vllm-env/bin/pip install vllm\nand then add --vllm-python vllm-env/bin/python"
    )


def vllm_environment(base: str, *, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the server: this one without what is meant for this Python; the API key goes here, never in argv."""
    own = ("PYTHONPATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "NERTUNE_API_KEY")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment["VLLM_NO_USAGE_STATS"] = "1"
    if Path(base).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    if key := os.environ.get("NERTUNE_API_KEY"):
        environment["VLLM_API_KEY"] = key
    return {**environment, **(more or {})}


def parse_extra(extra: Sequence[str]) -> tuple[str, ...]:
    """vLLM's own arguments from behind `--`. Raises InputError for those that nertune sets, so that there is one truth."""
    ours = {"--model", "--served-model-name", "--enable-lora", "--max-lora-rank", "--lora-modules", "--api-key"}
    ours |= {"--host", "--port"}
    for argument in extra:
        name = argument.partition("=")[0].replace("_", "-")
        if name in ours:
            raise InputError(f"{name} is set by nertune, from the run and its own options; leave it out behind --")
    return tuple(extra)
