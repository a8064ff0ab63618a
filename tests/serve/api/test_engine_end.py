"""The ends of a process with a real engine in it: the server's SIGTERM with answers on their way, a killed file extraction."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from nertune.cli import main

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TEXT = "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读"
STREAMS, TEXTS = 4, 3


@contextmanager
def _serving(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    environment = {name: value for name, value in os.environ.items() if name != "NERTUNE_API_KEY"}
    command = [sys.executable, "-m", "nertune", "serve", f"ner={run}", "--port", "0", *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = next(line for line in iter(server.stderr.readline, "") if "ner at http" in line)
            yield server, line.split()[-1]
        finally:
            server.kill()


def _stream(client: httpx.Client, begun: list[int]) -> list[str]:
    """The events of a long answer; `begun` gets a number when the first piece of it is there."""
    body = {
        "model": "ner",
        "messages": [{"role": "user", "content": TEXT}],
        "max_tokens": 1200,
        "stream": True,
        "structured_outputs": {"regex": "[a-z]{1000,1200}"},
    }
    events = []
    with client.stream("POST", "/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line:
                events.append(line.removeprefix("data: "))
            if len(events) == 3:
                begun.append(1)
    return events


def test_sigterm_finishes_what_the_engine_is_at(tiny_run):
    """Streams end with their [DONE], texts are read, nothing new is taken, and the exit code is 0."""
    with _serving(tiny_run) as (server, url), httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        begun: list[int] = []
        with ThreadPoolExecutor(STREAMS + TEXTS) as pool:
            streams = [pool.submit(_stream, client, begun) for _ in range(STREAMS)]
            while len(begun) < STREAMS:
                assert not any(job.done() for job in streams), [job.result() for job in streams if job.done()]
                time.sleep(0.01)
            texts = [pool.submit(client.post, "/extract", json={"text": TEXT * 8}) for _ in range(TEXTS)]
            health = url.removesuffix("/v1") + "/health"
            while httpx.get(health, trust_env=False).json()["unfinished"] < STREAMS + TEXTS:
                assert not any(job.done() for job in (*streams, *texts))
            server.send_signal(signal.SIGTERM)
            for job in streams:
                events = job.result()
                assert events[-1] == "[DONE]"
                assert json.loads(events[-2])["choices"][0]["finish_reason"] in ("stop", "length")
            for job in texts:
                assert (job.result().status_code, job.result().json()["text"]) == (200, TEXT * 8)
        log = [json.loads(line) for line in server.stderr.read().splitlines() if line.startswith("{")]
        assert server.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(health, trust_env=False)
    answered = [line["status"] for line in log if line["event"] == "request" and line["method"] == "POST"]
    assert answered == [200] * (STREAMS + TEXTS)
    assert not [line for line in log if line["event"] == "failure" or line["level"] == "error"]


def test_what_is_not_done_when_the_grace_is_over_is_told_or_cut_off(tiny_run):
    with (
        _serving(tiny_run, "--grace", "0.2") as (server, url),
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        begun: list[int] = []
        stream = pool.submit(_stream, client, begun)
        while not begun:
            assert not stream.done()
            time.sleep(0.01)
        text = pool.submit(client.post, "/extract", json={"texts": [TEXT * 8] * 200})
        time.sleep(0.3)
        server.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError):
            stream.result()
        assert (text.result().status_code, text.result().json()["error"]["code"]) == (503, "stopping")
        log = server.stderr.read()
        assert server.wait(60) == 0
    assert '"event": "failure"' not in log


def _row(out: Path) -> int:
    """After which row a job would go on."""
    record = out.with_name(out.name + ".progress")
    return int(json.loads(record.read_text())["standing"]["row"]) if record.exists() else 0


def _kill_after(command: list[str], out: Path, row: int) -> None:
    """Start a job and kill it, not its children, when rows after `row` are seen to be on the disk."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while _row(out) <= row:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.soak
def test_a_file_extraction_killed_twice_writes_what_one_that_was_not_writes(tiny_run, tmp_path):
    """First in one process, then with two workers; these end it. Two rows are refused."""
    rows = [f"第{number}句：{TEXT[number % 9 : number % 9 + 4]}" for number in range(1, 1025)]
    rows[300] = rows[900] = ""
    source, whole, out = tmp_path / "rows.jsonl", tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    options = ["--unconstrained", "--max-new-tokens", "8"]
    assert main(["extract", str(tiny_run), str(source), "-o", str(whole), *options]) == 3
    command = [
        sys.executable,
        "-m",
        "nertune",
        "extract",
        str(tiny_run),
        str(source),
        "-o",
        str(out),
        *options,
        "--resume",
    ]
    _kill_after(command, out, 0)
    done = _row(out)
    _kill_after([*command, "--workers", "2"], out, done)
    assert done < _row(out) < len(rows)
    ended = subprocess.run([*command, "--workers", "2"], capture_output=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert len(whole.read_text(encoding="utf-8").splitlines()) == len(rows) - 2
    failed = [tmp_path / f"{name}.failed.jsonl" for name in ("out", "whole")]
    assert failed[0].read_bytes() == failed[1].read_bytes()
