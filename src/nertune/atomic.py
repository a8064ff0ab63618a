"""Files that are there whole or not at all: written beside their place, synced, then moved onto it."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nertune.errors import DataError, DiskSpaceError, MissingFileError, NertuneError

__all__ = [
    "STDOUT",
    "is_stream",
    "replacing",
    "replacing_bytes",
    "same_file",
    "sync_directory",
    "sync_folder",
    "telling_failures",
    "write_text",
]

STDOUT = "-"
_PIECE = 1 << 20


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A UTF-8 text file to write; it takes the place of `path` when the block ends without an error.

    A link is followed, an existing file's permissions are kept, and nothing is left behind on failure. A stream, "-" for
    stdout, a pipe or a device, gets the whole content at the end.
    Raises MissingFileError (no such directory), DiskSpaceError (disk full) and DataError (all else).
    """
    with _replacing(path, mode="w", encoding="utf-8") as file:
        yield file


@contextmanager
def replacing_bytes(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The same, but a file of bytes."""
    with _replacing(path, mode="wb", encoding=None) as file:
        yield file


@contextmanager
def _replacing(path: str | os.PathLike[str], *, mode: str, encoding: str | None) -> Iterator[Any]:
    shown = os.fspath(path)
    if is_stream(shown):
        with tempfile.TemporaryFile(mode + "+", encoding=encoding) as spool:
            yield spool
            spool.flush()
            _send(spool.fileno(), shown)
        return
    target = Path(os.path.realpath(shown))
    if not target.parent.is_dir():
        raise MissingFileError(f"{shown}: there is no directory {target.parent}; make it first")
    if target.exists() and not target.is_file():
        kind = "a directory" if target.is_dir() else "not a regular file"
        raise DataError(f"cannot be written: it is {kind}", path=shown)
    temporary = target.with_name(f".nertune-{secrets.token_hex(6)}.tmp")
    with telling_failures(shown):
        try:
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), mode, encoding=encoding
            ) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            temporary.replace(target)
            sync_directory(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether it is stdout ("-"), a pipe, a socket or a device: nothing can stand beside it, or be read back from it."""
    shown = os.fspath(path)
    if shown == STDOUT:
        return True
    try:
        mode = os.stat(shown).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or shown in ("/dev/stdout", "/dev/stderr")


def _send(descriptor: int, shown: str) -> None:
    """Copy a file that is open, from its beginning, to a stream."""
    with telling_failures("stdout" if shown == STDOUT else shown):
        os.lseek(descriptor, 0, os.SEEK_SET)
        if shown == STDOUT:
            sys.stdout.flush()
            target = sys.stdout.buffer
            while piece := os.read(descriptor, _PIECE):
                target.write(piece)
            target.flush()
            return
        with Path(shown).open("wb") as file:
            while piece := os.read(descriptor, _PIECE):
                file.write(piece)


@contextmanager
def telling_failures(shown: str) -> Iterator[None]:
    """What the system refuses while `shown` is written: DiskSpaceError where there is no room, DataError for all else."""
    try:
        yield
    except (NertuneError, BrokenPipeError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(f"{shown}: no room left on the disk; nothing was changed") from error
        raise DataError(f"cannot be written: {error.strerror or error}", path=shown) from error


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether both are there and are one file or folder, under whatever names: writing one would replace the other."""
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Replace a file's whole content. Raises what `replacing` raises."""
    with replacing(path) as file:
        file.write(content)


def sync_folder(folder: Path, *, deep: bool = False) -> None:
    """See the files of a folder onto the disk, those of the folders in it too where it is `deep`, and then their names."""
    for path in folder.rglob("*") if deep else folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_directory(folder)


def sync_directory(directory: Path) -> None:
    """See the names in a directory onto the disk."""
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
