"""Where the server listens, how it is stopped, and what the command line makes of it; also under python -O."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nertune.errors import InputError
from nertune.serve.http import HttpServer, serve_app
from nertune.serve.settings import Settings, add_server_options, is_loopback, settings_of

TOY = Path(__file__).with_name("toy.py")


class Process:
    """The toy's server as a process; `port` is where it says it serves."""

    def __init__(self, *options: str, optimized: bool = False) -> None:
        command = [sys.executable, *(["-O"] if optimized else []), str(TOY), "--port", "0", *options]
        environment = {name: value for name, value in os.environ.items() if name != "NERTUNE_API_KEY"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines = [json.loads(self.process.stderr.readline())]
        while self.lines[-1]["event"] != "serving":
            self.lines.append(json.loads(self.process.stderr.readline()))
        self.port = int(self.lines[-1]["url"].rpartition(":")[2])

    def connect(self, target: str) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        client.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return client

    def busy(self, requests: int) -> None:
        """Wait until so many requests are under way."""
        while f"requests_in_flight {requests + 1}.0" not in self.get("/metrics"):
            time.sleep(0.02)

    def wait_until_deaf(self) -> None:
        """Wait until nobody listens any more."""
        while True:
            try:
                self.connect("/health").close()
            except ConnectionRefusedError:
                return
            except ConnectionError:
                pass  # it closed in this very moment
            time.sleep(0.02)

    def get(self, target: str) -> str:
        with self.connect(target) as client, client.makefile("rb") as file:
            head = b"".join(iter(file.readline, b"\r\n")).decode()
            return file.read(int(head.partition("content-length: ")[2].split()[0])).decode()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        code = self.process.wait(60)
        self.lines += [json.loads(line) for line in self.process.stderr]
        return code


@pytest.fixture
def process():
    with contextlib.ExitStack() as stack:

        def start(*options: str, **named: bool) -> Process:
            started = Process(*options, **named)
            stack.callback(started.process.stderr.close)
            stack.callback(started.process.wait)
            stack.callback(started.process.kill)
            return started

        yield start


def read_all(client: socket.socket) -> str:
    with contextlib.suppress(ConnectionResetError), client.makefile("rb") as file:
        return file.read().decode()
    return ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("optimized", [False, True])
def test_a_signal_ends_it_when_what_was_accepted_is_finished_and_nothing_new_gets_in(process, number, code, optimized):
    served = process(optimized=optimized)
    waiting, streaming = served.connect("/wait/a?seconds=1.5"), served.connect("/stream/b?n=15&pause=0.1")
    served.busy(2)
    served.signal(number)
    served.wait_until_deaf()
    assert read_all(waiting).endswith('{"name":"a"}')
    assert "data: b 14" in read_all(streaming)
    assert served.end() == code
    assert [line["status"] for line in served.lines if line["event"] == "request"].count(200) >= 3  # /metrics, too
    assert served.lines[-1]["event"] == "stopped"
    assert {line["level"] for line in served.lines} == {"info"}


def test_what_is_not_finished_within_the_grace_is_told_or_cut_off(process):
    served = process("--grace", "0.3")
    waiting, streaming = served.connect("/wait/a"), served.connect("/stream/b?n=1000")
    served.busy(2)
    served.signal(signal.SIGTERM)
    assert "503 Service Unavailable" in read_all(waiting)
    assert not read_all(streaming).endswith("0\r\n\r\n")
    assert served.end() == 0
    assert [line["status"] for line in served.lines if line.get("path") in ("/wait/a", "/stream/b")] == [503, 503]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(process, second):
    served = process("--grace", "3600")
    client = served.connect("/stream/b?n=100000")
    served.busy(1)
    served.signal(signal.SIGTERM)
    time.sleep(0.3)
    served.signal(second)
    assert served.end() == (0 if second is signal.SIGTERM else 130)
    assert served.lines[-1]["at_once"] is True
    client.close()


def test_the_limits_hold_under_python_o(process, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("key-of-sixteen-letters\n", encoding="utf-8")
    keys.chmod(0o600)
    served = process("--api-key-file", str(keys), "--patience", "0.3", "--max-body", "1k", optimized=True)
    assert " 401 " in read_all(served.connect("/health"))
    for sent, status in (
        (b"GET /health HTTP/1.1\r\n", " 408 "),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", " 431 "),
        (
            b"POST /echo HTTP/1.1\r\nhost: a\r\nauthorization: Bearer key-of-sixteen-letters\r\ncontent-length: 9999\r\n\r\n",
            " 413 ",
        ),
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as client:
            client.sendall(sent)
            assert status in read_all(client).partition("\r\n")[0]
    served.signal(signal.SIGTERM)
    assert served.end() == 0


def test_an_address_beyond_this_machine_wants_a_key_or_a_word(toys, monkeypatch):
    monkeypatch.delenv("NERTUNE_API_KEY", raising=False)
    with pytest.raises(InputError, match="--api-key-file FILE, or set NERTUNE_API_KEY; --no-api-key"):
        serve_app(toys.Toy().app, Settings(host="0.0.0.0", port=0))
    HttpServer(toys.Toy().app, Settings(host="0.0.0.0", port=0, no_api_key=True)).close()
    monkeypatch.setenv("NERTUNE_API_KEY", "key-of-sixteen-letters")
    HttpServer(toys.Toy().app, Settings(host="0.0.0.0", port=0)).close()


def test_a_port_that_is_taken_and_a_host_that_is_not_ours_are_named(toys, serve):
    port = serve().port
    with pytest.raises(InputError, match=f"--port {port}: another program listens there"):
        serve_app(toys.Toy().app, Settings(port=port))
    with pytest.raises(InputError, match="--host nowhere"):
        serve_app(toys.Toy().app, Settings(host="nowhere.invalid", no_api_key=True))


def test_only_addresses_of_this_machine_are_loopback():
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", "")] == [False] * 5


def parsed(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_server_options(parser)
    return settings_of(parser.parse_args(arguments))


def test_the_command_line_without_options_gives_the_defaults():
    assert parsed() == Settings()


def test_the_command_line_sets_what_it_says():
    found = parsed(
        *("--host", "::1", "--port", "9000", "--max-body", "2M", "--max-connections", "5", "--patience", "3"),
        *("--grace", "7.5", "--log-text", "--allow-origin", "*", "--allow-origin", "https://a.example:8443"),
        *("--allow-host", "NER.example", "--no-api-key", "--api-key-file", "keys"),
    )
    assert found == Settings(
        host="::1",
        port=9000,
        max_body=2 * 1024 * 1024,
        max_connections=5,
        patience=3.0,
        grace=7.5,
        log_text=True,
        allow_origin=("*", "https://a.example:8443"),
        allow_host=("ner.example",),
        no_api_key=True,
        api_key_file=Path("keys"),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "65536"),
        ("--port", "x"),
        ("--max-body", "0"),
        ("--max-body", "ten"),
        ("--patience", "0"),
        ("--grace", "nan"),
    ],
)
def test_values_of_no_use_are_refused(arguments):
    with pytest.raises(argparse.ArgumentError):
        parsed(*arguments)


def test_an_origin_is_scheme_and_host():
    with pytest.raises(InputError, match="an origin is"):
        parsed("--allow-origin", "page.example")
