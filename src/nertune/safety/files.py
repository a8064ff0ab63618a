"""Which file of a folder may be read: a regular one, inside the folder, of sane size; and JSON within limits."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nertune.errors import RunError
from nertune.files import as_json, parse_json

__all__ = ["boundary", "check_depth", "check_format", "check_link", "read_json", "regular_file"]

MEGABYTE = 1_000_000
_JSON_BYTES = 10 * MEGABYTE
_DEPTH = 32
_DEEP = re.compile(rb"[\[{]{%d}" % (_DEPTH + 1))
_NO_BRACKETS = bytes(code for code in range(256) if code not in b'[]{}"')


def boundary(folder: Path) -> Path:
    """The folder that no link may leave: the resolved folder itself, or in Hugging Face's cache the model's own.

    There a snapshot holds nothing but links to the model's blobs, `models--org--name/snapshots/HASH/x -> ../../blobs/y`.
    """
    resolved = folder.resolve()
    model = resolved.parent.parent
    if resolved.parent.name == "snapshots" and model.name.startswith("models--") and (model / "blobs").is_dir():
        return model
    return resolved


def check_link(folder: Path, path: Path) -> None:
    """Raises RunError for a link that leads out of the folder, or nowhere."""
    if not path.is_symlink():
        return
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise RunError(f"{path}: a link that leads nowhere; put the file itself there") from error
    if not target.is_relative_to(boundary(folder)):
        raise RunError(f"{path}: a link that leaves its folder (to {target}); put the file itself there")


def regular_file(folder: Path, name: str) -> Path | None:
    """The file of that name, None where there is none. Raises RunError for a link out of the folder, or for no regular file.

    A pipe or a device under a file's name would make its reader wait for ever.
    """
    path = folder / name
    if not path.exists() and not path.is_symlink():
        return None
    check_link(folder, path)
    if not stat.S_ISREG(path.stat().st_mode):
        raise RunError(f"{path}: not a regular file")
    return path


def read_json(folder: Path, name: str, *, limit: int = _JSON_BYTES, strict: bool = False) -> dict[str, Any] | None:
    """The JSON object in a file of the folder, None where there is no such file.

    `limit`: bytes. `strict`: as for `parse_json`. Raises RunError.
    """
    path = regular_file(folder, name)
    if path is None:
        return None
    size = path.stat().st_size
    if size > limit:
        raise RunError(f"{path}: {size:,} bytes, more than the {limit:,} that such a file can need; restore it")
    try:
        value = parse_json(path.read_bytes(), strict=strict)
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); restore it") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: damaged (a JSON object is expected, found {type(value).__name__}); restore it")
    return value


def check_depth(folder: Path, name: str, *, limit: int) -> None:
    """A JSON file that a library reads by itself: raises RunError for one that is too large or nested too deeply.

    It costs some tens of milliseconds where parsing a vocabulary costs a second. `limit`: bytes.
    """
    path = regular_file(folder, name)
    if path is None:
        return
    size = path.stat().st_size
    if size > limit:
        raise RunError(f"{path}: {size:,} bytes, more than the {limit:,} that such a file can need; restore it")
    # Brackets and quotes are kept; then strings go, then the innermost pair of each nest, level by level.
    left = path.read_bytes().replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_BRACKETS)
    left = re.sub(rb'"[^"]*"', b"", left.replace(b'""', b""))
    for _ in range(_DEPTH):
        if not left or _DEEP.search(left):
            break
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    if left:
        raise RunError(f"{path}: damaged (nested more than {_DEPTH} levels deep, or a bracket is missing); restore it")


def check_format(path: Path, value: Mapping[str, Any], known: int) -> None:
    """Raises RunError where a file of nertune's own is written in another format than this version reads."""
    found = value.get("format")
    if type(found) is not int:
        what = f"format is {as_json(found)}, not the number {known}" if "format" in value else "format is missing"
        raise RunError(f"{path}: damaged ({what}); restore it, or make it again")
    if found != known:
        raise RunError(f"{path}: written in format {found}, this version reads {known}: use the version that wrote it")
