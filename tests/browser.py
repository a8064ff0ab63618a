"""Chromium, driven over its DevTools protocol, for the tests of pages."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

__all__ = ["Browser", "chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Browser:
    """Chromium over its DevTools protocol, one page at a time."""

    def __init__(self, address: str) -> None:
        parts = urlparse(address)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            pass
        self._number = 0
        self.heard: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command; events that come before it are kept in `heard`."""
        self._number += 1
        self._send(json.dumps({"id": self._number, "method": method, "params": parameters}).encode())
        while True:
            message = json.loads(self._receive())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.heard.append(message)

    def open(self, page: Path, *, width: int = 1200) -> None:
        """Show a file and wait until it is drawn."""
        self.heard.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=page.as_uri())
        for _ in range(600):
            time.sleep(0.05)
            if self.run("document.documentElement?.dataset.ready === 'yes' && document.readyState === 'complete'"):
                return
        raise AssertionError(f"the page was not drawn: {self.heard}")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def events(self, method: str) -> list[dict[str, Any]]:
        self.run("0")  # what came before it has been heard
        return [message["params"] for message in self.heard if message.get("method") == method]

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _send(self, content: bytes) -> None:
        size = len(content)
        head = bytes([0x81])
        head += bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size)
        if size >= 65_536:
            raise ValueError("too long a command")
        self._socket.sendall(head + b"\0\0\0\0" + content)  # masked with zeros

    def _receive(self) -> bytes:
        content = b""
        while True:
            first, size = self._file.read(2)
            if size >= 126:
                size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
            content += self._file.read(size)
            if first & 0x80:
                return content


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; tests that need it are skipped where there is none (apt-get install chromium fonts-noto-cjk)."""
    program = os.environ.get("NERTUNE_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium found: apt-get install chromium fonts-noto-cjk")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        arguments += ["--disable-dev-shm-usage", "--disable-background-networking", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [program, *arguments, "about:blank"], stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield _connected(Path(profile) / "DevToolsActivePort", process)
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def _connected(file: Path, process: subprocess.Popen[bytes]) -> Browser:
    for _ in range(600):
        if process.poll() is not None:
            break
        if file.is_file() and "\n" in (content := file.read_text()):
            port = content.split("\n")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            if pages:
                return Browser(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    pytest.skip("Chromium is there and does not start")
