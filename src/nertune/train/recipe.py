"""Recipes: what to train on what, as a YAML file whose every key is checked before anything is loaded.

All problems are reported together, each with its key and the nearest valid name. Relative paths are taken from the
folder in which the command runs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nertune.data import LabelMap
from nertune.errors import InputError, MissingFileError, RecipeError
from nertune.files import YamlError, parse_yaml, read_yaml
from nertune.prompt import AnswerFormat
from nertune.train.llamafactory_keys import is_llamafactory
from nertune.train.other_names import OTHER_NAMES
from nertune.train.sections import (
    DataSection,
    Labels,
    LoraSection,
    Positive,
    PromptSection,
    Section,
    TaskSection,
    TrainingSection,
    parse_answer,
    parse_labels,
)
from nertune.train.track.settings import TrackerSettings, parse_track

__all__ = ["DataSection", "LoraSection", "PromptSection", "Recipe", "TaskSection", "TrainingSection", "load_recipe"]


class Recipe(Section):
    """One training run, fully described. `resume`: go on from a checkpoint's folder, or (true) from the newest of `output`.
    `overwrite`: a run that `output` holds is deleted right before the first step.

    `method`: "lora" trains what the section `lora` says on the frozen model, "full" every weight of it. `tokens`: added to
    the tokenizer, matched as a whole wherever they stand; their rows in the embeddings and the output layer are trained.

    A run learns from one data set (`data`, with `labels`) or from several (`tasks`), which take `prompt` and `answer` from
    here where they say nothing of their own.
    """

    model: str
    data: DataSection | None = None
    output: str
    method: Literal["lora", "full"] = "lora"
    tokens: tuple[str, ...] = ()
    tasks: dict[str, TaskSection] | None = None
    labels: Labels | None = None
    prompt: PromptSection = PromptSection()
    answer: str | dict[str, Any] = "inline"
    max_tokens: Positive = 1024
    overlong: Literal["drop", "refuse"] = "drop"
    lora: LoraSection = LoraSection()
    training: TrainingSection = TrainingSection()
    resume: bool | str = False
    overwrite: bool = False
    track: list[Any] = Field(default_factory=list)

    @model_validator(mode="after")
    def _method_fits(self) -> Recipe:
        if problem := _unfit(self):
            raise PydanticCustomError("nertune", "{problem}", {"problem": problem})
        return self

    @model_validator(mode="after")
    def _data_or_tasks(self) -> Recipe:
        for problem in _data_problems({"data": self.data, "tasks": self.tasks, "labels": self.labels}):
            raise PydanticCustomError("nertune", "{problem}", {"problem": problem})
        return self

    @model_serializer(mode="wrap")
    def _without_the_other(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        value: dict[str, Any] = handler(self)
        for key in ("tasks",) if self.data else ("data", "labels"):
            value.pop(key, None)
        return value

    def by_task(self) -> dict[str, TaskSection]:
        """The data sets with their prompts and answers filled in; a recipe's only one is called by the empty name."""
        if self.data is not None:
            return {"": TaskSection(data=self.data, labels=self.labels, prompt=self.prompt, answer=self.answer)}
        own = {"prompt": self.prompt, "answer": self.answer}
        return {
            name: task.model_copy(update={key: value for key, value in own.items() if getattr(task, key) is None})
            for name, task in (self.tasks or {}).items()
        }

    def section(self, task: str | None) -> TaskSection:
        """One data set with its prompt and answer; None stands for the only one.

        Raises InputError for one that is not there.
        """
        tasks = self.by_task()
        if task is None and len(tasks) == 1:
            return next(iter(tasks.values()))
        if task is None or task not in tasks:
            found = "the recipe has several tasks" if task is None else f"the recipe has no task {task!r}"
            raise InputError(f"{found}; name one (--task): {', '.join(name for name in tasks if name) or 'none'}")
        return tasks[task]

    def answer_format(self) -> AnswerFormat:
        """The answer format with its options."""
        return parse_answer(self.answer)

    def trackers(self) -> tuple[TrackerSettings, ...]:
        """The experiment trackers with their options."""
        return parse_track(self.track)

    def to_yaml(self) -> str:
        """The recipe with every default written out; loading it gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), allow_unicode=True, sort_keys=False)


def _unfit(recipe: Recipe) -> str | None:
    """Why the method cannot be had with the other settings, after the key to change; None where all fit."""
    full = recipe.method == "full"
    if full and recipe.lora.start is not None:
        return (
            "lora.from: method: full trains no adapter; name the run of a full training as model, or use method: lora"
        )
    if full and recipe.training.quantize:
        return "training.quantize: 4-bit weights cannot be trained themselves; use method: lora, or remove the key"
    if (full or recipe.tokens) and recipe.training.loss_vocabulary == "sampled":
        return "training.loss_vocabulary: sampled needs a frozen output layer, and this trains it; use full"
    if recipe.overwrite and Path(recipe.output).absolute() in (
        Path(recipe.model).absolute(),
        _absolute(recipe.lora.start),
    ):
        return (
            f"overwrite: {recipe.output} is what this training starts from, and would be deleted; name another output"
        )
    if any(not token.strip() for token in recipe.tokens) or len(set(recipe.tokens)) < len(recipe.tokens):
        return f"tokens: each must be a text of its own, found {list(recipe.tokens)}"
    return None


def _absolute(path: str | None) -> Path | None:
    return None if path is None else Path(path).absolute()


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides; keys are dotted (`training.epochs=3`), values YAML.

    Raises MissingFileError, or RecipeError with every problem of the file and the overrides.
    """
    value, problems = read_keys(path, overrides)
    if is_llamafactory(value):
        raise RecipeError(["its keys are LLaMA-Factory's: nertune.train.open_recipe reads it"], source=str(path))
    recipe = _validate(value, problems)
    if recipe is None:
        raise RecipeError(problems, source=str(path))
    return recipe


def read_keys(path: Path | str, overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """A YAML file's keys with the overrides applied, unchecked, and what is wrong with the overrides themselves.

    Raises MissingFileError, or RecipeError for a file that holds no keys at all.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"recipe {path}: no such file (looked in {path.absolute().parent})")
    try:
        value = read_yaml(path)
    except YamlError as error:
        raise RecipeError([f"not YAML: {error}" if error.syntax else str(error)], source=str(path)) from error
    if not isinstance(value, dict):
        raise RecipeError([f"expected keys such as model, data, output; found {value!r:.60}"], source=str(path))
    return value, [problem for override in overrides if (problem := _apply(value, override))]


def _apply(value: dict[str, Any], override: str) -> str | None:
    """Set one override in place; the problem with it, if any."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        return f"{override!r}: expected key=value, such as training.epochs=3"
    *sections, last = key.split(".")
    for section in sections:
        if value.get(section) is None:
            value[section] = {}
        value = value[section]
        if not isinstance(value, dict):
            return f"{key}: {section!r} holds a value, not keys"
    try:
        value[last] = parse_yaml(text)
    except YamlError as error:
        if not error.syntax:
            return f"{key}: {error}"
        value[last] = text
    return None


def _validate(value: dict[str, Any], problems: list[str]) -> Recipe | None:
    """The recipe, or None with the reasons added to `problems`."""
    recipe = None
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        seen = set()
        for found in error.errors():
            problem = explain(found)
            if problem not in seen:
                problems.append(problem)
            seen.add(problem)
    problems += [problem for problem in _data_problems(value) if problem not in problems]
    _check_parts(value, problems)
    tasks = value.get("tasks")
    for name, task in tasks.items() if isinstance(tasks, dict) else ():
        if isinstance(task, dict):
            _check_parts({key: part for key, part in task.items() if part is not None}, problems, at=f"tasks.{name}.")
    return None if problems else recipe


def _check_parts(value: Mapping[str, Any], problems: list[str], *, at: str = "") -> None:
    """Add what is wrong with the parts whose contents other rooms know; `at`: where the parts stand."""
    checks: dict[str, Callable[[Any], object]]
    checks = {"prompt": _check_prompt, "answer": parse_answer, "labels": _check_labels, "track": parse_track}
    for section, check in checks.items():
        if section in value and not any(problem.startswith(at + section) for problem in problems):
            try:
                check(value[section])
            except InputError as error:
                problems.append(f"{at}{section}: {error}")
    data = value.get("data")
    rules = data.get("label_map") if isinstance(data, dict) else None
    if rules is not None and not any(problem.startswith(f"{at}data.label_map") for problem in problems):
        try:
            LabelMap.parse(rules)
        except InputError as error:
            problems.append(f"{at}data.label_map: {error}")


def _data_problems(value: Mapping[str, Any]) -> list[str]:
    """What is wrong with the choice between one data set and several, and with the names of several."""
    data, tasks = value.get("data"), value.get("tasks")
    if tasks is None:
        return ["data: required key is missing (or tasks, for several data sets)"] if data is None else []
    problems = []
    if data is not None:
        problems.append("tasks: data is set too; each data set belongs under tasks, or there is one and no tasks")
    if value.get("labels") is not None:
        problems.append("labels: every data set has its own, so name them under tasks (tasks.NAME.labels)")
    if isinstance(tasks, dict):
        if not tasks:
            problems.append("tasks: empty; name at least one data set, as NAME: {data: {train: FILE}}")
        for name in tasks:
            if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
                problems.append(f"tasks: the name {name!r} must be letters, digits, - and _")
    return problems


def _check_prompt(value: Any) -> None:
    PromptSection.model_validate(value).load()


def _check_labels(value: Any) -> None:
    if value is not None:
        parse_labels(value)


def explain(found: Any) -> str:
    """One pydantic error as `key: what is wrong`."""
    if found["type"] == "extra_forbidden":
        location = [str(part) for part in found["loc"]]
        key = ".".join(location)
        if ours := OTHER_NAMES.get(location[-1]) or _elsewhere(location[-1]):
            return f"{key}: unknown key; did you mean {ours!r}?"
        section = _section_at(location[:-1])
        near = difflib.get_close_matches(location[-1], section.keys(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(section.keys())}"
        return f"{key}: unknown key; {hint}"
    if found["type"] == "nertune":
        return str(found["msg"])
    # Unions add the member's name to the location; it is not a key of the recipe, as the name of a task is.
    name_at = 1 if found["loc"][:1] == ("tasks",) else None
    location = [
        str(part)
        for place, part in enumerate(found["loc"])
        if place == name_at or (isinstance(part, str) and part.isidentifier() and part != "str")
    ]
    key = ".".join(location) or "recipe"
    if found["type"] == "missing":
        return f"{key}: required key is missing"
    return f"{key}: {found['msg'][0].lower()}{found['msg'][1:]}, found {found['input']!r:.60}"


def _elsewhere(name: str) -> str | None:
    """The dotted key of a setting that stands in another section than where it was written."""
    for key, field in Recipe.model_fields.items():
        for choice in (field.annotation, *get_args(field.annotation)):
            known = choice.keys() if isinstance(choice, type) and issubclass(choice, Section) else ()
            if name in known:
                return f"{key}.{name}"
    known = Recipe.keys()
    return name if name in known else None


def _section_at(location: list[str]) -> type[Section]:
    section: type[Section] = Recipe
    if location[:1] == ["tasks"] and len(location) > 1:
        section, location = TaskSection, location[2:]
    for part in location:
        annotation = section.model_fields[part].annotation
        for choice in (annotation, *get_args(annotation)):
            if isinstance(choice, type) and issubclass(choice, Section):
                section = choice
    return section
