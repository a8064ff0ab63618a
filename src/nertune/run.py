"""The run directory: what training leaves and every consumer reads.

RUN/
├── adapter_model.safetensors, adapter_config.json   PEFT's own files: PEFT and vLLM load the folder as it is
├── nertune.json      what rebuilds the very prompt: this module
├── recipe.yaml       the recipe, fully resolved
├── metrics.jsonl     one line per logged step
├── loss.png          training and validation loss
└── checkpoints/      for --resume
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nertune.atomic import write_text
from nertune.errors import MissingFileError, RunError
from nertune.prompt import PromptSpec

__all__ = ["MANIFEST", "RunManifest"]

_T = TypeVar("_T")

MANIFEST = "nertune.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunManifest:
    """The contents of `nertune.json`.

    `base_model`: the name the recipe gave. `template_hash`: SHA-256 of the chat template the run was trained with.
    `stop_ids`: token ids that end an answer. `max_tokens`: longest trained row, in tokens. `versions`: of the libraries.
    """

    base_model: str
    prompt: PromptSpec
    template_hash: str
    stop_ids: tuple[int, ...]
    max_tokens: int
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `nertune.json` into a run directory, whole or not at all."""
        value = {"format": _FORMAT, **asdict(self), "prompt": self.prompt.to_json()}
        write_text(folder / MANIFEST, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> RunManifest:
        """Raises MissingFileError where there is no run, RunError where its manifest cannot be used."""
        path = folder / MANIFEST
        if not path.is_file():
            raise MissingFileError(f"{folder}: no {MANIFEST} there, so this is not a finished run of nertune train")
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if value["format"] != _FORMAT:
                raise RunError(f"{path}: written in format {value['format']}, this version reads {_FORMAT}")
            return cls(
                base_model=_typed(value["base_model"], "base_model", str),
                prompt=PromptSpec.from_json(value["prompt"]),
                template_hash=_typed(value["template_hash"], "template_hash", str),
                stop_ids=tuple(_typed(item, "stop_ids", int) for item in value["stop_ids"]),
                max_tokens=_typed(value["max_tokens"], "max_tokens", int),
                versions=_typed(value["versions"], "versions", dict),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, RunError):
                raise
            raise RunError(f"{path}: damaged ({type(error).__name__}: {error}); train again or restore it") from error


def _typed(found: object, key: str, kind: type[_T]) -> _T:
    if not isinstance(found, kind) or isinstance(found, bool):
        raise TypeError(f"{key} is {found!r:.40}, not {kind.__name__}")
    return found
