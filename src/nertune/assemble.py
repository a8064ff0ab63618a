"""Where rooms are wired together: a run directory becomes a Recognizer.

No room knows another's insides; this module, the command line and the quickstart are the only ones that see several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nertune.confidence import Calibration, MinScore, check_min_score
from nertune.errors import MissingFileError, RunError
from nertune.evaluate import evaluate
from nertune.extract import Recognizer
from nertune.extract.budget import window_size
from nertune.prompt import PromptSpec, Renderer, template_hash
from nertune.run import MANIFEST, RunManifest, check_weights
from nertune.schema import Document, Prediction

__all__ = ["f1_reader", "load", "untrained"]

if TYPE_CHECKING:
    from nertune.train.measure import Reader

Report = Callable[[str, int, int], None]


def load(
    run: str | Path,
    *,
    task: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    batch_size: int = 32,
    max_new_tokens: int | None = None,
    constrained: bool = True,
    min_score: MinScore | None = None,
    calibrated: bool = True,
    window: int | None = None,
    report: Report | None = None,
) -> Recognizer:
    """A Recognizer from a run directory written by `nertune train`.

    `task`: which, where the run was trained on several. `device`: "cpu", "cuda", …; None takes the first accelerator.
    `dtype`: "auto", "float32", "bfloat16"; a run trained on a 4-bit model is run on it again with "auto", and on the
    model's whole weights with another. `batch_size`: texts decoded together. `max_new_tokens`: limit of one answer, in
    tokens; None fits it to the text. `constrained`: only answers that can be true are generated; with False the model is
    free, and its answers are repaired where they must be. `min_score`: leave out entities that score less, or
    "calibrated" for the thresholds that `nertune calibrate` fitted. `calibrated`: scores are those of the run's
    calibration, where it has one; else, and with False, they are the model's own probabilities. `window`: the longest
    text, in tokens, that is read in one piece, 16 at least; longer ones are read in overlapping windows. None takes what
    fits into the longest row that the run was trained on.
    Raises MissingFileError where there is no run, RunError where it cannot be used with its base model, InputError for a
    task that the run does not know, or none where it has several, for a window that the model cannot hold, and for
    calibrated thresholds where none were fitted.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise MissingFileError(f"{run}: no such run directory (looked for {folder.absolute()})")
    manifest = RunManifest.read(folder)
    spec = manifest.prompt_of(task)
    check_weights(folder, manifest.kind)
    calibration = Calibration.read(folder, manifest.task_of(task)) if calibrated else None
    check_min_score(min_score, calibration)
    from nertune.models import load_model, load_tokenizer

    tokenizer = load_tokenizer(str(folder) if manifest.has_tokenizer else manifest.base_model, report=report)
    if template_hash(tokenizer) != manifest.template_hash:
        whose = str(folder) if manifest.has_tokenizer else manifest.base_model
        raise RunError(
            f"{folder / MANIFEST}: the run was trained with another chat template than {whose} has now, so "
            "its prompts would differ from the trained ones. Use the model's files of that time, or train again"
        )
    if manifest.kind == "model":
        model = load_model(str(folder), dtype=dtype, device=device)
    else:
        quantize = manifest.quantize if dtype == "auto" else None
        model = load_model(manifest.base_model, dtype=dtype, device=device, quantize=quantize)
        model = _with_adapter(model, folder, tokenizer.convert_tokens_to_ids(list(manifest.tokens)))
    renderer = Renderer(tokenizer, spec)
    recognizer = _recognizer(
        model, renderer, batch_size, max_new_tokens, constrained, window=window, trained=manifest.max_tokens
    )
    if calibration is not None and calibration.constrained != recognizer.constrained:
        calibration = None  # fitted to probabilities of another kind
    return replace(recognizer, calibration=calibration, min_score=min_score)


def untrained(
    base_model: str,
    spec: PromptSpec,
    *,
    batch_size: int = 32,
    max_new_tokens: int | None = None,
    constrained: bool = True,
    report: Report | None = None,
) -> Recognizer:
    """A Recognizer on a base model as it is: what it can do before any training. The settings are those of `load`."""
    from nertune.models import load_model, load_tokenizer

    tokenizer = load_tokenizer(base_model, report=report)
    return _recognizer(load_model(base_model), Renderer(tokenizer, spec), batch_size, max_new_tokens, constrained)


def f1_reader(*, batch_size: int = 32, done: Callable[[int, int], None] | None = None) -> Reader:
    """What `nertune.train.fit.train` reads and scores validation documents with; the F1 is that of the `text` measure.

    `done(ended, total)` is told how many answers have ended so far.
    """
    from nertune.train.measure import Reader

    def predict(model: Any, renderer: Renderer, documents: Sequence[Document]) -> list[Prediction]:
        # A tokenizer without a fast version has no table of bytes: it is read freely rather than not at all.
        constrained = bool(getattr(renderer.tokenizer, "is_fast", False))
        recognizer = _recognizer(model, renderer, batch_size, None, constrained)
        tell = (lambda ended: done(ended, len(documents))) if done else None
        return recognizer.extract_many([document.text for document in documents], done=tell)

    def score(documents: Sequence[Document], predictions: Sequence[Prediction]) -> dict[str, float]:
        scores = evaluate(documents, predictions).metrics["text"]
        micro = scores.micro
        overall = {"f1": micro.f1, "precision": micro.precision, "recall": micro.recall}
        return overall | {f"f1/{name}": label.f1 for name, label in scores.labels.items()}

    return Reader(predict, score)


def _recognizer(
    model: Any,
    renderer: Renderer,
    batch_size: int,
    max_new_tokens: int | None,
    constrained: bool,
    *,
    window: int | None = None,
    trained: int | None = None,
) -> Recognizer:
    from nertune.generate.local import LocalEngine
    from nertune.models.attention import can_share_prefix

    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    size = window_size(renderer, asked=window, trained=trained, context=context, max_new_tokens=max_new_tokens)
    engine = LocalEngine(
        model, shares_prefix=can_share_prefix(model), tokenizer=renderer.tokenizer, batch_size=batch_size
    )
    return Recognizer(renderer, engine, max_new_tokens, constrained, window=size)


def _with_adapter(model: Any, folder: Path, token_ids: Sequence[int]) -> Any:
    """The base model with its adapter: merged, or beside weights of 4 bits, into which it cannot be without loss."""
    from peft import PeftModel

    from nertune.models import make_room

    if token_ids:
        make_room(model, token_ids)
    try:
        adapted: Any = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{folder}: the adapter does not fit its base model: {reason}") from error
    return adapted.get_base_model() if getattr(model, "is_quantized", False) else adapted.merge_and_unload()
