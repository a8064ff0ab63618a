"""No room on the disk, no memory: older checkpoints stay whole, and one message says what to do."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nertune.cli import main
from nertune.errors import TrainingError
from nertune.train import checkpoints
from nertune.train.checkpoints import damage
from nertune.train.fit import train

FULL = r"checkpoint-8 could not be written: no room left on the disk\. It needs about [\d.]+ MB, [\d.]+ [MG]B are free"


def _checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_full_disk_leaves_the_checkpoint_before_and_a_way_on(recipe, tmp_path, monkeypatch):
    whole = train(recipe("whole")).folder
    real = os.fsync
    calls = 0

    def full_in_the_second_save(descriptor: int) -> None:
        nonlocal calls
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        calls += name.endswith("optimizer.pt")
        if calls == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.os, "fsync", full_in_the_second_save)
        with pytest.raises(TrainingError, match=FULL) as error:
            train(recipe())
    assert error.value.exit_code == 1
    run = tmp_path / "run"
    assert f"--resume goes on from {run / 'checkpoints' / 'checkpoint-4'}" in str(error.value)
    assert _checkpoints(run) == ["checkpoint-4"]
    assert damage(run / "checkpoints" / "checkpoint-4") is None
    resumed = train(recipe(), resume=True).folder
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    wanted, got = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_really_full_ends_the_command_with_one_message(recipe_in, small_disk, tmp_path, capsys):
    recipe = recipe_in(small_disk, training={"eval_steps": 1, "keep_checkpoints": None})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert main(["train", str(tmp_path / "recipe.yaml")]) == 1
    said = capsys.readouterr().err
    assert "no room left on the disk" in said
    assert "--resume goes on from" in said
    assert "Traceback" not in said
    kept = _checkpoints(small_disk / "run")
    assert kept
    assert all(damage(small_disk / "run" / "checkpoints" / name) is None for name in kept)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to …"),
    ],
)
def test_running_out_of_memory_names_the_settings_that_help(recipe, tmp_path, monkeypatch, capsys, error):
    from nertune.train import trainer

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(trainer, "packed_loss_sum", refuse)
    (tmp_path / "recipe.yaml").write_text(recipe().to_yaml(), encoding="utf-8")
    assert main(["train", str(tmp_path / "recipe.yaml"), "training.batch_size=5", "training.accumulation=3"]) == 1
    said = capsys.readouterr().err
    assert "out of memory" in said
    assert "training.batch_size=3 training.accumulation=6" in said
    assert "training.gradient_checkpointing=true" in said
    assert "max_tokens below" in said
    assert "Traceback" not in said


def test_a_tensor_that_no_memory_holds_is_told_so(recipe, monkeypatch):
    from nertune.train import trainer

    monkeypatch.setattr(trainer, "packed_loss_sum", lambda *args, **kwargs: torch.empty(2**55).sum())
    with pytest.raises(TrainingError, match="out of memory"):
        train(recipe())


def test_other_errors_pass_as_they_are(recipe, monkeypatch):
    from nertune.train import trainer

    def refuse(*args, **kwargs):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(trainer, "packed_loss_sum", refuse)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(recipe())
