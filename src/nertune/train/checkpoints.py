"""Checkpoints that are there whole or not at all, and the choice of the one from which a training goes on.

RUN/checkpoints/
├── checkpoint-200/      sealed: `checksums.json` holds the size and SHA-256 of every file, and all of it is on the disk
├── checkpoint-400/
├── .writing/            the checkpoint being written; it is moved to its place when it is sealed
└── .deleting/           one being deleted

Only pure file functions stand here; the trainer calls them. What a kill leaves in the two hidden folders is cleared at the
next start, where a checkpoint that was sealed but not yet moved is moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from nertune.atomic import sync_directory
from nertune.errors import InputError, MissingFileError
from nertune.files import parse_json
from nertune.run import MANIFEST

__all__ = [
    "checkpoint_size",
    "damage",
    "newest",
    "newest_verified",
    "publish",
    "remove_run",
    "rotate",
    "seal",
    "starting_point",
]

CHECKSUMS = "checksums.json"
WRITING = ".writing"
_DELETING = ".deleting"
_PREFIX = "checkpoint-"

# What trainings, and what is fitted to them, leave in a run's folder.
_OF_RUNS = (
    *("checkpoints", "track", "recipe.yaml", "metrics.jsonl", "loss.png", "report.*", "README.md", "calibration.json"),
    *("adapter_config.json", "adapter_model.*", "config.json", "generation_config.json", "model*.safetensors*"),
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.*"),
)

Note = Callable[[str], None]


def starting_point(
    folder: Path, *, resume: bool | str, overwrite: bool = False, note: Note = lambda line: None
) -> Path | None:
    """The checkpoint to go on from, if any. Refuses to write over a run that is there, unless told to.

    A folder that `resume` names must be whole. With True the newest whole checkpoint of the run is taken, and `note` hears
    which newer ones are damaged.
    """
    if isinstance(resume, str):
        return _named(Path(resume))
    checkpoints = folder / "checkpoints"
    if resume:
        _clear_leftovers(checkpoints)
        found = newest_verified(checkpoints, note)
        if found is None:
            raise MissingFileError(
                f"{folder}: no checkpoint to resume from; start without --resume (or with resume: false)"
            )
        return found
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output {folder} is a file, not a folder")
    if not _begun(folder):
        _clear_leftovers(checkpoints)
    if _begun(folder) and not overwrite:
        raise InputError(
            f"{folder} already holds a run. Go on with it: --resume; write elsewhere: output=FOLDER; or replace it: "
            "overwrite=true"
        )
    return None


def remove_run(folder: Path) -> bool:
    """Delete the run in a folder, whole or begun, and nothing that trainings do not write; whether there was one."""
    if not _begun(folder):
        return False
    (folder / MANIFEST).unlink(missing_ok=True)  # first: what is left by a kill is no run
    for path in {path for pattern in _OF_RUNS for path in folder.glob(pattern)}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return True


def _named(folder: Path) -> Path:
    if not (folder / "trainer_state.json").is_file():
        raise MissingFileError(f"resume: {folder} is not the folder of a checkpoint: no trainer_state.json there")
    problem = damage(folder)
    if problem:
        raise InputError(f"resume: {folder} is damaged: {problem}. Name another checkpoint, or use --resume")
    return folder


def _begun(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or any(not _unreadable(path) for path in _by_step(folder / "checkpoints"))


# ---- Writing


def seal(checkpoint: Path) -> None:
    """Write `checksums.json` into a folder in which every other file is written, and see all of it onto the disk."""
    sums = {}
    for path in _files(checkpoint):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            sums[path.relative_to(checkpoint).as_posix()] = {"size": os.fstat(file.fileno()).st_size, "sha256": digest}
    with (checkpoint / CHECKSUMS).open("w", encoding="utf-8") as file:
        json.dump(sums, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for folder in [*(path for path in checkpoint.rglob("*") if path.is_dir()), checkpoint]:
        sync_directory(folder)


def publish(sealed: Path, place: Path) -> None:
    """Move a sealed checkpoint to its place; what stands there, damaged or of an earlier attempt, goes."""
    replaced = place.exists()
    if replaced:
        _set_aside(place)
    sealed.rename(place)
    sync_directory(place.parent)
    with suppress(OSError):
        sealed.parent.rmdir()
    if replaced:
        shutil.rmtree(place.parent / _DELETING, ignore_errors=True)


def rotate(folder: Path, *, written: Path, best: Path | None, keep: int | None) -> None:
    """Delete checkpoints until `keep` remain (None keeps all), the oldest first; never `written`, nor the best.

    `written` is the one just sealed. Those of later steps are of an attempt that this training did not go on from: they
    would be taken for the newest, so they go in any case.
    """
    steps = {path: step for path, step in _by_step(folder).items() if path not in (written, best)}
    reached = _step(written)
    later = [path for path, step in steps.items() if step > reached]
    earlier = sorted((path for path, step in steps.items() if step < reached), key=steps.__getitem__)
    protected = len({written, best} - {None})
    surplus = 0 if keep is None else max(0, len(earlier) + protected - max(keep, protected))
    for path in [*later, *earlier[:surplus]]:
        _set_aside(path)
    shutil.rmtree(folder / _DELETING, ignore_errors=True)


def _set_aside(checkpoint: Path) -> None:
    """Out of the way in one move, so that a kill leaves no half-deleted checkpoint."""
    aside = checkpoint.parent / _DELETING
    shutil.rmtree(aside / checkpoint.name, ignore_errors=True)
    aside.mkdir(exist_ok=True)
    checkpoint.rename(aside / checkpoint.name)


def _clear_leftovers(folder: Path) -> None:
    """Remove what a kill left; every process of a training does so before the first can write."""
    for path in _by_step(folder / WRITING):
        place = folder / path.name
        if (path / CHECKSUMS).is_file() and damage(path) is None and not place.exists():
            with suppress(FileNotFoundError):  # another process of this training was faster
                path.rename(place)
    for name in (WRITING, _DELETING):
        shutil.rmtree(folder / name, ignore_errors=True)


# ---- Reading


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None for a whole one.

    One without `checksums.json`, as other tools and older versions write, counts as whole where its trainer_state.json can
    be read, which is written last.
    """
    if not (checkpoint / CHECKSUMS).is_file():
        return _unreadable(checkpoint)
    try:
        sums = parse_json((checkpoint / CHECKSUMS).read_text(encoding="utf-8"))
        if "trainer_state.json" not in sums:
            return f"{CHECKSUMS} does not list trainer_state.json"
        for name, expected in sums.items():
            with (checkpoint / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != expected["size"]:
                    return f"{name} has {size:,} bytes instead of {expected['size']:,}"
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    return f"{name} is not what was written (SHA-256 differs)"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"cannot be read: {error}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{CHECKSUMS} cannot be read"
    return None


def newest_verified(folder: Path, note: Note = lambda line: None) -> Path | None:
    """The newest checkpoint whose checksums are right; only where there is none, the newest whole one without checksums."""
    steps = _by_step(folder)
    newest_first = sorted(steps, key=steps.__getitem__, reverse=True)
    unsealed = []
    for path in newest_first:
        if not (path / CHECKSUMS).is_file():
            unsealed.append(path)
            continue
        problem = damage(path)
        if problem is None:
            for other in unsealed:
                note(f"{other} has no {CHECKSUMS} and is passed over; to go on from it all the same: resume={other}")
            return path
        note(f"{path} is damaged: {problem}; looking for the one before")
    for path in unsealed:
        problem = damage(path)
        if problem is None:
            note(f"{path} has no {CHECKSUMS}, so it is taken as it is")
            return path
        note(f"{path} is damaged: {problem}; looking for the one before")
    return None


def newest(folder: Path) -> Path | None:
    """The checkpoint of the highest step, unverified."""
    steps = _by_step(folder)
    return max(steps, key=steps.__getitem__, default=None)


def checkpoint_size(checkpoint: Path) -> int:
    """Bytes of all files of a checkpoint."""
    return sum(path.stat().st_size for path in _files(checkpoint))


def _unreadable(checkpoint: Path) -> str | None:
    try:
        parse_json((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "trainer_state.json is missing"
    except (OSError, ValueError):
        return "trainer_state.json cannot be read"
    return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CHECKSUMS)


def _by_step(folder: Path) -> dict[Path, int]:
    """The folders named after a step, with the step."""
    return {path: _step(path) for path in folder.glob(f"{_PREFIX}*") if path.is_dir() and _step(path) >= 0}


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix(_PREFIX)
    return int(number) if number.isdecimal() else -1
