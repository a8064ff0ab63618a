"""A corpus from its hub to a folder here: nothing is put in place before everything that came was checked.

what is here ──► what the hub has ──► did the user change it? ──► download ──► is it what it should be? ──► in place
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from nertune.data.fetch.catalogue import PublicCorpus, Source, named
from nertune.data.fetch.files import EVERY_DATA_FILE, Chosen, chosen, need_room, place_of, put, sha256_of, verified
from nertune.data.fetch.hubs import Hub, Listing
from nertune.data.fetch.huggingface import HuggingFace
from nertune.data.fetch.manifest import MANIFEST, FetchedFile, FetchManifest
from nertune.data.fetch.modelscope import ModelScope
from nertune.data.wording import counted
from nertune.errors import EndpointError, InputError

__all__ = ["Fetched", "fetch", "listed"]

_CLIENTS: Mapping[str, Callable[[], Hub]] = MappingProxyType({"huggingface": HuggingFace, "modelscope": ModelScope})


class Fetched(NamedTuple):
    """What a fetch left: the folder, and its files in the order of their names. `new`: how many were not there before."""

    folder: Path
    files: tuple[Path, ...]
    manifest: FetchManifest
    new: int


def listed(
    name: str, *, hub: str | None = None, revision: str | None = None, files: Sequence[str] = (), offline: bool = False
) -> Chosen:
    """The files that `fetch` would take, and those that it would leave. Raises as `fetch` does."""
    source = named(name, hub).source(hub)
    client = _CLIENTS[source.hub]()
    patterns = tuple(files) or source.files or EVERY_DATA_FILE
    offline = offline or client.offline()
    asked = revision or source.revision
    return chosen(_look(client, source, asked, patterns, offline).files, patterns, where=_where(source))


def fetch(
    name: str,
    out: str | os.PathLike[str] | None = None,
    *,
    hub: str | None = None,
    revision: str | None = None,
    files: Sequence[str] = (),
    offline: bool = False,
    said: Callable[[str], None] | None = None,
) -> Fetched:
    """Fetch a corpus by its name, or OWNER/NAME of a hub, into `out` (default: a folder called as it is, here).

    `files`: patterns that choose among its data files. `revision`: the default is that of the fetch before into the same
    folder, then the catalogue's, then the hub's default branch. `offline`: take what the client has cached, and never ask
    the network. `said`: hears what is done, the licence before anything is downloaded.

    Raises InputError (a name, a pattern, a folder of something else, a file that the user changed, a name that would leave
    the folder), MissingExtraError, DiskSpaceError, and EndpointError for whatever the hub refuses or fails in, and for
    content that is not what it should be.
    """
    tell = said or (lambda line: None)
    corpus = named(name, hub)
    source = corpus.source(hub)
    folder = Path(out if out is not None else corpus.name)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name another: --out")
    before = FetchManifest.read(folder)
    _same(before, corpus, source, folder)
    if before is not None and not (files or revision) and _whole(before, folder):
        tell(f"{folder}: whole, as fetched on {before.date[:10]} at {before.revision}; --revision fetches another")
        tell(_licence(before.licence, source))
        return Fetched(folder, tuple(folder / file.path for file in before.files), before, 0)
    asked = revision or (before.revision if before else None) or source.revision
    patterns = tuple(files) or (before.patterns if before else ()) or source.files or EVERY_DATA_FILE
    client = _CLIENTS[source.hub]()
    offline = offline or client.offline()
    listing = _look(client, source, asked, patterns, offline)
    wanted = chosen(listing.files, patterns, where=_where(source))
    licence = listing.licence or source.licence or (before.licence if before else None)
    tell(f"{_where(source)} at {listing.revision}{', from the cache' if offline else ''}")
    tell(_licence(licence, source))
    _refuse_changed(folder, wanted, before)
    total = need_room(folder, wanted.files)
    left = f"; {counted(len(wanted.left), 'other')} left there" if wanted.left else ""
    tell(f"{counted(len(wanted.files), 'file')}, {total:,} bytes{left}")
    held = listing.folder or client.download(source.repository, asked, [file.path for file in wanted.files])
    if held.parent.name == "snapshots" and held.name != listing.revision:
        raise EndpointError(f"{_where(source)}: moved on to {held.name} meanwhile; fetch again")
    same = before if before and before.revision == listing.revision else None
    known = same.sums if same and not revision else {}
    pinned = source.sha256 if asked == source.revision else {}
    sums = {}
    for file in wanted.files:
        expected = {"the catalogue": pinned.get(file.path), MANIFEST: known.get(file.path)}
        sums[file.path] = verified(_inside(held, file.path, source), file, expected)
    new = _place(folder, held, sums, before)
    if same:
        patterns = tuple(dict.fromkeys((*same.patterns, *patterns)))
        known = same.sums
    manifest = _manifest(corpus, source, listing, asked, licence, patterns, folder, {**known, **sums})
    manifest.write(folder)
    return Fetched(folder, tuple(folder / path for path in sums), manifest, new)


def _look(client: Hub, source: Source, asked: str | None, patterns: Sequence[str], offline: bool) -> Listing:
    return client.cached(source.repository, asked, patterns) if offline else client.listing(source.repository, asked)


def _where(source: Source) -> str:
    return f"{source.hub}:{source.repository}"


def _licence(licence: str | None, source: Source) -> str:
    stated = f"licence: {licence}, as the repository says" if licence else "licence: not stated"
    return f"{stated}; the corpus may have terms of its own: {source.page}"


def _same(before: FetchManifest | None, corpus: PublicCorpus, source: Source, folder: Path) -> None:
    if before is None or (before.name, before.hub, before.repository) == (corpus.name, source.hub, source.repository):
        return
    held = f"{before.name} of {before.hub}:{before.repository}"
    raise InputError(f"{folder}: holds {held}, not {corpus.name} of {_where(source)}; name another: --out")


def _whole(before: FetchManifest, folder: Path) -> bool:
    """Whether every file is there as it was fetched. Raises InputError for one that was changed."""
    there = [(file, place_of(folder, _kept(file, folder))) for file in before.files]
    for file, path in there:
        if path.exists() and sha256_of(path) != file.sha256:
            raise _changed(path, before)
    return all(path.exists() for _, path in there)


def _kept(file: FetchedFile, folder: Path) -> str:
    if file.path.startswith("/") or ".." in file.path.split("/"):
        raise InputError(f"{folder / MANIFEST}: names {file.path!r}, which is not in the folder; remove it")
    return file.path


def _changed(path: Path, before: FetchManifest) -> InputError:
    day = before.date[:10]
    return InputError(
        f"{path}: was changed since it was fetched on {day}; move it away, or fetch into another folder: --out"
    )


def _refuse_changed(folder: Path, wanted: Chosen, before: FetchManifest | None) -> None:
    """Raises InputError, before anything is downloaded, where a file in the way is not as it was fetched."""
    sums = before.sums if before else {}
    for file in wanted.files:
        path = place_of(folder, file.path)
        if before is not None and file.path in sums and path.exists() and sha256_of(path) != sums[file.path]:
            raise _changed(path, before)


def _inside(held: Path, path: str, source: Source) -> Path:
    """The cached file: a revision's folder links to where contents lie. Raises EndpointError where it is absent."""
    found = (held / path).resolve()
    root = held.resolve().parent.parent if held.parent.name == "snapshots" else held.resolve()
    if not found.is_file() or not found.is_relative_to(root):
        raise EndpointError(f"{_where(source)}: {path} did not come; fetch again, and it goes on where it was")
    return found


def _place(folder: Path, held: Path, sums: Mapping[str, str], before: FetchManifest | None) -> int:
    """Put the files in place that are not there already; how many. Raises InputError for one that no fetch put there."""
    known = before.sums if before else {}
    places = {path: place_of(folder, path) for path in sums}
    there = {path: sha256_of(place) for path, place in places.items() if place.exists()}
    for path, sha256 in there.items():
        if path not in known and sha256 != sums[path]:
            raise InputError(
                f"{folder / path}: is there, and was not fetched; move it away, or name another folder: --out"
            )
    new = [path for path in sums if there.get(path) != sums[path]]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        put(held / path, places[path])
    return len(new)


def _manifest(
    corpus: PublicCorpus,
    source: Source,
    listing: Listing,
    asked: str | None,
    licence: str | None,
    patterns: tuple[str, ...],
    folder: Path,
    sums: Mapping[str, str],
) -> FetchManifest:
    rows = [
        FetchedFile(path, place.stat().st_size, sums[path])
        for path in sorted(sums)
        if (place := place_of(folder, path)).exists()
    ]
    return FetchManifest(
        name=corpus.name,
        hub=source.hub,
        repository=source.repository,
        asked=asked,
        revision=listing.revision,
        licence=licence,
        citation=corpus.citation,
        page=source.page,
        patterns=patterns,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        files=tuple(rows),
    )
