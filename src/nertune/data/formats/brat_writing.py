"""Writing a brat folder: safe file names, text-bound lines, and a folder that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from nertune.data.atomic import checked
from nertune.data.formats.brat_files import LIST, listed
from nertune.data.formats.folder import replacing_folder
from nertune.schema import Document, Entity

__all__ = ["BREAKS", "write_folder"]

# What ends a line of an .ann for brat, and the tab, which ends a field: none of them can stand within one.
BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
_RUNS = re.compile(BREAKS.pattern + "+")
_UNSAFE = re.compile(r"[^\w.\-]+")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)
_LONGEST = 120  # bytes of a name
_CONF = "annotation.conf"
_SECTIONS = (
    "[relations]\n\n# so that brat shows entities that overlap\n<OVERLAP>\tArg1:<ENTITY>, Arg2:<ENTITY>, <OVL-TYPE>:<ANY>"
    "\n\n[events]\n\n[attributes]\n"
)


def write_folder(documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
    """A .txt and an .ann for each document, `annotation.conf` with the labels, and the list of names and ids.

    Raises DataError for text that is not Unicode and for a folder with anything in it that was not written here.
    """
    labels: dict[str, None] = {}
    names = _Names()
    with replacing_folder(path, refused=_foreign) as folder:
        with (folder / LIST).open("w", encoding="utf-8", newline="\n") as lines:
            for number, document in enumerate(documents, 1):
                checked({"text": document.text, "id": document.id or ""}, path, number)
                labels.update(dict.fromkeys(entity.label for entity in document.entities))
                name = names.new(document.id, number)
                text = document.text.encode()
                annotations = "".join(_line(i, e) for i, e in enumerate(document.entities, 1)).encode()
                (folder / f"{name}.txt").write_bytes(text)
                (folder / f"{name}.ann").write_bytes(annotations)
                row = {"name": name, "id": document.id, "digest": _digest(text, annotations)}
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        (folder / _CONF).write_bytes(_conf(labels))


def _conf(labels: Iterable[str]) -> bytes:
    return ("[entities]\n\n" + "".join(f"{label}\n" for label in labels) + "\n" + _SECTIONS).encode()


def _line(number: int, entity: Entity) -> str:
    """A text-bound line. As in brat, an entity is broken into fragments where its text has line breaks or tabs."""
    lead = len(entity.text) - len(entity.text.lstrip())
    cuts = [match.span() for match in _RUNS.finditer(entity.text, lead, len(entity.text.rstrip()))]
    edges = [0, *(edge for cut in cuts for edge in cut), len(entity.text)]
    pieces = list(zip(edges[::2], edges[1::2], strict=True))
    offsets = ";".join(f"{entity.start + start} {entity.start + end}" for start, end in pieces)
    shown = BREAKS.sub(" ", " ".join(entity.text[start:end] for start, end in pieces))
    return f"T{number}\t{entity.label} {offsets}\t{shown}\n"


class _Names:
    """File names from ids: safe on every system, and unlike each other whatever the case of letters counts."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def new(self, id: str | None, number: int) -> str:
        """The name of the `number`-th document."""
        safe = _UNSAFE.sub("_", unicodedata.normalize("NFC", id or ""))
        safe = safe.encode()[:_LONGEST].decode(errors="ignore").strip("._ ")
        if not safe or _RESERVED.match(safe):
            safe = f"{number:06d}_{safe}".rstrip("_")
        name = safe
        while (key := unicodedata.normalize("NFKC", name).casefold()) in self._used:
            first = unicodedata.normalize("NFKC", safe).casefold()
            self._used[first] += 1
            name = f"{safe}-{self._used[first]}"
        self._used[key] = 1
        return name


def _foreign(folder: Path) -> str | None:
    """What in a folder is not as it was written here, in words; None where all of it is."""
    if not any(folder.iterdir()):
        return None
    known = {entry.name: entry.digest for entry in listed(folder)}
    ours = {LIST, _CONF} | {f"{name}{suffix}" for name in known for suffix in (".txt", ".ann")}
    for path in sorted(folder.iterdir()):
        if path.name not in ours or path.is_symlink() or not path.is_file():
            return f"{path.name} was not written by nertune"
    for name, digest in known.items():
        if Path(name).name != name:
            return f"its {LIST} names {name!r}, which is not in it"
        files = [folder / f"{name}{suffix}" for suffix in (".txt", ".ann")]
        if not all(file.is_file() for file in files) or _digest(*(file.read_bytes() for file in files)) != digest:
            return f"{name} was changed since nertune wrote it"
    conf = (folder / _CONF).read_bytes() if (folder / _CONF).is_file() else b""
    labels = conf.decode(errors="replace").partition("[relations]")[0].split()[1:]
    if conf and conf != _conf(labels):
        return f"{_CONF} was changed since nertune wrote it"
    return None if (folder / LIST).is_file() else f"there is no {LIST} in it"


def _digest(text: bytes, annotations: bytes) -> str:
    digest = hashlib.blake2b(text, digest_size=16)
    digest.update(b"\0" + annotations)
    return digest.hexdigest()
