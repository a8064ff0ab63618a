"""From the bytes of a file to its text: UTF-8, with what is wrong told by file and line."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from nertune.errors import DataError, MissingFileError

__all__ = ["STDIN", "decoded", "opened", "without_bom"]

STDIN = "-"
_PIECE = 1 << 20
_LARGEST_STREAM = 64 << 30
_copies: dict[str, Any] = {}


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BufferedReader[Any]]:
    """A file, or stdin for "-", open for reading bytes.

    What can be read only once, stdin, a pipe or a device, is copied to a temporary file at the first time, and read there
    each time. Raises MissingFileError, or DataError for a directory and for failing reads.
    """
    shown = os.fspath(path)
    if shown == STDIN or _reads_once(shown):
        with BufferedReader(_File(_copy(shown), shown)) as file:
            yield file
        return
    if "\0" in shown or not os.path.exists(shown):
        raise MissingFileError(
            f"{shown}: no such file (looked for {os.path.abspath(shown)}); check the spelling, "
            "or give the path from the directory you are in"
        )
    if os.path.isdir(shown):
        raise DataError("is a directory; name the file in it to read", path=shown)
    with BufferedReader(_File(shown, shown)) as file:
        yield file


class _File(io.FileIO):
    """A file whose failures name it: an OSError may be about what is written meanwhile just as well."""

    def __init__(self, path: str, shown: str) -> None:
        self._shown = shown
        with self._told():
            super().__init__(path, "rb")

    def readinto(self, buffer: Any, /) -> int:
        with self._told():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._told():
            return super().readall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", path=self._shown) from error


def _reads_once(shown: str) -> bool:
    """Whether it is a pipe, a socket or a device: what was read of it is gone."""
    try:
        mode = os.stat(shown).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _copy(shown: str) -> str:
    """The path of a temporary file with all that can be read of a stream, until the process ends. Raises OSError, DataError."""
    if shown not in _copies:
        file = tempfile.NamedTemporaryFile(prefix="nertune-")  # noqa: SIM115, it is kept
        source = sys.stdin.buffer if shown == STDIN else Path(shown).open("rb")  # noqa: SIM115
        while piece := source.read(_PIECE):
            file.write(piece)
            if file.tell() > _LARGEST_STREAM:
                raise DataError("does not end: more than 64 GiB were read; write it to a file", path=shown)
        file.flush()
        _copies[shown] = file
    return str(_copies[shown].name)


def without_bom(raw: bytes, path: str) -> bytes:
    """The first bytes of a file without a UTF-8 byte order mark; DataError for UTF-16."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or raw[:2] in (b"{\0", b"[\0", b"\0{", b"\0["):
        raise DataError(f"is UTF-16; convert with: iconv -f UTF-16 -t UTF-8 {path} > NEW", path=path, line=1)
    return raw.removeprefix(b"\xef\xbb\xbf")


def decoded(raw: bytes, path: str, first_line: int, *, before: int = 0) -> str:
    """Bytes as text; DataError, with the line, for NUL and for anything but UTF-8. `before`: bytes before it on its line."""
    nul = raw.find(b"\0")
    if nul >= 0:
        message = "holds a NUL byte, which no text file does; is this the right file?"
        raise DataError(message, path=path, line=first_line + raw.count(b"\n", 0, nul))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        start = raw.rfind(b"\n", 0, error.start) + 1
        column = error.start - start + 1 + (0 if start else before)
        message = f"is not UTF-8 (0x{raw[error.start]:02X}, byte {column} of the line)"
        if _is_gb18030(raw):
            message += (
                f"; if it is Chinese, it may be GB18030/GBK: convert with: iconv -f GB18030 -t UTF-8 {path} > NEW"
            )
        else:
            message += "; convert it with iconv from the encoding that it is in"
        raise DataError(message, path=path, line=line) from error


def _is_gb18030(raw: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("gb18030")().decode(raw)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True
