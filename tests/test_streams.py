"""stdin, stdout, pipes and devices in place of files, and whose fault it is where something cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nertune import data
from nertune.atomic import is_stream, write_text
from nertune.cli import build_parser, main
from nertune.data import decoding
from nertune.errors import DiskSpaceError

ROWS = [
    {"text": "方鹏在南京", "entities": [{"label": "PER", "start": 0, "end": 2, "text": "方鹏"}]},
    {"text": "叶老桂来了", "entities": [{"label": "PER", "start": 0, "end": 3, "text": "叶老桂"}]},
]


@pytest.fixture
def rows(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    return path


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`nertune` stands for the command."""
    command = command.replace("nertune", f"{sys.executable} -m nertune")
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("command", ["data convert - - --to inline", "data show -", "data audit -", "score - {rows}"])
def test_stdin_is_read_where_a_file_is(rows, monkeypatch, capfd, command):
    monkeypatch.setattr(decoding, "_copies", {})
    with rows.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", os.fdopen(os.dup(file.fileno())))
        assert main([part.format(rows=rows) for part in command.split()]) == 0
    if "convert" in command:
        assert capfd.readouterr().out == "[方鹏 | PER]在南京\n[叶老桂 | PER]来了\n"


@pytest.mark.parametrize(
    "command", [["data", "split", "-", "--out", "parts"], ["data", "audit", "{rows}", "--fix", "-"]]
)
def test_what_needs_a_file_says_so_before_anything_is_written(rows, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([part.format(rows=rows) for part in command]) == 2
    assert "file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.slow
def test_pipes_are_read_and_written(rows, tmp_path):
    done = shell("nertune score <(cat rows.jsonl) rows.jsonl --json", tmp_path)
    assert (done.returncode, json.loads(done.stdout)["documents"]) == (0, 2)
    done = shell("nertune data convert rows.jsonl /dev/stdout --to inline | head -1", tmp_path)
    assert (done.returncode, done.stdout) == (0, "[方鹏 | PER]在南京\n")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.slow
def test_a_full_disk_behind_stdout_is_not_the_inputs_fault_and_is_exit_code_1(rows, tmp_path):
    for command in ("data convert rows.jsonl - --to inline", "score rows.jsonl rows.jsonl --json"):
        done = shell(f"nertune {command} > /dev/full", tmp_path)
        assert done.returncode == 1
        assert "stdout: no room left" in done.stderr
        assert "rows.jsonl: no room" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_a_full_device_is_named():
    with pytest.raises(DiskSpaceError, match="/dev/full: no room left") as full:
        write_text("/dev/full", "x")
    assert full.value.exit_code == 1


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{rows}", "is the file to be converted, and would be replaced; name another target"),
        ("nowhere/x.jsonl", "nowhere/x.jsonl: there is no directory"),
    ],
)
def test_the_message_names_the_file_that_is_at_fault(rows, tmp_path, monkeypatch, capsys, target, said):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "convert", str(rows), target.format(rows=rows)]) == 2
    assert said in capsys.readouterr().err
    assert "left-out" not in capsys.readouterr().err


@pytest.mark.parametrize("link", [False, True])
def test_the_input_is_never_to_be_deleted(rows, tmp_path, capsys, link):
    target = rows
    if link:
        target = tmp_path / "same.jsonl"
        target.symlink_to(rows)
    for arguments in (
        [str(rows), "-o", str(target)],
        ["-o", str(target), str(rows)],
        [str(rows), "-o", str(target), "--show"],
    ):
        assert main(["extract", str(tmp_path), *arguments]) == 2
        assert "is the file that is read, and would be replaced; name another --out" in capsys.readouterr().err
    assert data.read(rows).documents[0].text == "方鹏在南京"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "extract http://h/v1#m --labels 人名 texts.txt",
            {"model": "http://h/v1#m", "labels": "人名", "source": "texts.txt"},
        ),
        ("extract --labels 人名 http://h/v1#m texts.txt", {"model": "http://h/v1#m", "source": "texts.txt"}),
        ("train r.yaml a=1 --resume b=2", {"recipe": "r.yaml", "overrides": ["a=1", "b=2"], "resume": True}),
        ("data audit a --json b", {"files": ["a", "b"], "json": True}),
        ("data convert a --to inline b", {"source": "a", "target": "b", "target_format": "inline"}),
        ("serve a --port 0 b -- --dtype float16", {"runs": ["a", "b"], "port": 0}),
        ("extract r -- -odd.txt", {"model": "r", "source": "-odd.txt"}),
        ("extract r --text -5", {"model": "r", "text": "-5"}),
    ],
)
def test_options_and_arguments_stand_in_any_order(arguments, expected):
    found = vars(build_parser().parse_args(arguments.split()))
    assert {key: found[key] for key in expected} == expected


def test_a_stream_is_told_from_a_file(rows, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert [is_stream(path) for path in ("-", "/dev/null", tmp_path / "pipe")] == [True] * 3
    assert [is_stream(path) for path in (rows, tmp_path, tmp_path / "none")] == [False] * 3
