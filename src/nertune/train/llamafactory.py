"""LLaMA-Factory's YAML files as recipes: every key is honoured, taken with a note, or refused by name.

The tables are in `llamafactory_keys.py`, its data sets in `llamafactory_data.py`. Defaults are theirs where the file is
silent, relative paths are taken from the folder in which the command runs, as theirs.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from nertune.data.formats.dataset_info import DataSet, data_set
from nertune.errors import InputError, RecipeError
from nertune.train.llamafactory_data import read_columns, shown_by
from nertune.train.llamafactory_keys import (
    FIXED,
    HONOURED,
    KNOWN,
    NOTED,
    OLD_NAMES,
    REASONING,
    SECRET,
    TEMPLATES,
    is_llamafactory,
)
from nertune.train.llamafactory_method import method_keys, quantization
from nertune.train.other_names import OTHER_NAMES
from nertune.train.recipe import Recipe, explain, load_recipe, read_keys
from nertune.train.sections import unsaved_best

__all__ = ["OpenedRecipe", "open_recipe"]

_CUT = "a row longer than cutoff_len is left out by name and counted; theirs cuts it, and its answer, without a word"
_TURNS = "the turns are written by the model's own chat template; the template gives its system sentence alone"
_TAIL = "the end of the turn and of the document are trained; theirs what its template ends the turn with (and a line break)"
_REASONING = "an empty reasoning part belongs to the prompt here; theirs trains it, unless enable_thinking is false"
_SPLIT = (
    "the validation documents are drawn by nertune's own split, equal texts on one side: not those that theirs draws"
)
_TASKS = (
    "each data set is a task with its own prompt: every row is trained as often as theirs, and every batch is of one data "
    "set; name one when you use the run (--task NAME)"
)


class OpenedRecipe(NamedTuple):
    """A recipe, and what is to be said about how it was read (nothing for a file of nertune's own)."""

    recipe: Recipe
    notes: tuple[str, ...] = ()


def open_recipe(path: Path | str, overrides: Sequence[str] = ()) -> OpenedRecipe:
    """Read nertune's recipe or LLaMA-Factory's YAML; `key=value` overrides use the keys of the file's own kind.

    Raises MissingFileError, or RecipeError with every problem of the file, the overrides and the data set's entry.
    """
    if not is_llamafactory(read_keys(path, ())[0]):
        return OpenedRecipe(load_recipe(path, overrides))
    value, problems = read_keys(path, overrides)
    mapping = _Mapping(value, problems)
    recipe = mapping.recipe()
    if recipe is None:
        raise RecipeError(mapping.problems, source=f"{path} (LLaMA-Factory)")
    return OpenedRecipe(recipe, tuple(mapping.notes))


class _Mapping:
    """One file on its way to a recipe: `given` holds the keys that are set, `problems` and `notes` grow."""

    def __init__(self, value: dict[str, Any], problems: list[str]) -> None:
        self.problems = problems
        self.notes: list[str] = []
        self.given: dict[str, Any] = {}
        self._noted: dict[str, list[str]] = {}
        self._seen = frozenset(value)
        for key, content in value.items():
            if key in OLD_NAMES and OLD_NAMES[key] not in value:
                self._noted.setdefault(f"now called {OLD_NAMES[key]}, and read so", []).append(key)
                key = OLD_NAMES[key]
            self._take(str(key), content)
        if self.get("seed") != value.get("data_seed", self.get("seed")):
            self.problems.append("data_seed: there is one seed for all; leave it out or make it equal to seed")

    def _take(self, key: str, content: Any) -> None:
        if key in HONOURED:
            if content is not None:  # null asks for the default
                self._convert(key, content)
        elif key in NOTED:
            self._noted.setdefault(NOTED[key], []).append(key)
        elif key in FIXED:
            if content is not None and not any(_same(content, allowed) for allowed in FIXED[key].values):
                shown = "" if key in SECRET else f" {content!r:.60}"
                self.problems.append(f"{key}:{shown} is refused: {FIXED[key].why}")
        elif key != "data_seed":
            self.problems.append(f"{key}: unknown key; {_hint(key)}")

    def _convert(self, key: str, content: Any) -> None:
        """Keep a value of the right kind; say what is wrong with another."""
        kind = HONOURED[key].kind
        if content is False and key in ("eval_strategy", "save_strategy"):  # YAML reads a bare `no` so
            content = "no"
        number = _number(content)
        found: Any = None
        plain: dict[str, type | tuple[type, ...]]
        plain = {"text": str, "yes or no": bool, "text or yes or no": (str, bool)}
        if kind in plain:
            found = content if isinstance(content, plain[kind]) else None
        elif kind == "number":
            found = number
        elif kind == "whole" and number is not None and number == int(number):
            found = int(number)
        elif kind == "names":
            names = content.split(",") if isinstance(content, str) else content
            if isinstance(names, list) and names and all(isinstance(name, str) and name.strip() for name in names):
                found = [name.strip() for name in names]
        if found is None:
            expected = {"whole": "a whole number", "number": "a number", "names": "names, joined by commas"}
            self.problems.append(f"{key}: expected {expected.get(kind, kind)}, found {content!r:.60}")
        else:
            self.given[key] = found

    def get(self, key: str) -> Any:
        """What the file says, or their default."""
        return self.given.get(key, HONOURED[key].default)

    def recipe(self) -> Recipe | None:
        """The recipe, or None with the reasons added to `problems`."""
        for key in ("model_name_or_path", "dataset"):
            if key not in self.given and not self._blames(key):
                self.problems.append(f"{key}: required key is missing")
        mapped: dict[str, Any] = {
            "model": self.get("model_name_or_path") or "",
            "output": self.get("output_dir"),
            "max_tokens": self.get("cutoff_len"),
            **method_keys(self),
            "training": self._training(),
            "resume": self.get("resume_from_checkpoint"),
            "overwrite": self.get("overwrite_output_dir"),
            **self._data(),
        }
        recipe = self._validated(mapped)
        self.notes += [f"{', '.join(keys)}: {why}" for why, keys in self._noted.items()]
        return None if self.problems else recipe

    def _blames(self, *keys: str) -> bool:
        return any(problem.startswith(f"{key}:") for problem in self.problems for key in keys)

    def _training(self) -> dict[str, Any]:
        plain: tuple[str, ...]
        plain = ("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate")
        plain += ("lr_scheduler_type", "weight_decay", "max_grad_norm", "logging_steps", "save_total_limit", "seed")
        mapped = {HONOURED[key].ours.removeprefix("training."): self.get(key) for key in plain}
        steps = self.get("warmup_steps")
        if steps and self.get("warmup_ratio"):
            self.notes.append("warmup_ratio: warmup_steps is set too and goes before it, as in theirs")
        warmup = steps or self.get("warmup_ratio")
        mapped["warmup"] = int(warmup) if steps and warmup == int(warmup) else warmup
        mapped["max_steps"] = self.get("max_steps") if self.get("max_steps") > 0 else None
        mapped["gradient_checkpointing"] = not self.get("disable_gradient_checkpointing")
        mapped["dtype"] = "bfloat16" if self.get("bf16") or self.get("pure_bf16") else "auto"
        mapped["quantize"] = quantization(self)
        if self.get("pure_bf16") and self.get("finetuning_type") == "full":
            self.notes.append("pure_bf16: the weights are kept in float32 and computed with in bfloat16")
        elif self.get("pure_bf16"):
            self.notes.append("pure_bf16: the model is in bfloat16, the adapter in float32")
        mapped["eval_steps"] = self._rhythm("eval_strategy", self.get("eval_steps") or self.get("logging_steps"))
        mapped["save_steps"] = self._rhythm("save_strategy", self.get("save_steps"))
        mapped["patience"] = self.get("early_stopping_steps")
        mapped["best_by"] = "loss"
        mapped["keep_best"] = self.get("load_best_model_at_end")
        mapped["best_by"] = "loss"
        if mapped["keep_best"]:
            problem = unsaved_best(mapped["eval_steps"], mapped["save_steps"])
            if mapped["eval_steps"] == "never":
                problem = "nothing is evaluated; set eval_strategy: steps, and val_size or eval_dataset"
            if problem:
                self.problems.append(f"load_best_model_at_end: {problem}")
                mapped["keep_best"] = False
        return mapped

    def _rhythm(self, key: str, steps: int) -> int | str:
        strategy = self.get(key)
        if strategy not in ("no", "steps", "epoch"):
            near = difflib.get_close_matches(str(strategy), ("no", "steps", "epoch"), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.problems.append(f"{key}: expected no, steps or epoch, found {strategy!r}{hint}")
        return {"no": "never", "epoch": "epoch"}.get(strategy, steps)

    def _data(self) -> dict[str, Any]:
        """The sections data, prompt and answer, or several of them under tasks; empty ones where files cannot be read."""
        train, held_out = self._sources("dataset"), self._sources("eval_dataset")
        size, names = self.get("val_size"), self.given.get("dataset") or []
        if held_out and size:
            self.problems.append("val_size: eval_dataset is set too; leave one of them out")
        if held_out and train and len(held_out) != len(train):
            self.problems.append(
                f"eval_dataset: {len(held_out)} data sets for {len(train)} of dataset; name one for each, in their order"
            )
        if len(names) > 1 and size >= 1:
            self.problems.append(
                f"val_size: {size:g} rows of {len(names)} data sets; give a share, which each then holds out"
            )
        if self.get("eval_strategy") in ("steps", "epoch") and not size and "eval_dataset" not in self.given:
            self.problems.append("eval_strategy: there is nothing to evaluate on; set val_size or eval_dataset")
        system = self._system()
        pairs = list(zip_longest(train, held_out[: len(train)])) or [(None, None)]
        sections = [self._section(source, other, system) for source, other in pairs]
        if size:
            self.notes.append(f"val_size: {_SPLIT}")
        if held_out and "max_samples" in self.given:
            self.notes.append("max_samples: eval_dataset is used whole")
        self.notes.append(f"cutoff_len {self.get('cutoff_len')}: {_CUT}")
        if len(sections) == 1:
            return sections[0]
        self.notes.append(f"dataset: {_TASKS}")
        return {"tasks": dict(zip((re.sub(r"[^\w-]", "_", name) for name in names), sections, strict=True))}

    def _section(self, train: DataSet | None, held_out: DataSet | None, system: str | None) -> dict[str, Any]:
        """The sections data, prompt and answer of one data set."""
        size = self.get("val_size")
        section = {
            "train": train.path if train else "",
            "validation": held_out.path if held_out else int(size) if size >= 1 else size,
            "format": train.format if train else "alpaca",
            "columns": read_columns(train) if train else None,
            "limit": self.given.get("max_samples"),
            "seed": self.get("seed"),
        }
        mapped: dict[str, Any] = {"data": section}
        if train and not self._blames("max_samples", "template", "default_system"):
            mapped |= self._shown(train, held_out, system)
        return mapped

    def _shown(self, train: DataSet, held_out: DataSet | None, system: str | None) -> dict[str, Any]:
        limit = self.given.get("max_samples")
        if limit is not None and limit < 1:
            return {}  # the recipe's own check says so
        try:
            shown = shown_by(train, limit=limit, default_system=system)
        except InputError as error:
            self.problems.append(f"dataset: {error}")
            return {}
        self.notes += [f"dataset: {note}" for note in shown.notes]
        if held_out:
            try:
                other = shown_by(held_out, limit=None, default_system=system)
                if (other.user, other.system) != (shown.user, shown.system):
                    self.problems.append("eval_dataset: its rows ask otherwise than those of dataset")
                if held_out.format != train.format:
                    self.problems.append(
                        f"eval_dataset: its rows are {held_out.format}, those of dataset {train.format}"
                    )
                elif read_columns(held_out) != read_columns(train):
                    self.problems.append("eval_dataset: its columns are not called as those of dataset")
            except InputError as error:
                self.problems.append(f"eval_dataset: {error}")
        return {"prompt": {"user": shown.user, "system": shown.system or False}, "answer": shown.answer}

    def _sources(self, key: str) -> list[DataSet]:
        """The files of a key's data sets; none where one of them cannot be used."""
        names = self.given.get(key) or []
        if self._blames("dataset_dir"):
            return []
        if twice := sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(f"{key}: named twice: {', '.join(twice)}")
            return []
        try:
            return [data_set(self.get("dataset_dir"), name) for name in names]
        except InputError as error:
            self.problems.append(f"{key}: {error}")
            return []

    def _system(self) -> str | None:
        """The system sentence of rows that bring none: the file's own, or the template's."""
        template, own = self.given.get("template"), self.given.get("default_system")
        if template is not None and template not in TEMPLATES:
            near = difflib.get_close_matches(template, TEMPLATES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"taken: {', '.join(TEMPLATES)}"
            self.problems.append(
                f"template: {template!r} is refused: the turns are those of the model's own chat template; {hint}"
            )
        elif template is not None:
            self.notes.append(f"template {template}: {_TURNS}")
            if template in REASONING and "enable_thinking" not in self._seen:
                self.notes.append(f"template {template}: {_REASONING}")
        self.notes.append(f"after the answer: {_TAIL}")
        if own == "":
            self.problems.append(
                "default_system: empty, but the model's chat template may put its own there; leave it out"
            )
        return own or TEMPLATES.get(template or "")

    def _validated(self, mapped: dict[str, Any]) -> Recipe | None:
        """The recipe, its own checks reported under the file's keys."""
        try:
            return Recipe.model_validate(mapped)
        except ValidationError as error:
            for found in error.errors():
                ours, _, reason = explain(found).partition(": ")
                ours = re.sub(r"^tasks\.[^.]+\.", "", ours)
                keys = [key for key, rule in HONOURED.items() if rule.ours == ours]
                key = next((key for key in keys if key in self.given), keys[0] if keys else ours)
                if not self._blames(key):
                    self.problems.append(f"{key}: {reason}")
            return None


def _number(content: Any) -> float | int | None:
    """A finite number, also where YAML reads it as text (1e-4)."""
    if isinstance(content, bool) or not isinstance(content, (int, float, str)):
        return None
    try:
        number = float(content) if isinstance(content, str) else content
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _same(content: Any, allowed: Any) -> bool:
    """Whether a value says what is allowed; False and 0 differ, 0 and 0.0 do not."""
    if isinstance(content, list):
        return content == list(allowed) if isinstance(allowed, tuple) else False
    number = None if isinstance(allowed, (bool, str)) else _number(content)
    if number is not None:
        return bool(number == allowed)
    return isinstance(content, bool) == isinstance(allowed, bool) and bool(content == allowed)


def _hint(key: str) -> str:
    """The key that was probably meant; one of nertune's own is translated."""
    meant = OTHER_NAMES.get(key)
    if theirs := next((name for name, rule in HONOURED.items() if rule.ours == meant), None):
        return f"did you mean {theirs!r}?"
    theirs = next(
        (name for name, rule in HONOURED.items() if key == rule.ours or rule.ours.startswith(f"{key}.")), None
    )
    if theirs:
        return f"that is nertune's own; this file is LLaMA-Factory's, whose key is {theirs!r}"
    near = difflib.get_close_matches(key, KNOWN, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else "not one of LLaMA-Factory's keys for training"
