"""The trainings that formats.py compares: one recipe, one run for each answer format, resumed where they were interrupted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from bounded import RunError

from nertune import data
from nertune.atomic import write_text
from nertune.errors import InputError
from nertune.models import BUILTIN
from nertune.run import MANIFEST
from nertune.train import Recipe, load_recipe

__all__ = ["check_alike", "common_recipe", "run_of", "train", "unfinished"]

# `refuse`: a sentence that is too long in one format alone would be left out there, and the formats could not be compared.
SETTINGS: dict[str, Any] = {
    "overlong": "refuse",
    "prompt": {"template": "ner"},
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.05, "targets": "all-linear"},
    "training": {
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 5e-4,
        "scheduler": "cosine",
        "warmup": 0.05,
        "eval_steps": "never",
        "save_steps": 25,
        "keep_best": False,
        "keep_checkpoints": 1,
    },
}


def common_recipe(out: Path, train: str, samples: int) -> Path:
    """DIR/recipe.yaml, written where there is none. Raises InputError where it says other sentences than were asked for."""
    path = out / "recipe.yaml"
    if path.is_file():
        source = load_recipe(path).data
        if source is None or (Path(source.train).resolve(), source.limit) != (Path(train).resolve(), samples):
            found = "several data sets" if source is None else f"{source.limit} sentences of {source.train}"
            raise InputError(
                f"{path} trains on {found}, and not on {samples} of {train}: name these, or another folder with --out"
            )
        return path
    labels = list(data.read(train, limit=samples).labels)
    given = {"model": BUILTIN, "data": {"train": train, "validation": 0, "limit": samples}}
    out.mkdir(parents=True, exist_ok=True)
    value = {**given, "labels": labels, **SETTINGS, "output": str(out / "run")}
    write_text(path, yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
    return path


def run_of(out: Path, name: str) -> Path:
    """Where the run of a format is."""
    return out / f"run-{name}"


def unfinished(out: Path, names: Sequence[str]) -> list[str]:
    """The formats without a whole run: the manifest is written last."""
    return [name for name in names if not (run_of(out, name) / MANIFEST).is_file()]


def _overrides(out: Path, name: str) -> list[str]:
    return [f"answer={name}", f"output={run_of(out, name)}"]


def train(recipe: Path, out: Path, name: str) -> None:
    """One training in a process of its own, which gets the time to save a checkpoint when this one is ended."""
    resume = ["--resume"] if any((run_of(out, name) / "checkpoints").glob("checkpoint-*")) else []
    print(f"training {name} …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "nertune", "train", *resume, str(recipe), *_overrides(out, name)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        raise RunError(f"the training of {name} ended with exit code {code}; the same command goes on with it")


def check_alike(recipe: Path, out: Path, names: Sequence[str]) -> None:
    """Raises InputError where a run was trained by another recipe: the formats could not be compared."""
    for name in names:
        path = run_of(out, name) / "recipe.yaml"
        was, is_now = _flat(load_recipe(path)), _flat(load_recipe(recipe, _overrides(out, name)))
        apart = [
            f"{key} was {was.get(key)!r} and is {is_now.get(key)!r}" for key in is_now if was.get(key) != is_now[key]
        ]
        if apart:
            raise InputError(
                f"{path} differs from {recipe}: {'; '.join(apart)}. Remove the run, and it is trained anew"
            )


def _flat(recipe: Recipe) -> dict[str, object]:
    """A recipe's settings by dotted key, without the place of the run."""
    flat: dict[str, object] = {}
    for key, value in recipe.model_dump(mode="json", exclude={"output", "resume"}).items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat
