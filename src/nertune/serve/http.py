"""The HTTP shell around an application: limits, keys, log, figures, and a stop that finishes what was accepted.

    connection   LimitedProtocol   sizes, deadlines, the number of connections
    request      Recorder          id, log, figures, failures
                 CORSMiddleware    only with --allow-origin
                 HostGuard         only without keys
                 KeyGuard          only with keys
                 Targets           HEAD, and paths that end in a slash
                 BodyReader        body limit; cancels what nobody waits for any more
                 MetricsRoute      /metrics
                 the application

It knows nothing of models: any ASGI application can stand behind it.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from nertune.errors import InputError, MissingExtraError
from nertune.serve.body import BodyReader
from nertune.serve.keys import VARIABLE, HostGuard, KeyGuard, KeyRing, read_keys
from nertune.serve.logs import Log, LogHandler, Recorder
from nertune.serve.metrics import Metrics, MetricsRoute
from nertune.serve.replies import ASGIApp
from nertune.serve.settings import Settings, is_loopback

try:
    import uvicorn
    from starlette.middleware.cors import CORSMiddleware

    from nertune.serve.protocol import LimitedProtocol
    from nertune.serve.targets import Targets
except ImportError as error:
    raise MissingExtraError("Serving", extra="serve") from error

__all__ = ["HttpServer", "serve_app", "shell"]

# File descriptors beside those of connections: models, log, listening socket, threads' pipes.
_OTHER_FILES = 256
# Connections that the kernel keeps until we take them, and those taken before anything else gets its turn (asyncio takes one
# number for both, and holds up every answer while a thousand clients come).
_QUEUE = 2048
_TAKEN_AT_ONCE = 16


def serve_app(app: ASGIApp, settings: Settings, *, metrics: Metrics | None = None, log: Log | None = None) -> int:
    """Serve until a signal ends it; returns the exit code: 0 after SIGTERM, 130 after SIGINT.

    Raises InputError for an address that cannot be listened on, for keys that cannot be used, and for an address beyond
    this machine without a key, unless `no_api_key`. A second signal ends at once what is still under way.
    """
    return HttpServer(app, settings, metrics=metrics, log=log).run()


def shell(app: ASGIApp, settings: Settings, keys: KeyRing, log: Log, metrics: Metrics) -> ASGIApp:
    """The layers around an application, the outermost last."""
    app = Targets(BodyReader(MetricsRoute(app, metrics), settings))
    app = KeyGuard(app, keys)
    app = HostGuard(app, settings, keys)
    if settings.allow_origin:
        app = CORSMiddleware(
            app,
            allow_origins=settings.allow_origin,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("authorization", "content-type", "x-request-id"),
            expose_headers=("x-request-id", "retry-after"),
        )
    return Recorder(app, log, metrics)


class HttpServer:
    """An application at an address: the socket is bound when this is made, and answers while `run` runs."""

    def __init__(
        self, app: ASGIApp, settings: Settings, *, metrics: Metrics | None = None, log: Log | None = None
    ) -> None:
        self._log = log or Log(text=settings.log_text)
        keys, warnings = read_keys(settings.api_key_file, os.environ)
        if not keys and not settings.no_api_key and not is_loopback(settings.host):
            raise InputError(
                f"--host {settings.host} lets other machines in, and there is no API key. Give --api-key-file FILE, "
                f"or set {VARIABLE}; --no-api-key serves everyone"
            )
        for warning in warnings:
            self._log.write("warning", level="warning", message=warning)
        self.settings = replace(settings, max_connections=self._affordable(settings.max_connections))
        self.metrics = metrics or Metrics()
        self._socket = _listen(settings.host, settings.port)
        self._server = _Server(self._config(app, keys))
        connections = self._server.server_state.connections
        self.metrics.gauge("http_connections", "Open connections", lambda: len(connections))

    @property
    def url(self) -> str:
        """Where it answers, with the port that was given or found."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> int:
        """Answer until a signal or `stop`; the exit code."""
        with self._logging():
            self._log.write("serving", url=self.url, pid=os.getpid())
            try:
                self._server.run(sockets=[self._socket])
            except SystemExit:  # uvicorn's way to say that the application did not start; the log has the reason
                return 1
            finally:
                self._socket.close()
            self._log.write("stopped", at_once=self._server.force_exit)
        return 130 if signal.SIGINT in self._server.signals else 0

    def stop(self) -> None:
        """From any thread, what SIGTERM does."""
        self._server.should_exit = True

    def close(self) -> None:
        """Give the address back, where `run` was never called."""
        self._socket.close()

    def _config(self, app: ASGIApp, keys: KeyRing) -> uvicorn.Config:
        settings = self.settings
        protocol: Any = functools.partial(LimitedProtocol, settings=settings, log=self._log, metrics=self.metrics)
        return uvicorn.Config(
            shell(app, settings, keys, self._log, self.metrics),
            http=protocol,
            ws="none",
            loop="asyncio",
            backlog=_TAKEN_AT_ONCE,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
            timeout_graceful_shutdown=settings.grace,  # type: ignore[arg-type]
        )

    def _affordable(self, wanted: int) -> int:
        """As many connections as there may be open files, after asking for more of those."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = wanted + _OTHER_FILES
        if soft < needed:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            message = f"the system allows {soft} open files (ulimit -n): --max-connections lowered from {wanted}"
            self._log.write("warning", level="warning", message=message)
        return max(1, min(wanted, soft - _OTHER_FILES))

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """What uvicorn and asyncio have to say goes into the log, while the server runs."""
        handler = LogHandler(self._log)
        loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio", "nertune")]
        before = [(logger.propagate, logger.level) for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.propagate = False
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, (propagate, level) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.propagate = propagate
                logger.setLevel(level)


class _Server(uvicorn.Server):
    """uvicorn's, but signals end it with an exit code of our own, and a second one of any kind ends it at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.signals: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if tasks := set(self.server_state.tasks):  # cancelled when the grace was over: let them say so
            await asyncio.wait(tasks, timeout=1)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.signals.append(sig)
        if self.should_exit:
            self.force_exit = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._abort)
        self.should_exit = True

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, LimitedProtocol):
                connection.abort()


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; InputError names the address and what is wrong with it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"--host {host}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_QUEUE)  # from now on the port is ours, and clients wait instead of being refused
    except OSError as error:
        listener.close()
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise InputError(f"--host {host} --port {port}: {reason}. Choose another, or 0 for any free port") from error
    return listener
