"""The model card of a run, README.md in Hugging Face's format: metadata that the hub reads, then what people should know.

The format: https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Text of the data stands in it escaped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nertune.models import BUILTIN
from nertune.schema import Document
from nertune.train.recipe import Recipe
from nertune.train.task import Task

__all__ = ["model_card"]

_GEMMA = "google/gemma-3-270m"
_GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~#!$]")
_EXAMPLES = {
    "zh": "下周三，方鹏将在杭州第二中学介绍他的新书《山海之间》。",
    None: "Angela Merkel visited the Louvre in Paris on Monday.",
}


def model_card(
    recipe: Recipe, tasks: Sequence[Task], *, name: str, evaluation: Mapping[str, Any] | None, seconds: float
) -> str:
    """The card's text. `name`: of the run; `evaluation`: the evaluation JSON of validation documents, where there is one;
    `seconds`: how long the training took."""
    language = _language([document for task in tasks for document in task.train])
    parts = [
        f"---\n{yaml.safe_dump(_metadata(recipe, tasks, name, evaluation, language), allow_unicode=True, sort_keys=False)}---",
        f"# {_literal(name)}",
        _about(recipe, tasks),
        _use(tasks, name, language),
        _results(evaluation),
        _data(tasks),
        *(_prompt(task) for task in tasks),
        _training(recipe, seconds),
        _limits(evaluation),
        _licence(recipe),
    ]
    return "\n\n".join(part for part in parts if part).encode("utf-8", "replace").decode("utf-8") + "\n"


def _metadata(
    recipe: Recipe, tasks: Sequence[Task], name: str, evaluation: Mapping[str, Any] | None, language: str | None
) -> dict[str, Any]:
    lora = recipe.method == "lora"
    value: dict[str, Any] = {}
    if base := _base(recipe.model):
        value["base_model"] = base
        value["base_model_relation"] = "adapter" if lora else "finetune"
    value["library_name"] = "peft" if lora else "transformers"
    value["pipeline_tag"] = "token-classification"
    if recipe.model == BUILTIN:
        value |= {"license": "gemma", "license_link": _GEMMA_TERMS}
    if language:
        value["language"] = [language]
    value["tags"] = ["nertune", "named-entity-recognition", *(["lora"] if lora else [])]
    value["metrics"] = ["precision", "recall", "f1"]
    if evaluation:
        file = Path(tasks[0].validation_file).name
        figures = [
            {"type": kind, "name": f"{kind} ({measure}, {of})", "value": round(scores[of][kind], 4)}
            for measure, scores in evaluation["metrics"].items()
            for of in ("micro", "macro")
            for kind in ("f1", "precision", "recall")
        ]
        value["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "token-classification", "name": "named-entity recognition"},
                        "dataset": {"type": file, "name": f"validation part of {file}", "split": "validation"},
                        "metrics": figures,
                    }
                ],
            }
        ]
    return value


def _about(recipe: Recipe, tasks: Sequence[Task]) -> str:
    labels = ", ".join(_literal(task.labels.title(label)) for task in tasks for label in task.labels)
    what = "LoRA adapter for" if recipe.method == "lora" else "fine-tuned copy of"
    return (
        f"A {what} {_literal(_shown(recipe.model))} that finds named entities: {labels}. Trained with nertune, which reads its "
        "answers and puts every entity at its place in the text."
    )


def _use(tasks: Sequence[Task], name: str, language: str | None) -> str:
    text = _EXAMPLES.get(language, _EXAMPLES[None])
    task = f", task={tasks[0].name!r}" if len(tasks) > 1 else ""
    return f"""## How to use it

```python
import nertune

recognizer = nertune.load({name!r}{task})  # the folder that holds this file
prediction = recognizer.extract({text!r})
for entity in prediction.entities:
    print(entity.start, entity.end, entity.label, entity.text, entity.score)
```

`nertune extract`, `evaluate` and `serve` take the same folder. PEFT and vLLM load it too; `nertune.json` holds the prompt,
without which the model does not answer as it was trained to."""


def _results(evaluation: Mapping[str, Any] | None) -> str:
    if not evaluation:
        return "## Results\n\nF1 was not measured in training: `nertune evaluate` does so on any annotated file."
    lines = [
        "## Results",
        "",
        f"On {evaluation['documents']} validation texts, which were not trained on but by which the best checkpoint was "
        "chosen. `text` compares sets of (label, text) per document, `span` sets of (label, start, end); `partial` counts an "
        "overlap for a half, whatever the label (SemEval-2013).",
        "",
        "| measure | label | precision | recall | F1 | support |",
        "|---|---|---|---|---|---|",
    ]
    for measure, scores in evaluation["metrics"].items():
        rows = {f"**{of}**": scores[of] for of in ("micro", "macro")}
        rows |= {_literal(label): score for label, score in scores["labels"].items()}
        lines += [
            f"| {measure} | {label} | {v['precision']:.4f} | {v['recall']:.4f} | {v['f1']:.4f} | {v.get('support', '')} |"
            for label, v in rows.items()
        ]
    intervals = [
        "{:.4f} to {:.4f} (`{}`)".format(*scores["micro"]["ci95"], measure)
        for measure, scores in evaluation["metrics"].items()
        if scores["micro"]["ci95"]
    ]
    if intervals:
        lines += ["", f"95% bootstrap intervals of the micro F1: {', '.join(intervals)}."]
    return "\n".join(lines)


def _data(tasks: Sequence[Task]) -> str:
    lines = ["## Data", "", "| file | texts | for | mentions |", "|---|---|---|---|"]
    for task in tasks:
        for what, file, documents in (
            ("training", task.train_file, task.train),
            ("validation", task.validation_file, task.validation),
        ):
            if documents:
                counts = Counter(entity.label for document in documents for entity in document.entities)
                mentions = ", ".join(f"{_literal(label)} {count}" for label, count in counts.most_common()) or "none"
                lines.append(f"| {_literal(Path(file).name)} | {len(documents)} | {what} | {mentions} |")
    return "\n".join(lines)


def _prompt(task: Task) -> str:
    filled = task.spec.filled()
    title = f"## Prompt of {_literal(task.name)}" if task.name else "## Prompt"
    parts = [title, f"Answers are in the format `{task.spec.answer.name}`; `{{text}}` is where the text stands."]
    if filled.system:
        parts += ["The system's part:", _fenced(filled.system)]
    return "\n\n".join([*parts, "The user's part:", _fenced(filled.user)])


def _training(recipe: Recipe, seconds: float) -> str:
    lora, settings = recipe.lora, recipe.training
    method = (
        f"LoRA of rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout}"
        if recipe.method == "lora"
        else "all weights"
    )
    length = f"{settings.epochs:g} epochs" if settings.max_steps is None else f"{settings.max_steps} steps at most"
    return (
        f"## Training\n\n{method}; {length}, {settings.batch_size * settings.accumulation} texts a step, "
        f"learning rate {settings.learning_rate:g}, {seconds / 60:.1f} minutes. `recipe.yaml` holds every setting, "
        "`metrics.jsonl` what was logged, `report.html` curves and errors."
    )


def _limits(evaluation: Mapping[str, Any] | None) -> str:
    weak = []
    if evaluation:
        labels = evaluation["metrics"]["span"]["labels"].items()
        weak = sorted((v["f1"], label) for label, v in labels if v["support"])[:3]
    lines = [
        "- It knows the labels above and no others, and texts like those it was trained on; measure it on yours first.",
        "- It can miss entities, mark wrong ones, and name what is not in the text; nertune keeps the latter apart.",
        "- A score is the model's own probability unless `nertune calibrate` was run.",
    ]
    if weak:
        shown = ", ".join(f"{_literal(label)} (F1 {f1:.2f})" for f1, label in weak)
        lines.append(f"- Weakest on the validation texts: {shown}.")
    return "## Limits\n\n" + "\n".join(lines)


def _licence(recipe: Recipe) -> str:
    if recipe.model == BUILTIN:
        return (
            f"## Licence\n\nThe base model is Gemma 3 270M. Gemma is provided under and subject to the [Gemma Terms of Use]"
            f"({_GEMMA_TERMS}), which apply to what is derived from it, this run included."
        )
    return (
        f"## Licence\n\nWhat the licence of the base model, {_literal(_shown(recipe.model))}, says of derived models holds "
        "for this one, and what the licence of the training data says of models trained on them."
    )


def _base(model: str) -> str | None:
    """The base model's name on the hub; None for a folder of this machine."""
    if model == BUILTIN:
        return _GEMMA
    name = model.removeprefix("modelscope:")
    return name if _HUB_ID.fullmatch(name) and not Path(name).exists() else None


def _shown(model: str) -> str:
    return _base(model) or Path(model).name


def _language(documents: Sequence[Document]) -> str | None:
    """The language where the script tells it, of a sample of the documents."""
    text = "".join(document.text for document in documents[:500])
    letters = sum(character.isalpha() for character in text)
    kana, hangul, han = (
        len(re.findall(found, text)) for found in ("[\u3041-\u30ff]", "[\uac00-\ud7a3]", "[\u3400-\u4dbf\u4e00-\u9fff]")
    )
    if not letters or kana + hangul + han < letters / 2:
        return None
    if kana >= letters / 10:
        return "ja"
    return "ko" if hangul > han else "zh"


def _literal(text: str) -> str:
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def _fenced(text: str) -> str:
    """A block of code; its fence is longer than any row of backticks in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
