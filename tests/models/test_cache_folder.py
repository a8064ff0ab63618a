"""The cache of converted models: where it lies, and two processes that want the same model at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nertune.models import cache_folder
from nertune.models.builtin import builtin_folder

# Says when it converts, goes on when told to, and prints the folder it got.
CONVERTING = textwrap.dedent("""
    from nertune.models import builtin
    builtin.find_spec = lambda name: object()
    def convert(scratch, built, report):
        built.mkdir()
        (built / "config.json").write_text("{}")
        print("converting", flush=True)
        input()
    builtin._convert = convert
    print(builtin.ensure_builtin(), flush=True)
""")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"NERTUNE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/nertune"),
        ({"XDG_CACHE_HOME": ""}, "/h/.cache/nertune"),
        ({}, "/h/.cache/nertune"),
    ],
)
def test_the_environment_says_where_models_live(monkeypatch, variables, expected):
    for name in ("NERTUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/h", **variables}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
    assert builtin_folder().parent == cache_folder()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CONVERTING], env={**os.environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_convert_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path))
    processes = [_start(), _start()]
    assert [process.stdout.readline() for process in processes] == ["converting\n"] * 2
    # Neither took the other's scratch folder for an abandoned one.
    assert len(list(tmp_path.iterdir())) == 2
    answers = [process.communicate("\n", timeout=60)[0] for process in processes]
    assert answers == [f"{builtin_folder()}\n"] * 2
    assert [process.returncode for process in processes] == [0, 0]
    assert list(tmp_path.iterdir()) == [builtin_folder()]
    assert (builtin_folder() / "config.json").read_text() == "{}"
