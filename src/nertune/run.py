"""The run directory: what training leaves and every consumer reads.

RUN/
├── adapter_model.safetensors, adapter_config.json   PEFT's own files: PEFT and vLLM load the folder as it is;
│                     or, where all weights were trained, model.safetensors and config.json: a whole model
├── tokenizer.json, … the tokenizer, with a whole model or where tokens were added to it
├── nertune.json      what rebuilds the very prompt: this module
├── recipe.yaml       the recipe, fully resolved
├── metrics.jsonl     one line per logged step
├── loss.png          training and validation loss
├── calibration.json  temperature and thresholds of the scores, where nertune calibrate was run: nertune.confidence
├── reliability.png   scores against the share of right entities, likewise
└── checkpoints/      for --resume; each sealed with checksums.json
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nertune.atomic import write_text
from nertune.errors import InputError, MissingFileError, RunError
from nertune.files import as_json
from nertune.prompt import PromptSpec
from nertune.safety import check_adapter, check_format, check_model, read_json

__all__ = ["MANIFEST", "RELIABILITY", "RunManifest", "check_weights"]

MANIFEST = "nertune.json"
RELIABILITY = "reliability.png"
_FORMAT = 1
_MOST_TOKENS = 2**31  # of a row, and of a vocabulary


@dataclass(frozen=True, slots=True)
class RunManifest:
    """The contents of `nertune.json`.

    `base_model`: the name the recipe gave. `prompt`: what the run learned to answer; None where it learned several
    `tasks`, each with a prompt of its own. `template_hash`: SHA-256 of the chat template the run was trained with.
    `stop_ids`: token ids that end an answer. `max_tokens`: longest trained row, in tokens. `versions`: of the libraries.
    `kind`: the folder holds an adapter for the base model, or a whole model. `tokens`: added to the tokenizer, which then
    lies in the folder. `quantize`: how the base model's weights were held in training; None as they are. `loss_tokens`:
    "answer" where all of the answer was trained, "free" where only what the grammar leaves the model to choose.
    """

    base_model: str
    prompt: PromptSpec | None
    template_hash: str
    stop_ids: tuple[int, ...]
    max_tokens: int
    versions: dict[str, str] = field(default_factory=dict)
    kind: Literal["adapter", "model"] = "adapter"
    tokens: tuple[str, ...] = ()
    quantize: str | None = None
    loss_tokens: Literal["answer", "free"] = "answer"
    tasks: dict[str, PromptSpec] = field(default_factory=dict)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the run's own tokenizer is to be used instead of the base model's."""
        return self.kind == "model" or bool(self.tokens)

    def prompt_of(self, task: str | None = None) -> PromptSpec:
        """The prompt of a task, or of the whole run; a run's only task need not be named. Raises InputError."""
        if self.prompt is not None:
            if task is not None:
                raise InputError(f"the run has one prompt and no tasks, so no task {task!r}: leave the task out")
            return self.prompt
        known = ", ".join(self.tasks)
        if task is None:
            if len(self.tasks) > 1:
                raise InputError(
                    f"the run was trained on several tasks: {known}. Name one: --task NAME, or load(run, task=NAME)"
                )
            return next(iter(self.tasks.values()))
        if task not in self.tasks:
            near = difflib.get_close_matches(task, self.tasks, n=1)
            hint = f"did you mean {near[0]!r}? It" if near else "it"
            raise InputError(f"the run has no task {task!r}; {hint} was trained on: {known}")
        return self.tasks[task]

    def task_of(self, task: str | None = None) -> str | None:
        """The name of the task that `prompt_of` gives the prompt of; None where the run has no tasks. Raises InputError."""
        self.prompt_of(task)
        return None if self.prompt is not None else task or next(iter(self.tasks))

    def check_constrained(self, folder: Path, *, constrained: bool) -> None:
        """Raises InputError for free generation with a run that was trained on free tokens alone."""
        if self.loss_tokens == "free" and not constrained:
            raise InputError(
                f"{folder}: the run was trained with training.loss_tokens: free, so it has not learned to write what the "
                "grammar of the answer forces, and needs the grammar: generate here or on vLLM, not --unconstrained, or "
                "train with loss_tokens: answer"
            )

    def write(self, folder: Path) -> None:
        """Write `nertune.json` into a run directory, whole or not at all."""
        several = {"tasks": {name: prompt.to_json() for name, prompt in self.tasks.items()}}
        value = {
            "format": _FORMAT,
            "base_model": self.base_model,
            **(several if self.prompt is None else {"prompt": self.prompt.to_json()}),
            "template_hash": self.template_hash,
            "stop_ids": self.stop_ids,
            "max_tokens": self.max_tokens,
            "versions": self.versions,
            "kind": self.kind,
            "tokens": self.tokens,
            "quantize": self.quantize,
            "loss_tokens": self.loss_tokens,
        }
        write_text(folder / MANIFEST, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> RunManifest:
        """Raises MissingFileError where there is no run, RunError where its manifest cannot be used."""
        path = folder / MANIFEST
        if not path.is_file():
            raise MissingFileError(f"{folder}: no {MANIFEST} there, so this is not a finished run of nertune train")
        value = read_json(folder, MANIFEST, strict=True) or {}
        check_format(path, value, _FORMAT)
        fields = _Fields(value)
        prompts = fields.take("tasks", _tasks, {})
        manifest = cls(
            base_model=fields.take("base_model", _text),
            prompt=None if prompts else fields.take("prompt", PromptSpec.from_json),
            template_hash=fields.take("template_hash", _text),
            stop_ids=fields.take("stop_ids", _token_ids),
            max_tokens=fields.take("max_tokens", _whole(1, _MOST_TOKENS)),
            versions=fields.take("versions", _versions),
            kind=fields.take("kind", _one_of("adapter", "model"), "adapter"),
            tokens=fields.take("tokens", _texts, ()),
            quantize=fields.take("quantize", _one_of("4bit"), None),
            loss_tokens=fields.take("loss_tokens", _one_of("answer", "free"), "answer"),
            tasks=prompts,
        )
        if fields.problems:
            raise RunError(f"{path}: damaged ({'; '.join(fields.problems)}); train again or restore it")
        return manifest


class _Fields:
    """Takes values out of a JSON object, each checked; `problems` are collected, a line for each key."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value
        self.problems: list[str] = []

    def take(self, key: str, check: Callable[[Any], Any], *default: Any) -> Any:
        """What `check` makes of the value; the default where the key is missing or null. ValueError becomes a problem."""
        found = self._value.get(key)
        if found is None and default:
            return default[0]
        if key not in self._value:
            self.problems.append(f"{key} is missing")
            return None
        try:
            return check(found)
        except ValueError as error:
            self.problems.append(f"{key}: {error}")
            return None


def _text(found: Any) -> str:
    if not isinstance(found, str) or not found:
        raise ValueError(f"{as_json(found)} is no text")
    return found


def _texts(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise ValueError(f"{as_json(found)} is no list")
    texts = tuple(map(_text, found))
    if len(set(texts)) < len(texts):
        raise ValueError(f"{as_json(found)} names one twice")
    return texts


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(found: Any) -> int:
        if type(found) is not int or not least <= found <= most:
            raise ValueError(f"{as_json(found)} is no whole number from {least:,} to {most:,}")
        return found

    return check


def _token_ids(found: Any) -> tuple[int, ...]:
    if not isinstance(found, list) or not found:
        raise ValueError(f"{as_json(found)} is no list of token ids")
    return tuple(map(_whole(0, _MOST_TOKENS), found))


def _versions(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(version, str) for version in found.values()):
        raise ValueError(f"{as_json(found)} is no table of versions")
    return found


def _tasks(found: Any) -> dict[str, PromptSpec]:
    if not isinstance(found, dict) or not found or not all(found):
        raise ValueError(f"{as_json(found)} is no table of prompts by task")
    fields = _Fields(found)
    prompts = {name: fields.take(name, PromptSpec.from_json) for name in found}
    if fields.problems:
        raise ValueError("; ".join(fields.problems))
    return prompts


def _one_of(*known: str) -> Callable[[Any], str]:
    def check(found: Any) -> str:
        if not isinstance(found, str) or found not in known:
            raise ValueError(f"{as_json(found)} is not one of {', '.join(known)}")
        return found

    return check


def check_weights(folder: Path, kind: Literal["adapter", "model"] = "adapter") -> None:
    """Look at a run's weights and configurations before any library reads them: nertune.safety says what is refused.

    Raises RunError for what is missing, damaged or not safe to load, and where adapter and manifest name two base models.
    """
    if kind == "model":
        check_model(folder)
        return
    config = check_adapter(folder)
    if (folder / MANIFEST).is_file():
        base = RunManifest.read(folder).base_model
        if config.base_model is not None and _other_model(base, config.base_model):
            raise RunError(
                f"{folder}: the run was trained on {base}, and its adapter_config.json names {config.base_model}: the adapter "
                "is not this run's; restore it"
            )


def _other_model(one: str, other: str) -> bool:
    """Whether two names are of two models: hub names that end differently. A folder can be called anything."""
    names = [name.removeprefix("modelscope:") for name in (one, other)]
    if any(not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) or Path(name).exists() for name in names):
        return False
    first, second = (name.rpartition("/")[2].casefold() for name in names)
    return first != second
