"""Which files of a repository are data, where they may be put, and what they must hold.

A hub is not trusted with names: nothing leaves the folder, and nothing is written through a link.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nertune.atomic import replacing_bytes
from nertune.data.fetch.hubs import HubFile
from nertune.data.fetch.manifest import MANIFEST
from nertune.errors import DiskSpaceError, EndpointError, InputError

__all__ = [
    "EVERY_DATA_FILE",
    "NO_DATA",
    "Chosen",
    "chosen",
    "need_room",
    "place_of",
    "put",
    "sha256_of",
    "verified",
]

_SUFFIXES = (
    *(".jsonl", ".ndjson", ".json", ".txt", ".text", ".csv", ".tsv", ".parquet", ".arrow", ".xml", ".ann", ".spacy"),
    *(".conll", ".conllu", ".conll03", ".bio", ".iob", ".iob2", ".bioes", ".iobes", ".bmes", ".bieo", ".bilou", ".ner"),
    *(".train", ".dev", ".test", ".valid", ".validation", ".tags", ".char", ".labels"),
)
EVERY_DATA_FILE = tuple(f"*{suffix}" for suffix in _SUFFIXES)
NO_DATA = (".*", "*/.*", "*dataset_infos.json", "*requirements.txt", MANIFEST)
_CHUNK = 1 << 20


class Chosen(NamedTuple):
    """The files to fetch, and the names of those that are left where they are."""

    files: tuple[HubFile, ...]
    left: tuple[str, ...]


def chosen(files: Iterable[HubFile], patterns: Sequence[str], *, where: str) -> Chosen:
    """The data files among `files` that fit one of the patterns.

    Raises InputError where there is none, where one has a name that would leave the folder, and where two have one place.
    """
    every = sorted(files, key=lambda file: file.path)
    taken = [file for file in every if _is_data(file.path) and _fits(file.path, patterns)]
    left = [file.path for file in every if file not in taken]
    if not taken:
        raise InputError(_nothing(left, patterns, where=where))
    seen: dict[str, str] = {}
    for file in taken:
        _check_name(file.path, where=where)
        other = seen.setdefault(file.path.casefold(), file.path)
        if other != file.path:
            raise InputError(f"{where}: {other!r} and {file.path!r} differ in case alone; choose one: --files")
    return Chosen(tuple(taken), tuple(left))


def place_of(folder: Path, path: str) -> Path:
    """Where a file of the hub is put below `folder`. Raises InputError where a link or something else is in its way."""
    place = folder
    parts = PurePosixPath(path).parts
    for number, part in enumerate(parts, 1):
        place = place / part
        last = number == len(parts)
        if place.is_symlink():
            raise InputError(
                f"{place}: is a link, through which nothing is written; move it away, or fetch elsewhere: --out"
            )
        if place.exists() and not (place.is_file() if last else place.is_dir()):
            kind = "a directory" if place.is_dir() else "a file" if place.is_file() else "no regular file"
            raise InputError(
                f"{place}: is {kind}, where the corpus has a {'file' if last else 'directory'}; move it away"
            )
    return place


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(found: Path, file: HubFile, expected: Mapping[str, str | None]) -> str:
    """The SHA-256 of a downloaded file, which is what the hub says of it, and what others do. Raises EndpointError otherwise.

    `expected`: who says what, None where nothing is said. Git's own checksum is the SHA-1 of `blob SIZE`, NUL, and the
    content (git-hash-object).
    """
    sha256 = sha256_of(found)
    for who, other in {"the hub": file.sha256, **expected}.items():
        if other is not None and other.lower() != sha256:
            raise _differs(found, file.path, f"its SHA-256 is {sha256}, and {who} says {other}")
    if file.git is not None and file.sha256 is None:
        size = found.stat().st_size
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with found.open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != file.git.lower():
            raise _differs(found, file.path, f"its git checksum is {digest.hexdigest()}, and the hub says {file.git}")
    return sha256


def put(found: Path, target: Path) -> None:
    """Copy a file to its place, whole or not at all. Raises what `nertune.atomic.replacing` raises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with found.open("rb") as content, replacing_bytes(target) as file:
        shutil.copyfileobj(content, file, _CHUNK)


def need_room(folder: Path, files: Iterable[HubFile]) -> int:
    """The bytes that the files take. Raises DiskSpaceError where the disk of `folder` has less."""
    total = sum(file.size or 0 for file in files)
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if total > free:
        raise DiskSpaceError(f"{folder}: needs {total:,} bytes, and the disk has {free:,} left; nothing was downloaded")
    return total


def _is_data(path: str) -> bool:
    """By its name. One that would climb out of the folder counts, so that it is refused and not just passed over."""
    hidden = any(fnmatchcase(path, like) for like in NO_DATA) and ".." not in path.split("/")
    return path.lower().endswith(_SUFFIXES) and not hidden


def _fits(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, like) for like in patterns)


def _check_name(path: str, *, where: str) -> None:
    parts = path.split("/")
    wrong = re.search(r"[\\:\x00-\x1f\x7f]", path) or len(os.fsencode(max(parts, key=len))) > 250
    if wrong or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"{where}: names a file {path[:200]!r}, which may not be written; nothing was downloaded")


def _nothing(left: Sequence[str], patterns: Sequence[str], *, where: str) -> str:
    shown = ", ".join(left[:5]) + (f" and {len(left) - 5:,} more" if len(left) > 5 else "")
    held = f"it has {shown}" if left else "it is empty"
    data = [path for path in left if _is_data(path)]
    if data:
        return f"{where}: no file fits {' '.join(patterns)}; {held}"
    script = next((path for path in left if path.endswith(".py")), None)
    if script is not None:
        return (
            f"{where}: no data file there, only a loading script ({script}), which is never run. Hugging Face may keep the "
            "data as parquet files: --revision refs/convert/parquet"
        )
    return f"{where}: no data file there ({held}); read are {', '.join(_SUFFIXES[:7])} and such"


def _differs(found: Path, path: str, how: str) -> EndpointError:
    return EndpointError(
        f"{path}: what came is not what it should be: {how}. Nothing was put in place. If it was damaged on its way, remove "
        f"{found} and fetch again; if the revision moved on, name the one that you want: --revision"
    )
