"""A server in a process of its own: started without a shell, awaited, and ended with whatever it started itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from nertune.errors import EndpointError, InputError

__all__ = ["LaunchedServer"]

_EVERY = 0.5  # seconds between two looks at it
_PATIENCE = 30.0  # seconds that it has to end by itself
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LaunchedServer:
    """A server on this machine; use it as a context manager, inside of which it answers.

    `health`: the address that answers 200 once it is ready. `minutes`: how long that may take. `log`: where its output goes,
    appended. Entering raises InputError for a program that cannot be run, EndpointError with the log's last lines where it
    ends before it is ready or takes too long.
    """

    def __init__(
        self, command: Sequence[str], *, health: str, environment: Mapping[str, str], log: Path, minutes: float = 15
    ) -> None:
        self._command, self._environment = list(command), dict(environment)
        self.health, self.log, self._minutes = health, log, minutes
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LaunchedServer:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise InputError(f"{self._command[0]} cannot be run: {error.strerror or error}") from error
        try:
            self._wait_until_ready()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def code(self) -> int | None:
        """The exit code of a server that has ended; None while it runs."""
        return self._process.poll() if self._process else None

    def failure(self) -> EndpointError:
        """What is to be said of a server that ended by itself."""
        return EndpointError(f"the server ended with exit code {self.code}; {self._last()}")

    def end(self) -> None:
        """End the server and its children, which are a session of their own: asked first, then made to."""
        process = self._process
        if process is None:
            return
        for sign, patience in ((signal.SIGTERM, _PATIENCE), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                break
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        process.wait()

    def last_lines(self, count: int = 15) -> str:
        """What the server said last."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-count:])

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60 * self._minutes
        while not self._ready():
            if self.code is not None:
                raise EndpointError(f"the server ended with exit code {self.code} before it was ready; {self._last()}")
            if time.monotonic() > deadline:
                raise EndpointError(f"the server was not ready after {self._minutes:g} minutes; {self._last()}")
            time.sleep(_EVERY)

    def _ready(self) -> bool:
        try:
            with _NO_PROXY.open(self.health, timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def _last(self) -> str:
        return f"its last lines ({self.log}):\n{self.last_lines()}"
