"""Several runs on one engine: one base model in memory, the adapter of each beside it, a Recognizer for each.

assemble.py loads one run, merged; this module stands beside it, for whoever serves several, and the base model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nertune.assemble import calibration_of, load_weights, renderer_of
from nertune.confidence import Calibration, MinScore
from nertune.errors import InputError, MissingFileError, RunError
from nertune.extract import Recognizer
from nertune.extract.budget import window_size
from nertune.prompt import Renderer
from nertune.run import RunManifest, check_weights

__all__ = ["LoadedRuns", "load_runs"]

if TYPE_CHECKING:
    from nertune.generate.local import LocalEngine

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class LoadedRuns:
    """Runs on one engine.

    `recognizers`: by the name of the run, or RUN/TASK where a run was trained on several. `folders`: of the runs, by the
    same names. `base_model`: the name of the model that all were trained on. `offers_base`: a request without an adapter is
    answered by the base model as it is; False where the engine holds the weights of a single run, merged.
    """

    engine: LocalEngine
    recognizers: dict[str, Recognizer]
    folders: dict[str, Path]
    base_model: str
    offers_base: bool


def load_runs(
    runs: Mapping[str, str | Path],
    *,
    device: str | None = None,
    dtype: str = "auto",
    batch_size: int = 96,
    max_new_tokens: int | None = None,
    constrained: bool = True,
    min_score: MinScore | None = None,
    calibrated: bool = True,
    window: int | None = None,
    report: Report | None = None,
    note: Callable[[str], None] | None = None,
) -> LoadedRuns:
    """Run directories by name on one engine. The settings are those of `nertune.load`.

    Several must be plain LoRA adapters of the same base model, held in the same way. One run alone may be anything that
    `nertune.load` takes; where it is no plain adapter it is merged, and the base model is not offered.
    Raises MissingFileError where there is no run, RunError where runs cannot be used, or not together, and InputError as
    `nertune.load` does.
    """
    opened = [_Run.open(name, Path(folder), constrained=constrained) for name, folder in runs.items()]
    if not opened:
        raise InputError("no run is named: there is nothing to load")
    if len(opened) > 1:
        _check_together(opened, dtype)
    tokenizer: Any = None
    readers: list[_Reader] = []
    for run in opened:
        for task in run.tasks:
            # What can be refused is refused before any weights are loaded.
            calibration = calibration_of(run.folder, run.manifest, task, constrained, calibrated, min_score, note)
            renderer = renderer_of(run.folder, run.manifest, run.manifest.prompt_of(task), report, tokenizer=tokenizer)
            tokenizer = renderer.tokenizer
            readers.append(_Reader(run.name if task is None else f"{run.name}/{task}", run, renderer, calibration))
    labels = [reader.label for reader in readers]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{label!r} would be the name of a run and of another run's task; rename the run")
    engine = _engine(opened, tokenizer, dtype=dtype, device=device, batch_size=batch_size)
    context = getattr(engine.model.config.get_text_config(), "max_position_embeddings", None)
    recognizers = {}
    for label, run, renderer, calibration in readers:
        size = window_size(
            renderer, asked=window, trained=run.manifest.max_tokens, context=context, max_new_tokens=max_new_tokens
        )
        adapter = run.name if run.name in engine.adapters.names else None
        recognizers[label] = Recognizer(
            renderer, engine, max_new_tokens, constrained, calibration, min_score, size, adapter
        )
    folders = {reader.label: reader.run.folder for reader in readers}
    return LoadedRuns(engine, recognizers, folders, opened[0].manifest.base_model, bool(engine.adapters.names))


class _Run(NamedTuple):
    """A run's folder. `alone`: what keeps it from being one of several on a base model; None where nothing does."""

    name: str
    folder: Path
    manifest: RunManifest
    alone: str | None

    @classmethod
    def open(cls, name: str, folder: Path, *, constrained: bool) -> _Run:
        from nertune.generate.lora import why_alone

        if not folder.is_dir():
            raise MissingFileError(f"{folder}: no such run directory (looked for {folder.absolute()})")
        manifest = RunManifest.read(folder)
        manifest.check_constrained(folder, constrained=constrained)
        check_weights(folder, manifest.kind)
        if manifest.kind == "model":
            alone: str | None = "all weights were trained, so it is a whole model"
        elif manifest.tokens:
            alone = "tokens were added to its tokenizer"
        else:
            alone = why_alone(folder)
        return cls(name, folder, manifest, alone)

    @property
    def tasks(self) -> Iterable[str | None]:
        """The tasks by name; None stands for a run's only prompt."""
        return self.manifest.tasks if len(self.manifest.tasks) > 1 else (None,)


class _Reader(NamedTuple):
    """What one recognizer needs besides the engine."""

    label: str
    run: _Run
    renderer: Renderer
    calibration: Calibration | None


def _check_together(opened: list[_Run], dtype: str) -> None:
    """Raises RunError where several runs do not go onto one base model."""
    for run in opened:
        if run.alone is not None:
            raise RunError(
                f"{run.folder}: {run.alone}, so it cannot share an engine with other runs. Serve it alone, where it is merged"
            )
    first = opened[0]
    for run in opened[1:]:
        if _place(run.manifest.base_model) != _place(first.manifest.base_model):
            raise RunError(
                f"{run.folder}: trained on {run.manifest.base_model}, and {first.folder} on {first.manifest.base_model}; "
                "runs on one engine have one base model. Serve them apart"
            )
        if dtype == "auto" and run.manifest.quantize != first.manifest.quantize:
            held = [one.manifest.quantize or "whole" for one in (run, first)]
            raise RunError(
                f"{run.folder}: trained on {held[0]} weights of the base model, and {first.folder} on {held[1]} ones. "
                "Serve them apart, or name a dtype: then both are run on whole ones"
            )


def _place(base_model: str) -> str | Path:
    """A base model's folder, or its name where that is none: two runs may name the same folder in two ways."""
    folder = Path(base_model).expanduser()
    return folder.resolve() if folder.is_dir() else base_model


def _engine(opened: list[_Run], tokenizer: Any, *, dtype: str, device: str | None, batch_size: int) -> LocalEngine:
    from nertune.generate.local import LocalEngine
    from nertune.models import load_model
    from nertune.models.attention import can_share_prefix

    first = opened[0]
    adapters = {run.name: run.folder for run in opened} if first.alone is None else {}
    if adapters:
        quantize = first.manifest.quantize if dtype == "auto" else None
        model = load_model(first.manifest.base_model, dtype=dtype, device=device, quantize=quantize)
    else:
        model = load_weights(first.folder, first.manifest, tokenizer, dtype=dtype, device=device)
    return LocalEngine(
        model, shares_prefix=can_share_prefix(model), tokenizer=tokenizer, batch_size=batch_size, adapters=adapters
    )
