"""The toy application behind the HTTP shell on a loopback port, in a thread; and a client that sends bytes as it likes."""

from __future__ import annotations

import importlib.util
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nertune.serve.http import HttpServer
from nertune.serve.keys import VARIABLE
from nertune.serve.logs import Log
from nertune.serve.settings import Settings

TOY = Path(__file__).with_name("toy.py")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """What OpenAI's clients find in a refusal."""
        assert self.headers["content-type"] == "application/json"
        found = json.loads(self.body)["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found


class Client:
    """One connection. `reply` reads one answer of a known length; `rest` what comes until the end."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, target: str, *, method: str = "GET", body: bytes = b"", **headers: str) -> None:
        fields = {"host": "127.0.0.1", "content-length": str(len(body)), **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    def reply(self) -> Reply:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(": ")
            headers[name.lower()] = value
        return Reply(status, headers, self._file.read(int(headers.get("content-length", 0))))

    def rest(self) -> bytes:
        """Until the server closes; a reset counts as that."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class Served:
    """A running server: its toy, its log's lines so far, and clients of it."""

    def __init__(self, toy: Any, settings: Settings) -> None:
        self.toy = toy
        self.log = io.StringIO()
        log = Log(self.log, text=settings.log_text)
        self.server = HttpServer(toy.app, settings, metrics=toy.metrics, log=log)
        self.port = int(self.server.url.rpartition(":")[2])
        self._clients = ExitStack()

    def client(self) -> Client:
        client = Client(self.port)
        self._clients.callback(client.close)
        return client

    def ask(self, target: str, **options: Any) -> Reply:
        client = self.client()
        client.ask(target, **options)
        return client.reply()

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in found if line["event"] == event]

    def figure(self, name: str, **labels: str) -> float:
        return self.toy.metrics.registry.get_sample_value(f"nertune_{name}", labels) or 0.0

    @contextmanager
    def running(self) -> Iterator[Served]:
        thread = threading.Thread(target=self.server.run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._clients.close()
            self.server.stop()
            thread.join(60)


@pytest.fixture(scope="session")
def toys() -> Any:
    """The module toy.py."""
    specification = importlib.util.spec_from_file_location("nertune_toy", TOY)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def serve(toys: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    """A function from settings to a running server; its patience is 0.3 s unless told."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            Served(toys.Toy(), Settings(**{"port": 0, "patience": 0.3, "grace": 2.0, **settings})).running()
        )


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until something is so; an error after a minute."""

    def wait(condition: Callable[[], Any], *, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.01)

    return wait
