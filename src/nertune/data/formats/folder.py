"""Folders that are there whole or not at all: filled beside their place, then moved onto it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nertune.atomic import sync_directory, telling_failures
from nertune.errors import DataError, MissingFileError

__all__ = ["replacing_folder"]


@contextmanager
def replacing_folder(path: str | os.PathLike[str], *, refused: Callable[[Path], str | None]) -> Iterator[Path]:
    """A folder to fill; it takes the place of `path` when the block ends without an error, and else nothing is left of it.

    `refused`: why a folder that is there must not be replaced, None where it may be. Raises DataError for such a folder
    and for what cannot be written, MissingFileError (no such directory), DiskSpaceError (disk full).
    """
    shown = os.fspath(path)
    target = Path(os.path.realpath(shown))
    if not target.parent.is_dir():
        raise MissingFileError(f"{shown}: there is no directory {target.parent}; make it first")
    _refuse(shown, target, refused)
    with telling_failures(shown), tempfile.TemporaryDirectory(prefix=".nertune-", dir=target.parent) as scratch:
        building = Path(scratch) / "new"
        building.mkdir()
        yield building
        if hasattr(os, "sync"):
            os.sync()  # once: file by file, ten thousand of them take minutes
        _refuse(shown, target, refused)  # it may have been annotated meanwhile
        if target.exists():
            target.rename(Path(scratch) / "old")
        try:
            building.rename(target)
        except OSError:
            if (Path(scratch) / "old").exists():
                (Path(scratch) / "old").rename(target)
            raise
        sync_directory(target.parent)


def _refuse(shown: str, target: Path, refused: Callable[[Path], str | None]) -> None:
    if not target.exists():
        return
    reason = refused(target) if target.is_dir() else "it is no folder"
    if reason is not None:
        raise DataError(f"is there already, and {reason}; name another folder, or remove it", path=shown)
