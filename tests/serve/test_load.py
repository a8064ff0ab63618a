"""Many clients at a time: none lost, none crossed, the memory flat, and /health answers beside them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def loads() -> Any:
    """The module load.py, under a name that its dataclasses find."""
    specification = importlib.util.spec_from_file_location("nertune_load", HERE / "load.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    module.raise_file_limit()
    return module


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[int, int]]:
    """Process id and port of a server of its own, whose log goes to a file."""
    environment = {name: value for name, value in os.environ.items() if name != "NERTUNE_API_KEY"}
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "toy.py"), "--port", "0"], stderr=stderr, env=environment
        )
    try:
        while not (lines := [json.loads(line) for line in log.read_text().splitlines() if '"serving"' in line]):
            assert process.poll() is None
        yield process.pid, int(lines[0]["url"].rpartition(":")[2])
        process.terminate()
        assert process.wait(60) == 0
        assert '"error"' not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_two_hundred_clients_get_their_own_answers(loads, server):
    pid, port = server
    report = asyncio.run(loads.load(port, pid=pid, clients=200, seconds=3, asking=loads.Asking(), every=1))
    assert (report.lost, report.crossed, report.failures) == (0, 0, {})
    assert report.answered > 200
    assert len(report.health) > 10


@pytest.mark.soak
def test_a_thousand_clients_for_ten_minutes_lose_nothing_and_the_memory_stays_flat(loads, server):
    pid, port = server
    seconds = float(os.environ.get("NERTUNE_LOAD_SECONDS", "600"))
    report = asyncio.run(
        loads.load(port, pid=pid, clients=1000, seconds=seconds, asking=loads.Asking(), every=seconds / 20)
    )
    print(json.dumps(report.lines()))
    assert (report.lost, report.crossed, report.failures) == (0, 0, {})
    assert report.answered > 1000
    # A client's thirtieth question goes over a new connection, and all thousand come to it in the fourth minute: what twice as
    # many sockets take for a moment, the process keeps. From then on nothing may be added, by the next such time either.
    first, last = report.memory[9], max(report.memory[10:])
    assert last < first * 1.05 + 2**20
    assert loads.quantile(report.health, 0.99) < 0.1
