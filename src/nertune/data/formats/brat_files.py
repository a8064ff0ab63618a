"""The files of a brat folder: which text belongs to which annotations, in which order, under which id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nertune.data.decoding import opened
from nertune.data.records import iter_records
from nertune.data.strict_json import forbidden_string
from nertune.data.tally import Tally
from nertune.errors import DataError

__all__ = ["LIST", "Listed", "Pair", "listed", "pairs_of", "read_bytes"]

# What was written here is listed, since file names hold neither the order nor every id. brat does not show dotfiles.
LIST = ".nertune.jsonl"
_LARGEST = 1 << 26  # bytes of a file
_LOOKED_AT = 10_000  # entries of a folder, to tell whether it is one of brat's


class Pair(NamedTuple):
    """A text and its annotations. `shown`: the .ann within the folder, for findings."""

    text_path: str
    annotations_path: str
    shown: str
    id: str | None


class Listed(NamedTuple):
    """A line of the list: a document's name and id, and what its two files were when they were written."""

    name: str
    id: str | None
    digest: str


def pairs_of(path: str, *, tally: Tally | None = None, sniffing: bool = False) -> Iterator[Pair]:
    """The texts of a folder and its sub-folders, or the one that a file belongs to.

    Links that lead out of the folder are not followed, and folders that are links are not entered. `sniffing`: no more is
    looked at than tells whether there is one. Raises DataError for an .ann without its .txt.
    """
    tally = tally or Tally([])
    if not os.path.isdir(path):
        stem, _ = os.path.splitext(path)
        yield _pair(os.path.dirname(path), os.path.basename(stem), os.path.basename(stem))
        return
    names = _names(path, tally, sniffing=sniffing)
    if sniffing:
        yield from (Pair("", "", name, None) for name in names)
        return
    found = sorted(names, key=_natural)
    known = {entry.name: entry for entry in listed(path)}
    rank = {name: number for number, name in enumerate(known)}
    for name in sorted(found, key=lambda name: rank.get(name, len(rank))):
        yield _pair(path, name, known[name].id if name in known else name)
    tally.add("documents of the list that are not in the folder any more", count=len(known.keys() - set(found)))


def listed(folder: str | os.PathLike[str]) -> Iterator[Listed]:
    """What the list in a folder names, if there is one. Raises DataError for a list of another shape."""
    path = Path(folder) / LIST
    if path.is_symlink() or not path.is_file() or path.stat().st_size == 0:
        return
    for record in iter_records(path):
        yield Listed(record.string("name"), record.id(), record.string("digest"))


def read_bytes(path: str) -> bytes:
    """A whole file of at most 64 MiB. Raises DataError."""
    if not os.path.isfile(path):
        raise DataError("is not there, or no file; a text and its annotations are a .txt and an .ann", path=path)
    with opened(path) as file:
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise DataError(f"is longer than {_LARGEST >> 20} MiB; is this the right file?", path=path)
    return raw


def _pair(folder: str, name: str, id: str | None) -> Pair:
    stem = os.path.join(folder, name)
    text, annotations = f"{stem}.txt", f"{stem}.ann"
    if forbidden_string(name) is not None:
        shown = os.fsencode(annotations).decode(errors="replace")
        raise DataError("the file's name is not UTF-8; rename it", path=shown)
    if not os.path.isfile(text):
        raise DataError(f"there is no {os.path.basename(text)} beside it", path=annotations)
    return Pair(text, annotations, f"{name}.ann", id)


def _names(folder: str, tally: Tally, *, sniffing: bool) -> Iterator[str]:
    """The names, without .ann, of the annotations within a folder."""
    inside = os.path.realpath(folder)
    looked_at = 0
    for where, folders, files in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(where, name))]
        tally.add("links passed over", count=len(linked))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in linked)
        texts = set(files)
        for file in files:
            looked_at += 1
            if sniffing and looked_at > _LOOKED_AT:
                return
            stem, suffix = os.path.splitext(file)
            path = os.path.join(where, file)
            if file.startswith(".") or suffix not in (".ann", ".txt"):
                continue
            if not _within(inside, path):
                tally.add("links passed over")
            elif suffix == ".txt":
                tally.add("texts without an .ann passed over", count=f"{stem}.ann" not in texts)
            elif os.path.isfile(path) and _within(inside, f"{path[:-4]}.txt"):
                yield os.path.relpath(path[:-4], folder).replace(os.sep, "/")


def _within(folder: str, path: str) -> bool:
    """Whether a path is no link that leads out of the folder."""
    return not os.path.islink(path) or os.path.realpath(path).startswith(os.path.join(folder, ""))


def _natural(name: str) -> list[str | int]:
    """Names in the order that people give them: doc2 before doc10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
