"""`nertune serve` in front of a server: runs are read here, and answered there. Rooms are wired here.

The server may be vLLM as vllm_serving.py starts it, or any that runs already and speaks OpenAI's API.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nertune import __version__
from nertune.assemble import calibration_of, renderer_of
from nertune.confidence import Calibration, MinScore
from nertune.errors import MissingExtraError, MissingFileError
from nertune.extract import Recognizer
from nertune.extract.budget import window_size
from nertune.generate import AnswerPool, Completion, Request
from nertune.generate.endpoint import Endpoint
from nertune.generate.remote import RemoteEngine
from nertune.prompt import Renderer
from nertune.run import RunManifest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from nertune.serve.launch import LaunchedServer
    from nertune.serve.models import ServedModel
    from nertune.serve.settings import Settings

__all__ = ["Gateway", "GatewaySettings", "Reader", "open_gateway", "open_readers", "serve_address", "serve_gateway"]

Report = Callable[[str, int, int], None]
Say = Callable[[str], None]
KEY = "OPENAI_API_KEY"
"""Holds the key of a server that runs already; NERTUNE_API_KEY is what our own clients send."""
_RETRIES = 1  # clients wait, and may try again themselves
_EVERY = 0.5  # seconds between two looks at a server that was started here


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`concurrency`: requests of `/v1/extract` that the server behind gets together. `capacity`: requests accepted and
    unfinished at a time. The others are those of `nertune.load`."""

    concurrency: int = 64
    capacity: int = 1024
    max_new_tokens: int | None = None
    constrained: bool = True
    min_score: MinScore | None = None
    window: int | None = None
    timeout: float = 300


class Reader(NamedTuple):
    """What reads texts as a run, or one of its tasks, but for the engine. `served`: the run's name on the server."""

    name: str
    served: str
    folder: Path
    manifest: RunManifest
    renderer: Renderer
    calibration: Calibration | None


class Gateway(NamedTuple):
    """An application in front of a server. `process`: that server, where it was started here."""

    app: FastAPI
    pool: AnswerPool
    models: Mapping[str, ServedModel]
    process: LaunchedServer | None = None


def open_readers(
    runs: Mapping[str, Path],
    settings: GatewaySettings,
    *,
    report: Report | None = None,
    note: Say | None = None,
) -> list[Reader]:
    """Runs by the name that the server behind knows them by; of the models only the tokenizers are loaded.

    A run that was trained on several tasks is a reader for each, NAME/TASK. Raises what `nertune.load` raises.
    """
    readers = []
    for name, folder in runs.items():
        if not folder.is_dir():
            raise MissingFileError(f"{folder}: no such run directory (looked for {folder.absolute()})")
        manifest = RunManifest.read(folder)
        manifest.check_constrained(folder, constrained=settings.constrained)
        tokenizer: Any = None
        for task in manifest.tasks if len(manifest.tasks) > 1 else (None,):
            calibration = calibration_of(folder, manifest, task, settings.constrained, True, settings.min_score, note)
            renderer = renderer_of(folder, manifest, manifest.prompt_of(task), report, tokenizer=tokenizer)
            tokenizer = renderer.tokenizer
            label = name if task is None else f"{name}/{task}"
            readers.append(Reader(label, name, folder, manifest, renderer, calibration))
    return readers


def open_gateway(address: str, readers: list[Reader], settings: GatewaySettings, *, key: str = "") -> Gateway:
    """The application in front of the server at `address`, which ends in `/v1` and answers already.

    `key`: what that server wants. Raises what `nertune.assemble.connect` raises for a server.
    """
    try:
        from nertune.serve.gateway import build_gateway
        from nertune.serve.models import ServedModel
        from nertune.serve.relay import Behind
    except ImportError as error:
        raise MissingExtraError("nertune serve", extra="serve") from error

    engines: dict[str | None, RemoteEngine] = {}
    models: dict[str, ServedModel] = {}
    for reader in readers:
        if reader.served not in engines:
            endpoint = Endpoint(f"{address}#{reader.served}", timeout=settings.timeout, retries=_RETRIES, key=key)
            reader.manifest.check_constrained(reader.folder, constrained=bool(endpoint.vllm))
            engines[reader.served] = RemoteEngine(endpoint, concurrency=settings.concurrency)
        recognizer = _recognizer(reader, engines[reader.served], settings)
        models[reader.name] = _served(ServedModel, reader, recognizer)
    first = next(iter(engines.values())).endpoint
    for name in first.models[:100]:
        if name not in engines:
            models.setdefault(name, _served(ServedModel, readers[0]._replace(name=name), None))

    def answer(request: Request) -> Completion:
        return engines[request.adapter].answer(request)

    pool = AnswerPool(answer, threads=settings.concurrency, capacity=settings.capacity)
    behind = Behind(first.url, key=key)
    return Gateway(build_gateway(models, pool, behind, version=__version__), pool, models)


def serve_address(
    address: str,
    run: Path,
    settings: Settings,
    gateway: GatewaySettings,
    *,
    say: Say,
    report: Report | None = None,
) -> int:
    """Serve in front of a server that runs already: `http://host:port/v1#name`, and the run that it serves under that name.

    The name may be left out where there is one. Its key is in the environment, OPENAI_API_KEY. Returns the exit code.
    Raises what `serve_gateway`, `open_readers` and `open_gateway` raise.
    """
    key = os.environ.get(KEY, "")

    @contextmanager
    def opened() -> Iterator[Gateway]:
        found = Endpoint(address, timeout=gateway.timeout, retries=_RETRIES, key=key)
        readers = open_readers({str(found.model): run}, gateway, report=report, note=say)
        yield open_gateway(found.url, readers, gateway, key=key)

    return serve_gateway(opened(), settings, say=say)


def serve_gateway(opening: AbstractContextManager[Gateway], settings: Settings, *, say: Say) -> int:
    """Answer until a signal comes, or the server that was started for it ends. Returns the exit code.

    `opening` is entered when the address is taken, so that what is wrong with it, or with the keys, is said before
    anything is started. Raises InputError for these, EndpointError where the server behind ended, and what `opening` does.
    """
    try:
        from nertune.serve.http import HttpServer
        from nertune.serve.metrics import Metrics
    except ImportError as error:
        raise MissingExtraError("nertune serve", extra="serve") from error
    from nertune.serving import greeting

    apps: list[FastAPI] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await apps[0](scope, receive, send)

    metrics = Metrics()
    server = HttpServer(app, settings, metrics=metrics)
    try:
        with opening as gateway:
            apps.append(gateway.app)
            _measure(gateway.pool, metrics)
            for line in greeting(gateway.models, server.url):
                say(line)
            over = threading.Event()
            watching = threading.Thread(target=_watch, args=(gateway, server.stop, over), daemon=True)
            watching.start()
            try:
                code = server.run()
            finally:
                over.set()
                gateway.pool.close()
            if gateway.process is not None and gateway.process.code is not None:
                raise gateway.process.failure()
            return code
    finally:
        server.close()


def _watch(gateway: Gateway, stop: Callable[[], None], over: threading.Event) -> None:
    """End with the server that was started for it: whatever watches us will start both again."""
    while gateway.process is not None and not over.wait(_EVERY):
        if gateway.process.code is not None:
            gateway.pool.close("the server behind has ended", broken=True)
            stop()
            return


def _recognizer(reader: Reader, engine: RemoteEngine, settings: GatewaySettings) -> Recognizer:
    size = window_size(
        reader.renderer,
        asked=settings.window,
        trained=reader.manifest.max_tokens,
        context=engine.endpoint.context,
        max_new_tokens=settings.max_new_tokens,
    )
    return Recognizer(
        reader.renderer,
        engine,
        settings.max_new_tokens,
        settings.constrained,
        reader.calibration,
        settings.min_score,
        size,
        reader.served,
    )


def _served(kind: type[ServedModel], reader: Reader, recognizer: Recognizer | None) -> ServedModel:
    tokenizer: Any = reader.renderer.tokenizer
    return kind(
        reader.name,
        root=str(reader.folder),
        tokenizer=tokenizer,
        stop_ids=reader.renderer.stop_ids,
        vocabulary=len(tokenizer),
        recognizer=recognizer,
    )


def _measure(pool: AnswerPool, metrics: Any) -> None:
    """The figures of the server behind, as far as they are known here; under the engine's names."""
    metrics.gauge("engine_up", "1 while requests are taken", lambda: pool.state == "running")
    metrics.gauge("engine_requests_unfinished", "Requests accepted and not answered", lambda: pool.unfinished)
    metrics.gauge("engine_requests_capacity", "Requests that may be accepted and unfinished", lambda: pool.capacity)
    metrics.counter("engine_failures", "Unforeseen failures of an answer", lambda: pool.failures)
    metrics.counter("engine_answers", "Answers to /v1/extract's prompts since the start", lambda: pool.answered)
    metrics.counter("engine_tokens", "Tokens of these answers since the start", lambda: pool.tokens)
