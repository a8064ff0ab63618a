"""Where rooms are wired together: a run directory, or a server's address, becomes a Recognizer.

No room knows another's insides; this module, the command line and the quickstart are the only ones that see several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nertune.confidence import CALIBRATED, Calibration, MinScore, check_min_score
from nertune.errors import InputError, MissingFileError, RunError
from nertune.evaluate import evaluate
from nertune.extract import Recognizer
from nertune.extract.budget import window_size
from nertune.generate.endpoint import Endpoint, is_endpoint
from nertune.generate.remote import RemoteEngine
from nertune.prompt import PlainTokenizer, PromptSpec, Renderer, template_hash
from nertune.run import MANIFEST, RunManifest, check_weights
from nertune.schema import Document, Prediction

__all__ = [
    "calibration_of",
    "connect",
    "f1_reader",
    "load",
    "load_weights",
    "merged",
    "renderer_of",
    "unmerged",
    "untrained",
]

if TYPE_CHECKING:
    from nertune.train.measure import About, Reader

Report = Callable[[str, int, int], None]


def load(
    model: str | Path,
    *,
    run: str | Path | None = None,
    task: str | None = None,
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
) -> Recognizer:
    """A Recognizer from a run directory written by `nertune train`, or from a server: `http://host:port/v1#model-name`.

    `run`: for a server, the run that it serves; `connect` has more to choose there, and `device`, `dtype` and
    `batch_size` mean nothing.
    `task`: which, where the run was trained on several. `device`: "cpu", "cuda", …; None takes the first accelerator.
    `dtype`: "auto", "float32", "bfloat16"; a run trained on a 4-bit model is run on it again with "auto", and on the
    model's whole weights with another. `batch_size`: texts decoded together. `max_new_tokens`: limit of one answer, in
    tokens; None fits it to the text. `constrained`: only answers that can be true are generated; with False the model is
    free, and its answers are repaired where they must be. `min_score`: leave out entities that score less, or
    "calibrated" for the thresholds that `nertune calibrate` fitted. `calibrated`: scores are those of the run's
    calibration, where it has one for answers made in this way, with a grammar or without; else, and with False, they are
    the model's own probabilities, and `note` is told of a calibration that is not used. `window`: the longest text, in
    tokens, that is read in one piece, 16 at least; longer ones are read in overlapping windows. None takes what fits into
    the longest row that the run was trained on.
    Raises MissingFileError where there is no run, RunError where it cannot be used with its base model, InputError for a
    task that the run does not know, or none where it has several, for a window that the model cannot hold, and for
    calibrated thresholds where none were fitted; for a server what `connect` raises.
    """
    if is_endpoint(model):
        return connect(
            str(model),
            run=run,
            task=task,
            max_new_tokens=max_new_tokens,
            constrained=constrained,
            min_score=min_score,
            calibrated=calibrated,
            window=window,
            report=report,
            note=note,
        )
    if run is not None:
        raise InputError(
            f"{model} is no server's address (http://host:port/v1#model-name), and only of a server the run {str(run)!r} is "
            "asked (--run): leave it out"
        )
    folder, manifest, spec = _open_run(model, task)
    manifest.check_constrained(folder, constrained=constrained)
    check_weights(folder, manifest.kind)
    calibration = calibration_of(folder, manifest, task, constrained, calibrated, min_score, note)
    renderer = renderer_of(folder, manifest, spec, report)
    weights = load_weights(folder, manifest, renderer.tokenizer, dtype=dtype, device=device)
    recognizer = _recognizer(
        weights, renderer, batch_size, max_new_tokens, constrained, window=window, trained=manifest.max_tokens
    )
    return replace(recognizer, calibration=calibration, min_score=min_score)


def connect(
    address: str,
    *,
    run: str | Path | None = None,
    prompt: PromptSpec | None = None,
    task: str | None = None,
    max_new_tokens: int | None = None,
    constrained: bool = True,
    concurrency: int = 16,
    timeout: float = 300,
    retries: int = 5,
    requests_per_minute: float | None = None,
    key: str | None = None,
    min_score: MinScore | None = None,
    calibrated: bool = True,
    window: int | None = None,
    report: Report | None = None,
    note: Callable[[str], None] | None = None,
) -> Recognizer:
    """A Recognizer over an OpenAI-compatible server: `http://host:port/v1#model-name`.

    `run`: the run that is served there; its prompt is used, and of the model only the tokenizer is loaded. `prompt`
    instead, for a model that was not trained here. `constrained`: vLLM is sent the grammar of the answers, other servers a
    JSON schema where the answer format has one; False leaves the model free. `concurrency`: requests at a time. `timeout`:
    seconds for one answer. `retries`: tries after the first. `requests_per_minute`: never more. `key`: of the server; None
    takes it from the environment, NERTUNE_API_KEY or OPENAI_API_KEY. `min_score`, `calibrated`, `window`, `note`: as in `load`;
    servers that answer in text give no scores.
    Raises InputError and UnknownModelError for what the server does not know, EndpointError where it is not there or
    fails, MissingExtraError without the extra `remote`; for a run as `load` does.
    """
    calibration = trained = manifest = None
    if prompt is not None and run is None:
        renderer = Renderer(PlainTokenizer(), prompt)
    elif run is not None and prompt is None:
        folder, manifest, spec = _open_run(run, task)
        manifest.check_constrained(folder, constrained=constrained)
        calibration = calibration_of(folder, manifest, task, constrained, calibrated, min_score, note)
        renderer, trained = renderer_of(folder, manifest, spec, report), manifest.max_tokens
    else:
        raise InputError(
            f"{address}: a server does not tell which prompt its model was trained with. Name the run that it serves "
            "(--run RUN), or for a model that was not trained here the labels (--labels name,company)"
        )
    endpoint = Endpoint(address, timeout=timeout, retries=retries, requests_per_minute=requests_per_minute, key=key)
    if manifest is not None:  # other servers know a JSON schema at most
        manifest.check_constrained(folder, constrained=bool(endpoint.vllm))
    engine = RemoteEngine(endpoint, concurrency=concurrency, token_ids=run is not None)
    size = window_size(renderer, asked=window, trained=trained, context=endpoint.context, max_new_tokens=max_new_tokens)
    return Recognizer(renderer, engine, max_new_tokens, constrained, calibration, min_score, size)


def _open_run(run: str | Path, task: str | None) -> tuple[Path, RunManifest, PromptSpec]:
    folder = Path(run)
    if not folder.is_dir():
        if "://" in str(run):
            raise InputError(f"{run}: a server's address begins with http:// or https://, and a run is a folder here")
        raise MissingFileError(f"{run}: no such run directory (looked for {folder.absolute()})")
    manifest = RunManifest.read(folder)
    return folder, manifest, manifest.prompt_of(task)


def calibration_of(
    folder: Path,
    manifest: RunManifest,
    task: str | None,
    constrained: bool,
    wanted: bool,
    min_score: MinScore | None,
    note: Callable[[str], None] | None,
) -> Calibration | None:
    """A run's calibration where it is wanted and was fitted to answers made in the same way: probabilities differ in the other.

    Raises InputError for a least score that it cannot serve, before any weights are loaded.
    """
    calibration = Calibration.read(folder, manifest.task_of(task)) if wanted else None
    if calibration is not None and calibration.constrained != constrained:
        fitted, now = ("with", "without") if calibration.constrained else ("without", "with")
        calibration = None
        if note and min_score != CALIBRATED:  # which is refused
            note(
                f"{folder}: its calibration was fitted {fitted} a grammar and is left aside, because answers are made "
                f"{now} one now: scores are the model's own probabilities. nertune calibrate fits it again"
            )
    check_min_score(min_score, calibration)
    return calibration


def renderer_of(
    folder: Path, manifest: RunManifest, spec: PromptSpec, report: Report | None = None, *, tokenizer: Any = None
) -> Renderer:
    """What writes a run's prompts; `tokenizer`: the run's, where it is loaded already. Raises RunError for another template."""
    from nertune.models import load_tokenizer

    whose = str(folder) if manifest.has_tokenizer else manifest.base_model
    if tokenizer is None:
        tokenizer = load_tokenizer(whose, report=report)
    if template_hash(tokenizer) != manifest.template_hash:
        raise RunError(
            f"{folder / MANIFEST}: the run was trained with another chat template than {whose} has now, so "
            "its prompts would differ from the trained ones. Use the model's files of that time, or train again"
        )
    return Renderer(tokenizer, spec)


def untrained(
    base_model: str,
    spec: PromptSpec,
    *,
    batch_size: int = 96,
    max_new_tokens: int | None = None,
    constrained: bool = True,
    report: Report | None = None,
) -> Recognizer:
    """A Recognizer on a base model as it is: what it can do before any training. The settings are those of `load`."""
    from nertune.models import load_model, load_tokenizer

    tokenizer = load_tokenizer(base_model, report=report)
    return _recognizer(load_model(base_model), Renderer(tokenizer, spec), batch_size, max_new_tokens, constrained)


def unmerged(
    run: str | Path, *, task: str | None = None, device: str | None = None, dtype: str = "auto", batch_size: int = 96
) -> Recognizer:
    """A Recognizer whose adapter stands beside the base model's untouched weights. Raises what `load` raises.

    The base model is held in whole weights, also where the run was trained on 4-bit ones.
    """
    adapted, renderer, trained = _open_adapter(run, task, device, dtype)
    return _recognizer(adapted.get_base_model(), renderer, batch_size, None, True, trained=trained)


def merged(
    run: str | Path, *, task: str | None = None, device: str | None = None, dtype: str = "auto"
) -> tuple[Any, Renderer]:
    """The base model with a run's adapter in its whole weights, as transformers has it, and the run's Renderer.

    Raises what `load` raises.
    """
    adapted, renderer, _ = _open_adapter(run, task, device, dtype)
    return _merge(adapted, Path(run)), renderer


def _open_adapter(run: str | Path, task: str | None, device: str | None, dtype: str) -> tuple[Any, Renderer, int]:
    """PEFT's model of a run, its Renderer, and the longest row that it was trained on."""
    folder, manifest, spec = _open_run(run, task)
    check_weights(folder)
    from nertune.models import load_model

    renderer = renderer_of(folder, manifest, spec, None)
    tokenizer: Any = renderer.tokenizer
    model = load_model(manifest.base_model, dtype=dtype, device=device)
    adapted = _adapted(model, folder, tokenizer.convert_tokens_to_ids(list(manifest.tokens)))
    return adapted, renderer, manifest.max_tokens


def f1_reader(*, batch_size: int = 96, done: Callable[[int, int], None] | None = None) -> Reader:
    """What `nertune.train.fit.train` reads, scores and reports on validation documents with; the F1 is that of the
    `text` measure.

    `done(ended, total)` is told how many answers have ended so far.
    """
    from nertune.evaluate.report import build_report
    from nertune.train.measure import Reader, Reported

    def predict(model: Any, renderer: Renderer, documents: Sequence[Document]) -> list[Prediction]:
        # A tokenizer without a fast version has no table of bytes: it is read freely rather than not at all.
        constrained = bool(getattr(renderer.tokenizer, "is_fast", False))
        recognizer = _recognizer(model, renderer, batch_size, None, constrained)
        tell = (lambda ended: done(ended, len(documents))) if done else None
        return recognizer.extract_many([document.text for document in documents], done=tell)

    def score(documents: Sequence[Document], predictions: Sequence[Prediction]) -> dict[str, float]:
        scores = evaluate(documents, predictions, resamples=0).metrics["text"]
        micro = scores.micro
        overall = {"f1": micro.f1, "precision": micro.precision, "recall": micro.recall}
        return overall | {f"f1/{name}": label.f1 for name, label in scores.labels.items()}

    def report(documents: Sequence[Document], predictions: Sequence[Prediction], about: About) -> Reported:
        evaluation = evaluate(documents, predictions)
        made = build_report(documents, predictions, evaluation=evaluation, **about._asdict())
        return Reported(made.files(), evaluation.to_json())

    return Reader(predict, score, report)


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


def load_weights(folder: Path, manifest: RunManifest, tokenizer: Any, *, dtype: str, device: str | None) -> Any:
    """A run's model, its adapter merged where that is possible without loss. Raises RunError where the two do not fit."""
    from nertune.models import load_model

    if manifest.kind == "model":
        return load_model(str(folder), dtype=dtype, device=device)
    quantize = manifest.quantize if dtype == "auto" else None
    model = load_model(manifest.base_model, dtype=dtype, device=device, quantize=quantize)
    return _with_adapter(model, folder, tokenizer.convert_tokens_to_ids(list(manifest.tokens)))


def _with_adapter(model: Any, folder: Path, token_ids: Sequence[int]) -> Any:
    """The base model with its adapter: merged, or beside weights of 4 bits, into which it cannot be without loss."""
    adapted = _adapted(model, folder, token_ids)
    return adapted.get_base_model() if getattr(model, "is_quantized", False) else _merge(adapted, folder)


def _merge(adapted: Any, folder: Path) -> Any:
    """The base model with the adapter in its weights. Raises RunError where these are not finite then."""
    from nertune.models.fitting import check_merged

    layers = list(adapted.targeted_module_names)
    model = adapted.merge_and_unload()
    check_merged(model, layers, folder)
    return model


def _adapted(model: Any, folder: Path, token_ids: Sequence[int]) -> Any:
    """PEFT's model of the base model and the adapter beside it. Raises RunError where they do not fit."""
    from peft import PeftModel

    from nertune.models import make_room
    from nertune.models.fitting import check_fits, check_loaded

    if token_ids:
        make_room(model, token_ids)
    check_fits(model, folder)
    try:
        adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{folder}: the adapter does not fit its base model: {reason}") from error
    check_loaded(adapted, folder)
    return adapted
