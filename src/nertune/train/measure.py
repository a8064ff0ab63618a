"""Entity F1 while training: validation documents read by generation, with the model as it stands at that step.

The loss says how likely the annotated answer is, token by token; users steer by how many entities are right. Reading is
not this room's business: a `Reader` comes in from outside.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nertune.prompt import Renderer
from nertune.schema import Document, Prediction
from nertune.train import ranks
from nertune.train.heads import whole_head
from nertune.train.track.trackers import SampleRow

__all__ = ["About", "F1Measure", "Part", "Patience", "Reader", "Reported", "sample_rows"]

_Read = TypeVar("_Read", Document, Prediction)


class About(NamedTuple):
    """What a report says of a run besides its predictions: `train` what it was trained on, `facts` by name, `metrics` the
    lines of metrics.jsonl, `recipe` its YAML, `display` what the model sees labels as that it sees otherwise."""

    title: str
    train: Sequence[Document]
    facts: Mapping[str, str]
    metrics: Sequence[Mapping[str, Any]]
    recipe: str
    display: Mapping[str, str] = MappingProxyType({})


class Reported(NamedTuple):
    """A report: its files by name, and the evaluation JSON."""

    files: Mapping[str, str]
    evaluation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """How documents are read and scored.

    `predict(model, renderer, documents)`: what a base model with its LoRA layers, in evaluation mode, finds in each.
    `score(documents, predictions)`: `f1`, `precision` and `recall` over all entities, and `f1/LABEL` for each label.
    `report(documents, predictions, about)`: what people get to see at the end; None where they get the plain page alone.
    """

    predict: Callable[[Any, Renderer, Sequence[Document]], Sequence[Prediction]]
    score: Callable[[Sequence[Document], Sequence[Prediction]], Mapping[str, float]]
    report: Callable[[Sequence[Document], Sequence[Prediction], About], Reported] | None = None


class Part(NamedTuple):
    """Validation documents of one task ("" where there is one without a name) and what renders its prompts."""

    task: str
    renderer: Renderer
    documents: Sequence[Document]


class F1Measure:
    """Reads the same `count` validation documents of each task at every evaluation, drawn by `seed`."""

    def __init__(self, reader: Reader, parts: Sequence[Part], *, count: int, seed: int) -> None:
        self._reader = reader
        self.parts = [part._replace(documents=_draw(part.documents, count, seed)) for part in parts]

    def __call__(self, model: Any) -> dict[str, float]:
        """The scores of a model that is being trained, which is left as it was. Of several processes each reads its share.

        With several tasks `f1`, `precision` and `recall` are over all, and each task has `f1/TASK` and `f1/TASK/LABEL`.
        """
        with _for_reading(model) as base:
            found = [self._read(base, part) for part in self.parts]
        if len(self.parts) == 1 and not self.parts[0].task:
            return dict(self._reader.score(self.parts[0].documents, found[0]))
        documents = [document for part in self.parts for document in part.documents]
        together = self._reader.score(documents, [prediction for predictions in found for prediction in predictions])
        scores = {name: value for name, value in together.items() if "/" not in name}
        for part, predictions in zip(self.parts, found, strict=True):
            for name, value in self._reader.score(part.documents, predictions).items():
                if name.startswith("f1"):
                    scores[f"f1/{part.task}{name.removeprefix('f1')}"] = value
        return scores

    def report(self, model: Any, about: About, train: Sequence[Sequence[Document]]) -> Reported | None:
        """The reader's report on the same documents, read by this process alone; None where the reader makes none.

        `train`: the training documents of each part. With several tasks a label is called `TASK/LABEL`.
        """
        if self._reader.report is None:
            return None
        with _for_reading(model) as base:
            found = [self._reader.predict(base, part.renderer, part.documents) for part in self.parts]
        several = len(self.parts) > 1
        tasks = [part.task if several else "" for part in self.parts]
        gold = [_of(task, d) for task, part in zip(tasks, self.parts, strict=True) for d in part.documents]
        predicted = [_of(task, p) for task, predictions in zip(tasks, found, strict=True) for p in predictions]
        known = tuple(_of(task, d) for task, documents in zip(tasks, train, strict=True) for d in documents)
        display = {
            f"{task}/{name}" if task else name: shown
            for task, part in zip(tasks, self.parts, strict=True)
            for name, shown in part.renderer.spec.labels.display.items()
        }
        return self._reader.report(gold, predicted, about._replace(train=known, display=display))

    def _read(self, base: Any, part: Part) -> list[Prediction]:
        own = ranks.share(part.documents)
        return ranks.gather(self._reader.predict(base, part.renderer, own) if own else ())


def _of(task: str, document: _Read) -> _Read:
    """The document or prediction with its labels called `TASK/LABEL`; as it is where the task has no name."""
    if not task:
        return document
    changed: dict[str, Any] = {
        "entities": tuple(replace(entity, label=f"{task}/{entity.label}") for entity in document.entities)
    }
    if isinstance(document, Prediction):
        changed["ungrounded"] = tuple(replace(named, label=f"{task}/{named.label}") for named in document.ungrounded)
    return replace(document, **changed)


def _draw(documents: Sequence[Document], count: int, seed: int) -> list[Document]:
    """Some of the documents, in their order."""
    places = random.Random(seed).sample(range(len(documents)), min(count, len(documents)))
    return [documents[place] for place in sorted(places)]


def sample_rows(model: Any, reader: Reader, parts: Sequence[Part]) -> tuple[SampleRow, ...]:
    """The first 20 documents of each task as the model reads them now, beside their annotation."""
    rows: list[SampleRow] = []
    with _for_reading(model) as base:
        for part in parts:
            documents = part.documents[:20]
            predictions = reader.predict(base, part.renderer, documents)
            rows += [
                SampleRow(document.text, _listed(document), _listed(prediction))
                for document, prediction in zip(documents, predictions, strict=True)
            ]
    return tuple(rows)


def _listed(document: Document | Prediction) -> str:
    return "; ".join(f"{entity.label} {entity.text}" for entity in document.entities)


@contextmanager
def _for_reading(model: Any) -> Iterator[Any]:
    """The base model with its LoRA layers, its own output layer and in evaluation mode; all put back afterwards."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    was_training, head, generation = model.training, base.get_output_embeddings(), base.generation_config
    model.eval()
    whole_head(base)
    try:
        yield base
    finally:
        base.set_output_embeddings(head)
        base.generation_config = generation
        model.train(was_training)


class Patience(TrainerCallback):
    """Ends the training after so many evaluations in a row that did not better the best one.

    It counts in the trainer's own log, which a checkpoint holds, so a resumed training goes on counting.
    """

    def __init__(self, evaluations: int, measure: str, *, greater_is_better: bool) -> None:
        self._evaluations = evaluations
        self._measure = measure
        self._sign = 1 if greater_is_better else -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.on_log(args, state, control)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        values = [self._sign * line[self._measure] for line in state.log_history if self._measure in line]
        if values and len(values) - 1 - values.index(max(values)) >= self._evaluations:
            control.should_training_stop = True
