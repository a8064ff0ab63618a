"""A file is replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from nertune.atomic import replacing, write_text
from nertune.data import write
from nertune.errors import DataError, DiskSpaceError, MissingFileError
from nertune.schema import Document


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot be written: record 2 holds NUL or half .*'\\ud800'"):
        write([Document("fine"), Document("\ud800")], path, format="entities")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskSpaceError), (errno.EIO, DataError)])
def test_the_systems_errors_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=r"out\.jsonl: (no room left on the disk|cannot be written)"):
        write([Document("a")], tmp_path / "out.jsonl", format="entities")
    assert list(tmp_path.iterdir()) == []


def test_directories(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"there is no directory .*gone; make it first"):
        write([Document("a")], tmp_path / "gone" / "x.jsonl", format="entities")
    with pytest.raises(DataError, match="cannot be written: it is a directory"):
        write([Document("a")], tmp_path, format="entities")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and links")
def test_links_are_followed_and_permissions_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text("old", encoding="utf-8")
    real.chmod(0o640)
    link.symlink_to(real)
    write([Document("a")], link, format="entities")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == '{"text": "a", "entities": []}\n'
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no /dev/null")
def test_devices_are_written_to_and_not_replaced() -> None:
    with replacing("/dev/null") as file:
        file.write("x")
    assert Path("/dev/null").is_char_device()


def test_an_old_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "旧" * 1000)
    write_text(path, "新")
    assert path.read_text(encoding="utf-8") == "新"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"])
def test_a_full_disk_leaves_the_old_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[object, str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.json"
    write_text(path, "old")
    monkeypatch.setattr(*step, full)
    with pytest.raises(DiskSpaceError, match="no room left on the disk; nothing was changed"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
