"""From the bytes of a file to its text: UTF-8, with what is wrong told by file and line."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from nertune.errors import DataError, MissingFileError, NertuneError

__all__ = ["decoded", "opened", "without_bom"]


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """A file open for reading bytes. Raises MissingFileError, or DataError for a directory and for failing reads."""
    shown = os.fspath(path)
    if "\0" in shown or not os.path.exists(shown):
        raise MissingFileError(
            f"{shown}: no such file (looked for {os.path.abspath(shown)}); check the spelling, "
            "or give the path from the directory you are in"
        )
    if os.path.isdir(shown):
        raise DataError("is a directory; name the file in it to read", path=shown)
    try:
        with Path(shown).open("rb") as file:
            yield file
    except (NertuneError, BrokenPipeError):  # the latter is about what is written meanwhile
        raise
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=shown) from error


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
