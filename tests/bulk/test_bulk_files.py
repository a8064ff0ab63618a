"""A job on a file: two files in order, gone on with from any kill, refused where it would go on with something else."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nertune.errors import EndpointError, InputError
from nertune.extract.bulk import CHUNK, Output
from nertune.extract.bulk import output as outputs

FAKES = Path(__file__).with_name("bulk_fakes.py")


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def rows(tmp_path, fakes) -> Path:
    path = tmp_path / "rows.jsonl"
    fakes.write_rows(path, 1000)
    return path


def _files(out: Path) -> tuple[bytes, bytes]:
    return out.read_bytes(), out.with_name(f"{out.stem}.failed.jsonl").read_bytes()


def test_every_row_is_in_one_of_the_two_files_in_order(job, rows, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert job(rows, out) == 3
    assert [row["id"] for row in _rows(out)] == [str(n) for n in range(1, 1001) if n not in (317, 517, 717)]
    assert _rows(out)[0] == {
        "id": "1",
        "text": "第1句",
        "entities": [{"start": 0, "end": 1, "label": "first", "text": "第", "score": 0.333333}],
        "ungrounded": [],
        "stop": "end",
    }
    refused, broken, blown = _rows(tmp_path / "out.failed.jsonl")
    assert refused == {"row": 317, "id": "317", "reason": "cannot be used", "text": "第317句毒"}
    assert blown == {"row": 717, "id": "717", "reason": "ZeroDivisionError: a bug", "text": "第717句炸"}
    assert (broken["row"], broken["id"], broken["text"]) == (517, None, None)
    assert broken["reason"].startswith("broken JSON")
    assert "3 of 1000 rows failed" in capsys.readouterr().err
    assert job(rows, out, resume=True, factory=None) == 3
    assert "is complete" in capsys.readouterr().err


def test_an_output_is_never_written_over(job, rows, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    for resume in (False, True):
        with pytest.raises(InputError, match="is there" if resume else "same command with --resume"):
            job(rows, out, resume=resume)
    assert out.read_text() == "precious"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "other"}, 'model was "fake", is now "other"'),
        ({"settings": {"window": 64}}, "settings window was null, is now 64"),
        ({"source": "longer"}, "input"),
    ],
)
def test_a_job_is_not_gone_on_with_from_something_else(job, rows, tmp_path, changes, expected):
    out = tmp_path / "out.jsonl"
    job(rows, out)
    if changes.pop("source", None):
        rows.write_text(rows.read_text(encoding="utf-8") + '{"text": "more"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=expected):
        job(rows, out, resume=True, **changes)


def test_a_model_is_known_by_its_files(job, rows, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "nertune.json").write_text("{}")
    (run / "adapter_model.safetensors").write_bytes(b"one")
    job(rows, tmp_path / "out.jsonl", model=str(run))
    (run / "adapter_model.safetensors").write_bytes(b"two")
    with pytest.raises(InputError, match=r"adapter_model.safetensors sha256 was"):
        job(rows, tmp_path / "out.jsonl", model=str(run), resume=True)


def test_a_shortened_or_missing_output_is_not_gone_on_with(job, rows, tmp_path):
    out = tmp_path / "out.jsonl"
    job(rows, out)
    record = out.with_name("out.jsonl.progress")
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    os.truncate(out, 100)
    with pytest.raises(InputError, match=r"is shorter \(100 bytes\)"):
        job(rows, out, resume=True)
    out.unlink()
    with pytest.raises(InputError, match=r"is shorter \(0 bytes\)"):
        job(rows, out, resume=True)


def test_a_torn_line_is_cut_off_and_nothing_is_done_twice(job, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_SECONDS", 0)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    job(rows, whole)
    write, calls = Output.write, []

    def stop_after_two(self, outcomes):
        write(self, outcomes)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Output, "write", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        job(rows, out)
    assert len(_rows(out)) == 2 * CHUNK - 1
    with out.open("ab") as file:
        file.write(b'{"id": "torn')
    with out.with_name("out.failed.jsonl").open("ab") as file:
        file.write(b'{"row": 4')
    assert job(rows, out, resume=True) == 3
    assert len(calls) == 4
    assert _files(out) == _files(whole)


def test_a_job_that_did_nothing_leaves_nothing(job, tmp_path):
    source = tmp_path / "rows.txt"
    source.write_text("断\n")
    with pytest.raises(EndpointError):
        job(source, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.txt"]


def test_a_bug_that_meets_every_text_is_told_as_it_is(job, tmp_path):
    source = tmp_path / "rows.txt"
    source.write_text("炸\n炸\n")
    with pytest.raises(ZeroDivisionError):
        job(source, tmp_path / "out.jsonl")


def test_two_processes_do_not_write_one_file(tmp_path):
    out = tmp_path / "out.jsonl"
    second = Output(out, tmp_path / "failed", {}, resume=True)
    with (
        Output(out, tmp_path / "failed", {}, resume=True),
        pytest.raises(InputError, match="being written by another process"),
    ):
        second.__enter__()


def test_gzipped_input_is_gone_on_with_too(job, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_SECONDS", 0)
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    job(packed, tmp_path / "whole.jsonl")
    write = Output.write

    def stop(self, outcomes):
        write(self, outcomes)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Output, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            job(packed, tmp_path / "out.jsonl")
    assert job(packed, tmp_path / "out.jsonl", resume=True) == 3
    assert _files(tmp_path / "out.jsonl") == _files(tmp_path / "whole.jsonl")


def _kill_again_and_again(source: Path, out: Path, kills: int, *, delay: float, draw: random.Random) -> None:
    """Start a job and kill it at a random moment of its work, so many times, then let it end; chunks take `delay` seconds."""
    command = [sys.executable, str(FAKES), str(source), str(out)]
    for _ in range(kills):
        with subprocess.Popen(
            [*command, "--delay", str(delay)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout.readline() == b"begins\n"
            time.sleep(draw.uniform(0, 1.2))
            process.kill()
            assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    done = json.loads(out.with_name(out.name + ".progress").read_text())["standing"]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 3, ended.stderr
    print(f"{kills} kills, {done['row']} rows before the last start")


@pytest.mark.slow
def test_a_killed_job_goes_on_to_the_same_bytes(job, fakes, tmp_path):
    source = tmp_path / "rows.jsonl"
    fakes.write_rows(source, 2000)
    job(source, tmp_path / "whole.jsonl")
    _kill_again_and_again(source, tmp_path / "out.jsonl", 4, delay=0.4, draw=random.Random(1))
    assert _files(tmp_path / "out.jsonl") == _files(tmp_path / "whole.jsonl")


@pytest.mark.soak
def test_a_hundred_kills_of_a_hundred_thousand_rows(job, fakes, tmp_path):
    source = tmp_path / "rows.jsonl"
    fakes.write_rows(source, 100_000)
    job(source, tmp_path / "whole.jsonl")
    assert len(_rows(tmp_path / "whole.jsonl")) == 100_000 - 300
    _kill_again_and_again(source, tmp_path / "out.jsonl", 100, delay=0.2, draw=random.Random(2))
    assert _files(tmp_path / "out.jsonl") == _files(tmp_path / "whole.jsonl")
