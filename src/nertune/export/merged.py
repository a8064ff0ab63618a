"""`nertune export RUN merged DIR`: the base model with the adapter in its weights, as a folder that every tool loads.

The adapter is asked first, beside the base model's untouched weights, then it is merged and written, then the written
folder is loaded as anybody would load it and asked the same. Only then does the folder get its name.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nertune.assemble import load, merged, unmerged
from nertune.confidence import CALIBRATION
from nertune.errors import DiskSpaceError, InputError
from nertune.export.folders import copy_files, new_folder, refuse_existing
from nertune.prompt.chat import chat_template_source
from nertune.run import RunManifest, check_weights
from nertune.schema import Prediction

__all__ = ["Comparison", "export_merged"]

Report = Callable[[str, int, int], None]
# Beside the weights: how the run was trained, and what its scores mean.
_KEPT = ("recipe.yaml", CALIBRATION)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the written model was asked beside the adapter. `differing`: a line for each text with other entities."""

    texts: int
    differing: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return not self.differing

    def lines(self) -> list[str]:
        """For people to read."""
        if not self.texts:
            return ["not compared: no texts"]
        return [
            *self.differing,
            f"{self.texts - len(self.differing)} of {self.texts} texts have the adapter's entities",
        ]


def export_merged(
    run: str | Path,
    target: str | Path,
    *,
    texts: Sequence[str],
    task: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    batch_size: int = 32,
    report: Report | None = None,
) -> Comparison:
    """Write the merged model into a new folder `target`, which `nertune.load` and other tools take, and compare it on `texts`.

    `task`: whose prompt the comparison uses, where the run has several. `dtype`: of the written weights: "float32",
    "bfloat16", "float16", or "auto" for the base model's own. A run on 4-bit weights is merged into the whole ones.
    The folder has the tokenizer with the chat template, a generation configuration that stops where the run stops and does
    not sample, and a nertune.json of kind "model". Raises InputError for a run that is a whole model, or a `target` that is
    there, and what `load` raises.
    """
    folder, target = Path(run), Path(target)
    manifest = RunManifest.read(folder)
    if manifest.kind == "model":
        raise InputError(f"{folder}: a whole model already, with nothing to merge: use the folder as it is")
    if asked := list(texts):
        manifest.prompt_of(task)
    check_weights(folder)
    refuse_existing(target)
    told = report or (lambda what, done, total: None)

    def tell(what: str) -> Callable[[int], None]:
        return lambda done: told(what, done, len(asked))

    with new_folder(target) as building:
        before: list[Prediction] = []
        if asked:
            told("loading the adapter", 0, 0)
            beside = unmerged(folder, task=task, device=device, dtype=dtype, batch_size=batch_size)
            before = beside.extract_many(asked, done=tell("asking the adapter"))
            del beside
            gc.collect()  # two models at once may not fit
        told("merging", 0, 0)
        # Loaded anew: an engine takes over the output layer of the model that it generates with.
        model, renderer = merged(folder, task=task or next(iter(manifest.tasks), None), device=device, dtype=dtype)
        _write(model, renderer.tokenizer, manifest, building, _dtype(manifest, dtype, model))
        del model, renderer
        gc.collect()
        copy_files(folder, building, _KEPT)
        check_weights(building, "model")
        after: list[Prediction] = []
        if asked:
            told("loading the merged model", 0, 0)
            written = load(building, task=task, device=device, batch_size=batch_size, calibrated=False)
            after = written.extract_many(asked, done=tell("asking the merged model"))
    differing = [
        line
        for number, (one, other) in enumerate(zip(before, after, strict=True), 1)
        if (line := _difference(number, one, other))
    ]
    return Comparison(len(asked), tuple(differing))


def _write(model: Any, tokenizer: Any, manifest: RunManifest, folder: Path, dtype: Any) -> None:
    """Weights, configuration, tokenizer and manifest."""
    from transformers import GenerationConfig

    model = model.to(dtype)
    needed = sum(weight.numel() * weight.element_size() for weight in {id(w): w for w in model.parameters()}.values())
    free = shutil.disk_usage(folder).free
    if free < needed * 1.05:
        raise DiskSpaceError(
            f"{folder.parent}: the model takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        )
    model.generation_config = GenerationConfig(
        eos_token_id=sorted(manifest.stop_ids),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        do_sample=False,
    )
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.chat_template = chat_template_source(tokenizer)
    tokenizer.save_pretrained(str(folder))
    replace(manifest, kind="model", quantize=None).write(folder)


def _dtype(manifest: RunManifest, name: str, model: Any) -> Any:
    """The torch type of the written weights."""
    import torch
    from transformers import AutoConfig

    from nertune.models import resolve_model
    from nertune.safety import remote_code_trusted

    if name != "auto":
        return getattr(torch, name)
    config: Any = AutoConfig.from_pretrained(
        resolve_model(manifest.base_model), trust_remote_code=remote_code_trusted()
    )
    own = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return own if isinstance(own, torch.dtype) else model.dtype


def _difference(number: int, one: Prediction, other: Prediction) -> str | None:
    """How two predictions of one text differ, or None."""
    here, there = ({(e.label, e.start, e.end, e.text) for e in side.entities} for side in (one, other))
    if here == there:
        return None

    def shown(only: set[tuple[str, int, int, str]]) -> str:
        return (
            ", ".join(f"{text} {label} [{start}, {end})" for label, start, end, text in sorted(only)) or "nothing more"
        )

    return f"text {number}: the adapter has {shown(here - there)}; the merged model {shown(there - here)}"
