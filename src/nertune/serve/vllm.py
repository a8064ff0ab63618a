"""vLLM's command line for runs of nertune, and whether vLLM can serve them at all: said before it starts, not after.

A run is a PEFT adapter, so vLLM loads it as it is, beside its base model; a whole model is served by itself. What vLLM
refuses (vllm/lora/peft_helper.py, version 0.32) is refused here with what to do instead.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
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

# vLLM's options: what the run decides, the grammars' backend, short names, and those that add to an earlier one.
_OF_THE_RUN = frozenset({"--model", "--served-model-name", "--enable-lora", "--max-lora-rank", "--lora-modules"})
_OF_THE_RUN |= {"--host", "--port", "--api-key"}
_GRAMMARS = "--structured-outputs-config"
_SHORT = {"-tp": "--tensor-parallel-size"}
_REPEATED = frozenset({"--middleware", "-O", "-cc", "--compilation-config"})


class ServedRun(NamedTuple):
    """A run that vLLM can serve; `config` is None for a whole model."""

    name: str
    folder: Path
    manifest: RunManifest
    config: AdapterConfig | None


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """`max_model_len`: tokens of prompt and answer, None for what the runs need. `served_name`: what clients call the base
    model, or a whole model's run; None for `base` and the run's name. `extra`: more of vLLM's own arguments, which go before
    those that are written here.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    dtype: str = "auto"
    max_model_len: int | None = None
    tensor_parallel: int = 1
    chat_template: Path | None = None
    served_name: str | None = None
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
    served = settings.served_name or (BASE if adapters else runs[0].name)
    if served in [run.name for run in adapters]:
        raise InputError(f"--served-model-name {served}: a run is called so; give one another name")
    ours: dict[str, Sequence[str]] = {
        "--served-model-name": [served],
        "--host": [settings.host],
        "--port": [str(settings.port)],
        "--dtype": [settings.dtype],
        "--max-model-len": [str(settings.max_model_len or _length(base, runs))],
        "--enable-prefix-caching": [],
        # Sampling settings of the model's own would change what it answers; grammars are llguidance's.
        "--generation-config": ["vllm"],
        "--structured-outputs-config": ['{"backend": "guidance"}'],
    }
    if adapters:
        rank = max(run.config.rank for run in adapters if run.config)
        ours |= {
            "--enable-lora": [],
            "--max-lora-rank": [str(next(known for known in RANKS if known >= rank))],
            "--max-loras": [str(len(adapters))],
            "--lora-modules": [f"{run.name}={run.folder.resolve()}" for run in adapters],
        }
    if settings.tensor_parallel > 1:
        ours["--tensor-parallel-size"] = [str(settings.tensor_parallel)]
    if settings.chat_template is not None:
        ours["--chat-template"] = [str(settings.chat_template)]
    if remote_code_trusted():
        ours["--trust-remote-code"] = []
    extra = parse_extra(settings.extra)
    given = {name.partition(".")[0] for name, _ in _options(extra)}
    command = [*program, base] if program[-1] == "serve" else [*program, "--model", base]
    for name, values in ours.items():
        if name not in given:
            command += [name, *values]
    return [*command, *extra]


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
    """vLLM's own arguments from behind `--`; none of them stands twice in a command line.

    Raises InputError for an option that nertune sets from the run, because there is one truth about it; for a backend of
    grammars that does not know the run's; and for an option that is given twice.
    """
    seen: set[str] = set()
    for full, values in _options(extra):
        name = full.partition(".")[0]  # --structured-outputs-config.backend
        if name in _OF_THE_RUN:
            raise InputError(f"{name} is set by nertune, from the run and its own options; leave it out behind --")
        if name == _GRAMMARS and not _guidance(values):
            raise InputError(
                f"{name}: the run's grammars are llguidance's; leave it out behind --, or say "
                '\'{"backend": "guidance", …}\''
            )
        if full in seen and name not in _REPEATED:
            raise InputError(f"{full} is given twice behind --; vLLM would take the last one, so leave the other out")
        seen.add(full)
    return tuple(extra)


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Options with their values, under one name each: `--max_model_len=9` and `--no-x` are `--max-model-len` and `--x`."""
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if re.match(r"--?[A-Za-z]", argument):
            name, equals, value = argument.partition("=")
            name = re.sub(r"^--no-", "--", _SHORT.get(name, name.replace("_", "-")))
            found.append((name, [value] if equals else []))
        elif found:
            found[-1][1].append(argument)
    yield from found


def _guidance(values: Sequence[str]) -> bool:
    """Whether a configuration of structured outputs names llguidance."""
    try:
        value = json.loads(values[0]) if len(values) == 1 else None
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("backend") == "guidance"
