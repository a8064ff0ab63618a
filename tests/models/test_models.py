"""Where models come from: names, refusals, and a conversion that appears whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from nertune.errors import DiskSpaceError, InputError, MissingExtraError, UnknownModelError
from nertune.models import BUILTIN, builtin, ensure_builtin, load_model, resolve_model


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builtin, "find_spec", lambda name: object())
    return tmp_path / "cache"


def _fake_convert(scratch: Path, built: Path, report) -> None:
    built.mkdir()
    (built / "config.json").write_text("{}")


def test_names_resolve_or_say_why_not(tmp_path):
    assert resolve_model("Qwen/Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"
    with pytest.raises(UnknownModelError, match="There is one: builtin:gemma3-270m"):
        resolve_model("builtin:gemma4")
    with pytest.raises(UnknownModelError, match=r"no config\.json"):
        resolve_model(str(tmp_path))
    with pytest.raises(UnknownModelError, match="unknown model 'gemma'"):
        resolve_model("gemma")
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("device", ["nonsense", "cuda:x", "", "meta"])
def test_a_device_that_is_none_is_refused_before_the_weights_are_read(tmp_path, tiny_model, device):
    tiny_model("llama").config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"device '{device}' cannot be used here"):
        load_model(str(tmp_path), device=device)


def test_a_pickle_is_not_read(tmp_path, tiny_model):
    tiny_model("llama").config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnknownModelError, match="cannot be loaded"):
        load_model(str(tmp_path))


def test_conversion_happens_once(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(builtin, "_convert", lambda *args: (calls.append(1), _fake_convert(*args)))
    folder = ensure_builtin()
    assert (folder / "config.json").is_file()
    assert ensure_builtin() == folder
    assert calls == [1]
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_a_failed_conversion_leaves_nothing(cache, monkeypatch):
    def fail(scratch: Path, built: Path, report) -> None:
        built.mkdir()
        raise RuntimeError("no")

    monkeypatch.setattr(builtin, "_convert", fail)
    with pytest.raises(RuntimeError):
        ensure_builtin()
    assert list(cache.iterdir()) == []


KILLED = textwrap.dedent("""
    import os, signal
    from nertune.models import builtin
    builtin.find_spec = lambda name: object()
    def convert(scratch, built, report):
        built.mkdir()
        (built / "config.json").write_text("{")
        os.kill(os.getpid(), signal.SIGKILL)
    builtin._convert = convert
    builtin.ensure_builtin()
""")


def test_a_kill_in_the_middle_leaves_nothing_half_made(cache, monkeypatch):
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not builtin.builtin_folder().exists()
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(builtin, "_convert", _fake_convert)
    folder = ensure_builtin()
    assert list(cache.iterdir()) == [folder]
    assert (folder / "config.json").read_text() == "{}"


def test_another_process_may_finish_first(cache, monkeypatch):
    def convert(scratch: Path, built: Path, report) -> None:
        _fake_convert(scratch, built, report)
        other = builtin.builtin_folder()
        other.mkdir()
        (other / "config.json").write_text("theirs")

    monkeypatch.setattr(builtin, "_convert", convert)
    assert (ensure_builtin() / "config.json").read_text() == "theirs"
    assert len(list(cache.iterdir())) == 1


def test_no_room_and_no_package(cache, monkeypatch):
    monkeypatch.setattr(builtin.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(DiskSpaceError, match="NERTUNE_CACHE"):
        ensure_builtin()
    monkeypatch.setattr(builtin, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"nertune\[demo\]"):
        resolve_model(BUILTIN)
    assert list(cache.iterdir()) == []
