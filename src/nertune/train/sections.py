"""The sections of a recipe: their keys, their defaults, and what each key means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from nertune.data import LabelMap
from nertune.errors import InputError
from nertune.prompt import ANSWER_FORMATS, AnswerFormat, PromptTemplate, answer_format, doubled_braces, load_template
from nertune.schema import LabelSet

__all__ = [
    "DataSection",
    "Labels",
    "LoraSection",
    "Positive",
    "PromptSection",
    "Section",
    "TaskSection",
    "TrainingSection",
    "parse_answer",
    "parse_labels",
    "unsaved_best",
]

Positive = Annotated[int, Field(gt=0, strict=True)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rhythm = Positive | Literal["epoch", "never"]


def _kind(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else "a list"


# The names of the two are no identifiers, so that messages about keys leave them out.
Labels = Annotated[
    Annotated[tuple[str, ...], Tag("a list")] | Annotated[dict[str, Any], Tag("a mapping")], Discriminator(_kind)
]
"""Labels as a recipe names them: a list, or a mapping from each to its display name or to {name, description}."""


class Section(BaseModel):
    """A mapping of the recipe; keys that it does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_by_name=True)

    @classmethod
    def keys(cls) -> list[str]:
        """The section's keys as a file writes them."""
        return [field.alias or name for name, field in cls.model_fields.items()]


class DataSection(Section):
    """`train`: an annotated file. `validation`: another file, or how much of `train` to hold out.

    Below 1 that is a share (0 for none), from 1 a number of documents. `hold_out`: drawn by `seed`, drawn so that
    every label has its share and near-duplicates stay on one side, or the file's first documents, as published scripts
    often do. `columns`: what the records' keys are called that
    a format knows by another name, such as {instruction: prompt, output: response}. `label_map`: other labels for those
    of the files, such as {"GPE,LOC": 地点}; nothing on the right leaves the mentions out. `doubtful`: a file of which less
    than half of the mentions stand where their offsets say, or whose tokens are whole sentences, stops the training unless
    it is `accept`.
    """

    train: str
    validation: Share | Positive | str = 0.1
    hold_out: Literal["random", "stratified", "first"] = "random"
    format: str | None = None
    columns: dict[str, str] | None = None
    limit: Positive | None = None
    seed: int = 1024
    label_map: dict[str, str | None] | None = None
    doubtful: Literal["refuse", "accept"] = "refuse"

    def mapping(self) -> LabelMap:
        """The label map, empty where there is none. Raises InputError for what is no rule."""
        return LabelMap.parse(self.label_map or {})


class PromptSection(Section):
    """`template`: a built-in name, a folder or a file. `system`, `user`: take the place of the template's own parts.

    `system: false` leaves the template's system part out.
    """

    template: str = "ner"
    system: str | Literal[False] | None = None
    user: str | None = None

    def load(self, notes: list[str] | None = None) -> PromptTemplate:
        """The template with the recipe's own parts in place. `notes`: takes warnings of braces that are doubled."""
        template = load_template(self.template, notes)
        own = (("user", self.user), ("system", self.system or None))
        if notes is not None:
            notes += [f"prompt.{key}: {problem}" for key, part in own if (problem := doubled_braces(part))]
        system = template.system if self.system is None else self.system
        return PromptTemplate(
            user=self.user if self.user is not None else template.user, system=None if system is False else system
        )


class TaskSection(Section):
    """One data set of several: its documents, and what is asked about them.

    `prompt` and `answer`: in place of the recipe's own, whole. `weight`: how often a document is seen in an epoch; with
    0.5 every document comes once in two epochs, with 2 twice in each.
    """

    data: DataSection
    labels: Labels | None = None
    prompt: PromptSection | None = None
    answer: str | dict[str, Any] | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0


class LoraSection(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): W + (alpha / rank) B A, with A (rank, in) and B (out, rank).

    `rslora`: alpha / sqrt(rank) instead (Kalajdzievski 2023, arXiv 2312.03732). `dora`: the sum is scaled to a trained
    length by row (Liu et al. 2024, arXiv 2402.09353). `plus_ratio`: learning rate of B over that of A (LoRA+, Hayou et
    al. 2024, arXiv 2402.12354). `from`: a run or PEFT adapter whose weights are the start; what is not said here about
    the adapter (rank, alpha, targets, rslora, dora) is taken from it, and what is said must agree.
    """

    rank: Positive = 64
    alpha: Positive = 16
    dropout: Share = 0.1
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    rslora: bool = False
    dora: bool = False
    plus_ratio: Annotated[float, Field(ge=1)] | None = None
    start: str | None = Field(default=None, alias="from")


class TrainingSection(Section):
    """How long and how fast. Steps are optimizer steps; one takes `batch_size` x `accumulation` samples a process.

    `warmup`: below 1 a share of all steps, from 1 a number of steps. `eval_steps`, `save_steps`: every so many steps, each
    "epoch", or "never"; without `save_steps` every evaluation saves. `f1_documents`: how many validation documents are read
    by generation at each evaluation (0 for none). `keep_best`: the run is the best checkpoint by `best_by`, not the last; so
    checkpoints must fall on evaluations. `patience`: evaluations without a better one after which training ends.
    `keep_checkpoints`: null keeps all.
    `loss_vocabulary`: "full" for the exact cross-entropy, "sampled" for a softmax over the data's tokens and a sample.
    `loss_tokens`: "answer" trains all of the answer, "free" only what the grammar of generation leaves the model to choose.
    `dtype`: what the frozen model is held in; a fully trained one is held in float32 and computed with in it.
    `quantize`: "4bit" holds the frozen weights in 4-bit NormalFloat (QLoRA: Dettmers et al. 2023, arXiv 2305.14314).
    `bucket`: micro-batches of rows of like length, drawn from windows of the shuffled order.
    """

    epochs: Annotated[float, Field(gt=0)] = 2
    max_steps: Positive | None = None
    batch_size: Positive = 16
    accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    scheduler: Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"] = (
        "linear"
    )
    warmup: Share | Positive = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    loss_vocabulary: Literal["full", "sampled"] = "full"
    loss_tokens: Literal["answer", "free"] = "answer"
    bucket: bool = False
    gradient_checkpointing: bool = False
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    quantize: Literal["4bit"] | None = None
    log_steps: Positive = 10
    eval_steps: Rhythm = 200
    save_steps: Rhythm | None = None
    f1_documents: Annotated[int, Field(ge=0, strict=True)] = 200
    best_by: Literal["f1", "loss"] = "f1"
    keep_best: bool = True
    patience: Positive | None = None
    keep_checkpoints: Positive | None = 2
    seed: int = 1024

    @model_validator(mode="after")
    def _best_is_saved(self) -> TrainingSection:
        problem = unsaved_best(self.eval_steps, self.save_steps) if self.keep_best else None
        if problem:
            raise ValueError(f"keep_best: {problem}")
        return self


def unsaved_best(evaluated: int | str, saved: int | str | None) -> str | None:
    """Why the best evaluated state would not be among the checkpoints; None where it is, or nothing is evaluated."""
    if saved is None or saved == evaluated or evaluated == "never":
        return None
    if isinstance(evaluated, int) and isinstance(saved, int) and saved % evaluated == 0:
        return None
    return f"evaluations ({evaluated}) and checkpoints ({saved}) do not fall together; make one a multiple of the other"


def parse_labels(value: Mapping[str, Any] | Sequence[str]) -> LabelSet:
    """The label set of a recipe's `labels`. Raises InputError for what is no display name and no description."""
    if not isinstance(value, Mapping):
        return LabelSet(tuple(value))
    display: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    for label, entry in value.items():
        parts = entry if isinstance(entry, Mapping) else {"name": entry}
        if unknown := [key for key in parts if key not in ("name", "description")]:
            raise InputError(f"{label}: unknown key {unknown[0]!r}; a label has name and description")
        for key, texts in (("name", display), ("description", descriptions)):
            if parts.get(key) is None:
                continue
            if not isinstance(parts[key], str):
                raise InputError(
                    f"{label}: expected a display name, or {{name: …, description: …}}, found {parts[key]!r:.60}; put what "
                    "YAML reads as something else in quotes"
                )
            texts[label] = parts[key]
    return LabelSet(tuple(value), display, descriptions)


def parse_answer(value: str | dict[str, Any]) -> AnswerFormat:
    """The format that `answer: json` or `answer: {format: json, distinct: false}` names."""
    if isinstance(value, str):
        return answer_format(value)
    options = dict(value)
    name = options.pop("format", None)
    if not isinstance(name, str):
        raise InputError(f"a mapping under 'answer' needs 'format': one of {', '.join(ANSWER_FORMATS)}")
    return answer_format(name, options)
