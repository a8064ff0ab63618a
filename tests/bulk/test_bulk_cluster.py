"""On Ray: the files that one process writes, whoever is killed. A local Ray of two processors and a small object store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray")


def _command(fakes, source: Path, out: Path) -> list[str]:
    return [sys.executable, fakes.__file__, str(source), str(out), "--ray", "--delay", "0.3"]


def _actors(driver: psutil.Process) -> list[psutil.Process]:
    return [child for child in driver.children(recursive=True) if "_Actor" in " ".join(child.cmdline())]


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def _listening(process: psutil.Process) -> list[str]:
    try:
        connections = process.net_connections()
    except psutil.NoSuchProcess:
        return []
    return [connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN]


def _wait_for_rows(out: Path, process: subprocess.Popen, rows: int) -> None:
    record = out.with_name(out.name + ".progress")
    while not record.exists() or json.loads(record.read_text())["standing"]["row"] < rows:
        assert process.poll() is None, "it ended too soon"
        time.sleep(0.05)


def _files(out: Path) -> tuple[bytes, bytes]:
    return out.read_bytes(), out.with_name(f"{out.stem}.failed.jsonl").read_bytes()


def _end_with_an_actor_killed(command: list[str], out: Path, after: int) -> None:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _wait_for_rows(out, process, after)
        driver = psutil.Process(process.pid)
        assert {ip for child in [driver, *driver.children(recursive=True)] for ip in _listening(child)} <= LOOPBACK
        actors = _actors(driver)
        assert actors
        actors[0].kill()
        said = process.stderr.read()
        assert process.wait() == 3, said


@pytest.mark.slow
def test_a_killed_actor_changes_nothing(fakes, job, tmp_path):
    source, whole, out = tmp_path / "rows.jsonl", tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    fakes.write_rows(source, 4000)
    job(source, whole)
    _end_with_an_actor_killed(_command(fakes, source, out), out, 256)
    assert _files(out) == _files(whole)


@pytest.mark.soak
def test_a_killed_driver_and_a_killed_actor_change_nothing(fakes, job, tmp_path):
    source, whole, out = tmp_path / "rows.jsonl", tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    fakes.write_rows(source, 8000)
    job(source, whole)
    with subprocess.Popen(
        _command(fakes, source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _wait_for_rows(out, process, 256)
        models = [child for actor in _actors(psutil.Process(process.pid)) for child in [actor, *actor.children()]]
        assert len(models) >= 4
        process.send_signal(signal.SIGKILL)
    done = json.loads(out.with_name("out.jsonl.progress").read_text())["standing"]["row"]
    assert done < 8000
    _, alive = psutil.wait_procs(models, timeout=30)
    assert not [child for child in alive if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    _end_with_an_actor_killed(_command(fakes, source, out), out, done + 256)
    assert _files(out) == _files(whole)
