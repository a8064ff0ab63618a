"""Folders that are there whole or not at all: built beside their place, synced, then moved onto it."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nertune.atomic import sync_directory, sync_folder
from nertune.errors import DiskSpaceError, InputError

__all__ = ["copy_files", "new_folder", "refuse_existing"]


def refuse_existing(target: Path) -> None:
    """Raises InputError unless `target` can become a new folder: it is not there, or is empty."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{target} is there already, and no folder: name another")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(
            f"{target} is there already, and not empty; nothing is written over: name another, or empty it"
        )


@contextmanager
def new_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes `target` when the block ends without an error; else nothing is left of it.

    With `replace` it takes the place of a folder that is there. Raises InputError where there is something already,
    DiskSpaceError where the disk is full.
    """
    if not replace:
        refuse_existing(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            building = Path(scratch) / target.name
            building.mkdir()
            yield building
            sync_folder(building, deep=True)
            if replace and target.is_dir():
                target.rename(Path(scratch) / "before")
            elif target.is_dir():
                target.rmdir()  # it is empty
            building.rename(target)
            sync_directory(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and not isinstance(error, DiskSpaceError):
            raise DiskSpaceError(f"{target}: no room left on the disk; nothing was written there") from error
        raise


def copy_files(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copy those of the files that are there."""
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
