"""`nertune serve`: runs on one engine, the engine in a thread of its own, and the HTTP server in front of it.

The serving room knows no models and the generation room no prompts; here they are put together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nertune import __version__
from nertune.adapters import LoadedRuns, load_runs
from nertune.errors import InputError, MissingExtraError
from nertune.extract import Recognizer
from nertune.generate import EngineLoop, Request, Stepping

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nertune.generate.local import LocalEngine
    from nertune.serve.metrics import Metrics
    from nertune.serve.models import ServedModel
    from nertune.serve.settings import Settings

__all__ = ["Service", "load_runs", "names_of", "open_service", "serve"]

# Seconds of processor time within which a client's grammar must be read and give its first tokens.
_GRAMMAR_SECONDS = 1.0


class Service(NamedTuple):
    """An application and the engine's thread behind it."""

    app: FastAPI
    loop: EngineLoop
    models: Mapping[str, ServedModel]


def names_of(given: Sequence[str]) -> dict[str, Path]:
    """Runs by the name they are served under: `NAME=RUN`, or RUN, whose folder's name is taken. Raises InputError."""
    runs: dict[str, Path] = {}
    for item in given:
        name, equals, folder = item.partition("=")
        if not equals or Path(item).is_dir():
            name, folder = Path(item).resolve().name, item
        if not name or not folder:
            raise InputError(f"{item!r}: give a run directory, or NAME=RUN")
        if name in runs:
            raise InputError(f"two runs are called {name!r}: give one another name, as NAME=RUN")
        runs[name] = Path(folder)
    return runs


def open_service(
    loaded: LoadedRuns, *, capacity: int = 1024, default_tokens: int = 1024, served_name: str | None = None
) -> Service:
    """The application over loaded runs. `capacity`: requests accepted and unfinished at a time.

    `served_name`: what clients call the base model, or the one run where that is served as a whole model.
    """
    try:
        from nertune.serve.app import build_app
    except ImportError as error:
        raise MissingExtraError("nertune serve", extra="serve") from error

    models = _models(loaded, served_name)
    # Any token will do: what is to be seen is that the engine gives one.
    probe = Request((0,), frozenset(), max_new_tokens=1)
    loop = EngineLoop(partial(_stepping, loaded.engine), probe=probe, capacity=capacity)
    return Service(build_app(models, loop, version=__version__, default_tokens=default_tokens), loop, models)


def serve(
    load: Callable[[], LoadedRuns],
    settings: Settings,
    *,
    say: Callable[[str], None],
    capacity: int = 1024,
    default_tokens: int = 1024,
    served_name: str | None = None,
) -> int:
    """Load runs and answer until a signal comes; what was accepted is finished. Returns the exit code.

    The address is taken first, so that what is wrong with it, or with the keys, is said before anything is loaded.
    Raises InputError for these, and what `load` raises.
    """
    from nertune.serve.http import HttpServer
    from nertune.serve.metrics import Metrics

    metrics = Metrics()
    apps: list[FastAPI] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await apps[0](scope, receive, send)

    server = HttpServer(app, settings, metrics=metrics)
    try:
        service = open_service(load(), capacity=capacity, default_tokens=default_tokens, served_name=served_name)
    except BaseException:
        server.close()
        raise
    apps.append(service.app)
    _measure(service.loop, metrics)
    for line in greeting(service.models, server.url):
        say(line)
    try:
        return server.run()
    finally:
        service.loop.close(finish=False)


def _measure(loop: EngineLoop, metrics: Metrics) -> None:
    """The engine's figures."""
    metrics.gauge("engine_up", "1 while the engine takes requests", lambda: loop.state == "running")
    metrics.gauge("engine_requests_unfinished", "Requests accepted and not answered", lambda: loop.unfinished)
    metrics.gauge("engine_requests_capacity", "Requests that may be accepted and unfinished", lambda: loop.capacity)
    metrics.counter("engine_failures", "Failures of the engine, and of requests inside it", lambda: loop.failures)
    metrics.counter("engine_steps", "Calls of the model since the start", lambda: loop.steps)
    metrics.counter("engine_answers", "Answers since the start", lambda: loop.answered)
    metrics.counter("engine_tokens", "Tokens of answers since the start", lambda: loop.tokens)


def greeting(models: Mapping[str, ServedModel], url: str) -> list[str]:
    """What is served and where, and two calls to try."""
    readers = [model for model in models.values() if model.recognizer is not None]
    head = "-H 'Content-Type: application/json'"
    lines = [f"serving {', '.join(models)} at {url}/v1"]
    if readers:
        model = "" if len(readers) == 1 else f'"model": "{readers[0].name}", '
        lines.append(f"""  curl {url}/v1/extract {head} -d '{{{model}"text": "…"}}'""")
    name = (readers or list(models.values()))[0].name
    messages = '"messages": [{"role": "user", "content": "…"}]'
    lines.append(f"""  curl {url}/v1/chat/completions {head} -d '{{"model": "{name}", {messages}}}'""")
    return lines


def _models(loaded: LoadedRuns, served_name: str | None) -> dict[str, ServedModel]:
    """The base model, where it answers, and each run."""
    from nertune.serve.models import ServedModel

    engine = loaded.engine
    vocabulary = engine.vocabulary
    first = next(iter(loaded.recognizers.values()))
    context = getattr(engine.model.config.get_text_config(), "max_position_embeddings", None)
    if vocabulary is not None and first.constrained:
        vocabulary.prepare(foreign=True)  # takes seconds: not when the first client waits

    base, alone = loaded.base_model, None
    if served_name is not None and loaded.offers_base:
        base = served_name
    elif served_name is not None:
        alone = served_name
        if len(loaded.recognizers) > 1:
            raise InputError(
                f"--served-model-name {served_name}: no base model is served apart, and the run answers for several tasks; "
                "name the run, as NAME=RUN"
            )

    def served(name: str, reader: Recognizer, *, folder: Path | None) -> ServedModel:
        stop_ids = reader.renderer.stop_ids
        return ServedModel(
            name,
            root=loaded.base_model if folder is None else str(folder),
            parent=None if folder is None else base,
            adapter=None if folder is None else reader.adapter,
            tokenizer=reader.renderer.tokenizer,
            stop_ids=stop_ids,
            vocabulary=engine.vocabulary_size,
            context=context,
            recognizer=None if folder is None else reader,
            check_grammar=_grammar_check(engine, stop_ids),
        )

    models = {base: served(base, first, folder=None)} if loaded.offers_base else {}
    for run, reader in loaded.recognizers.items():
        name = alone or run
        models[name] = served(name, reader, folder=loaded.folders[run])
    return models


def _grammar_check(engine: LocalEngine, stop_ids: frozenset[int]) -> Callable[[str], None]:
    def check(grammar: str) -> None:
        if engine.vocabulary is None:
            raise InputError("this model takes no grammar")
        engine.vocabulary.prepare(foreign=True)  # its seconds are not the grammar's
        begun = time.thread_time()
        engine.vocabulary.constraint(grammar, stop_ids, foreign=True).allowed()
        if time.thread_time() - begun > _GRAMMAR_SECONDS:
            raise InputError("the grammar of the answer takes too long to follow: make it smaller")

    return check


def _stepping(engine: LocalEngine) -> Stepping:
    from nertune.generate.loop import WholeAnswers

    if engine.shares_prefix:
        return engine.decoding()
    return WholeAnswers(engine, most=engine.batch_size, check=engine.check)
