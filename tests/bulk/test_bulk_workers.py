"""Recognizers in processes of their own: the same outcomes in the same order, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest

from nertune.extract.bulk import Workers, chunked, recognize
from nertune.extract.bulk.workers import WorkerError
from nertune.schema import SourceText


def _rows(count: int, marks: dict[int, str] | None = None) -> list[SourceText]:
    return [SourceText(str(n), f"第{n}句{(marks or {}).get(n, '')}", n) for n in range(1, count + 1)]


def _run(workers: Workers, rows: list[SourceText], size: int) -> list:
    return [outcome for outcomes in workers.run(chunked(rows, size)) for outcome in outcomes]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(fakes):
    rows = _rows(100, {7: "毒", 50: "炸"})
    rows[20] = rows[20]._replace(problem="no text")
    expected = [outcome for chunk in chunked(rows, 8) for outcome in recognize(fakes.make(), chunk)]
    with Workers(fakes.make, 2) as workers:
        assert _run(workers, rows, 8) == expected


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_its_chunk_done_again(fakes):
    with Workers(partial(fakes.make, 6.0), 1) as workers:
        outcomes = workers.run(chunked(_rows(40), 8))
        found = list(next(outcomes))
        os.kill(workers.pids[0], signal.SIGKILL)
        found += [outcome for chunk in outcomes for outcome in chunk]
    assert [outcome.source.row for outcome in found] == list(range(1, 41))
    assert all(outcome.prediction for outcome in found)


@pytest.mark.slow
def test_a_row_that_kills_is_found_and_fails_alone(fakes):
    with Workers(fakes.make, 1) as workers:
        found = _run(workers, _rows(8, {3: "杀"}), 4)
    assert [outcome.source.row for outcome in found] == list(range(1, 9))
    (failed,) = [outcome for outcome in found if outcome.prediction is None]
    assert failed.source.row == 3
    assert failed.reason == "the process that read it was killed by signal 9, each of 3 times"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "text", "expected", "exit_code"),
    [
        ("fail_to_make", "好", "no such run", 2),
        ("die", "好", "was killed by signal 9 before it was ready", 1),
        ("make", "断", "the server is gone", 2),
    ],
)
def test_what_is_no_rows_fault_ends_the_job(fakes, factory, text, expected, exit_code):
    with Workers(getattr(fakes, factory), 1) as workers, pytest.raises(WorkerError, match=expected) as failed:
        _run(workers, [SourceText(None, text)], 4)
    assert failed.value.exit_code == exit_code


@pytest.mark.slow
def test_a_killed_job_leaves_no_process_behind_and_goes_on_with_workers(fakes, job, tmp_path):
    source = tmp_path / "rows.jsonl"
    fakes.write_rows(source, 520, killers=[515])
    command = [sys.executable, fakes.__file__, str(source), str(tmp_path / "out.jsonl"), "--workers", "2"]
    with subprocess.Popen([*command, "--delay", "0.5"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"begins\n"
        while not (tmp_path / "out.jsonl").exists() or not (tmp_path / "out.jsonl").stat().st_size:
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    psutil.wait_procs(children, timeout=20)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 3, ended.stderr
    fakes.write_rows(source, 520)
    job(source, tmp_path / "whole.jsonl")
    written = (tmp_path / "out.jsonl").read_bytes().splitlines()
    expected = [line for line in (tmp_path / "whole.jsonl").read_bytes().splitlines() if b'"id": "515"' not in line]
    assert written == expected
    assert (tmp_path / "out.failed.jsonl").read_text(encoding="utf-8").count("was killed by signal 9") == 1
