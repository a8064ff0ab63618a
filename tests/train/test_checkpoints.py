"""Sealed checkpoints: what is damaged is found and named, and what is needed is never deleted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nertune.errors import InputError, MissingFileError
from nertune.train.checkpoints import damage, newest_verified, publish, rotate, seal, starting_point


def _write(folder: Path, step: int, *, sealed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "shards").mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (checkpoint / "shards" / "optimizer_0.bin").write_bytes(bytes([step]) * 1000)
    if sealed:
        seal(checkpoint)
    return checkpoint


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm", "problem"),
    [
        ("shards/optimizer_0.bin", _cut, "shards/optimizer_0.bin has 999 bytes instead of 1,000"),
        ("shards/optimizer_0.bin", _flip, "SHA-256 differs"),
        ("shards/optimizer_0.bin", Path.unlink, "optimizer_0.bin is missing"),
        ("checksums.json", _cut, "checksums.json cannot be read"),
        ("checksums.json", lambda path: path.write_text("[]"), "checksums.json does not list trainer_state.json"),
    ],
)
def test_every_damage_is_found_named_and_passed_over(tmp_path, name, harm, problem):
    good, bad = _write(tmp_path, 4), _write(tmp_path, 8)
    assert damage(bad) is None
    harm(bad / name)
    assert problem in damage(bad)
    said: list[str] = []
    assert newest_verified(tmp_path, said.append) == good
    assert len(said) == 1
    assert "checkpoint-8 is damaged" in said[0]
    assert problem in said[0]
    with pytest.raises(InputError, match="checkpoint-8 is damaged"):
        starting_point(tmp_path, resume=str(bad))


def test_a_checkpoint_without_checksums_is_taken_when_named_or_when_there_is_no_other(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    foreign = _write(checkpoints, 8, sealed=False)
    said: list[str] = []
    assert starting_point(tmp_path, resume=str(foreign)) == foreign
    assert starting_point(tmp_path, resume=True, note=said.append) == foreign
    assert "has no checksums.json, so it is taken as it is" in said[0]
    sealed = _write(checkpoints, 4)
    assert starting_point(tmp_path, resume=True, note=said.append) == sealed
    assert "checkpoint-8 has no checksums.json and is passed over" in said[1]
    shutil.rmtree(sealed)
    _cut(foreign / "trainer_state.json")
    with pytest.raises(MissingFileError, match="no checkpoint to resume from"):
        starting_point(tmp_path, resume=True, note=said.append)
    with pytest.raises(InputError, match=r"trainer_state\.json cannot be read"):
        starting_point(tmp_path, resume=str(foreign))


@pytest.mark.parametrize(
    ("steps", "best", "keep", "left"),
    [
        ([2, 4, 6, 8], None, 2, [6, 8]),
        ([2, 4, 6, 8], 2, 2, [2, 8]),
        ([2, 4, 6, 8], 2, 1, [2, 8]),
        ([2, 4, 6, 8], 8, 1, [8]),
        ([2, 4, 6, 8], 4, 3, [4, 6, 8]),
        ([2, 4, 6, 8], None, None, [2, 4, 6, 8]),
        # 10 and 12 are of an attempt that was given up: 8 was written after them.
        ([2, 4, 10, 12, 8], None, 2, [4, 8]),
        ([10, 8], None, None, [8]),
    ],
)
def test_rotation_spares_the_one_just_written_and_the_best(tmp_path, steps, best, keep, left):
    paths = [_write(tmp_path, step) for step in steps]
    rotate(tmp_path, written=paths[-1], best=tmp_path / f"checkpoint-{best}" if best else None, keep=keep)
    assert _steps(tmp_path) == left
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint-{step}" for step in left}


def test_a_checkpoint_takes_the_place_of_a_damaged_one_of_its_step(tmp_path):
    _cut(_write(tmp_path, 4) / "trainer_state.json")
    publish(_write(tmp_path / ".writing", 4), tmp_path / "checkpoint-4")
    assert damage(tmp_path / "checkpoint-4") is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def test_what_a_kill_left_is_cleared_or_put_in_its_place(tmp_path):
    """Sealed but not yet moved: the work is saved. Not sealed: it goes, and so does what was being deleted."""
    checkpoints = tmp_path / "checkpoints"
    _write(checkpoints, 4)
    _write(checkpoints / ".writing", 8)
    _write(checkpoints / ".writing", 9, sealed=False)
    _write(checkpoints / ".deleting", 2)
    assert starting_point(tmp_path, resume=True) == checkpoints / "checkpoint-8"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-4", "checkpoint-8"]


def test_a_start_anew_does_not_touch_a_run_that_is_there(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    _write(checkpoints, 4)
    _write(checkpoints / ".writing", 8, sealed=False)
    with pytest.raises(InputError, match="already holds a run"):
        starting_point(tmp_path, resume=False)
    assert (checkpoints / ".writing" / "checkpoint-8").is_dir()
