"""Files that grow in order, and are whole again after any kill: what was promised is on the disk, what was not is cut off.

Beside OUT stands OUT.progress: what the output is made from (so that it never goes on with something else), and how long it
and the file of failed rows are up to the last promise. A promise is made between chunks, about once a second: both files
synced, then the new record of it in the place of the old.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from nertune.atomic import sync_directory
from nertune.errors import InputError, MissingFileError
from nertune.extract.bulk.recognize import Outcome
from nertune.files import parse_json

__all__ = ["Output", "Standing", "failure_line", "fingerprint"]

_SECONDS = 1.0  # between promises
_HEAD = 1 << 20
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job is: the last row that is through and the byte of the input after it, and how many there were of what."""

    row: int = 0
    offset: int | None = 0
    written: int = 0
    failed: int = 0
    cut: int = 0
    bytes: int = 0
    failed_bytes: int = 0
    complete: bool = False


def fingerprint(path: str | Path) -> dict[str, object]:
    """What tells a file from another without reading all of it: its size, and the SHA-256 of its first and last megabyte."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256()
        for start in (0, max(0, size - _HEAD)):
            file.seek(start)
            digest.update(file.read(_HEAD))
    return {"size": size, "sha256": digest.hexdigest()}


class Output:
    """A job's two files and the record of its progress. Use it as a context manager.

    `made_from`: whatever the output depends on, as JSON. `resume`: go on with what is there, from the beginning where
    nothing is.
    Raises InputError where there is an output already and `resume` is not set, where that was made from something else,
    or where another process is writing it.
    """

    def __init__(self, out: Path, failed: Path, made_from: Mapping[str, Any], *, resume: bool) -> None:
        self.out, self.failed, self.progress = out, failed, out.with_name(out.name + ".progress")
        self._made_from = json.loads(json.dumps(made_from))
        if not out.parent.is_dir():
            raise MissingFileError(f"--out {out}: the folder {out.parent.absolute()} does not exist")
        if not failed.parent.is_dir():
            raise MissingFileError(f"--failed {failed}: the folder {failed.parent.absolute()} does not exist")
        if len({out.absolute(), failed.absolute(), self.progress.absolute()}) < 3:
            raise InputError(
                f"{failed}: failed rows need a file of their own, which is neither {out} nor {self.progress}"
            )
        self.standing = self._found() if resume else self._fresh()
        self._lines: list[bytes] = []
        self._failures: list[bytes] = []
        self._promised = time.monotonic()
        self._files: dict[Path, IO[bytes]] = {}
        self._resume = resume
        self._between = True  # rows, and nothing half done

    def __enter__(self) -> Output:
        self._files[self.out] = _opened(self.out, new=not self._resume)
        _claim(self._files[self.out], self.out)
        if self._resume:  # again: another process may have gone on until now
            self.standing = self._found()
        _cut(self._files[self.out], self.standing.bytes)
        if self.failed.exists():
            self._files[self.failed] = _opened(self.failed)
            _cut(self._files[self.failed], self.standing.failed_bytes)
        if not self.progress.exists():
            self._record()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._between:
                self.promise(complete=error is None)
        finally:
            for file in self._files.values():
                file.close()
        if error is not None and self.standing == Standing():  # nothing was done: nothing is there
            for path in (self.out, self.failed, self.progress):
                path.unlink(missing_ok=True)

    def write(self, outcomes: Iterable[Outcome]) -> None:
        """Add rows, in order; the job may go on after the last of them."""
        self._between = False
        now = self.standing
        row, offset, written, failed, cut = now.row, now.offset, now.written, now.failed, now.cut
        for outcome in outcomes:
            row, offset = outcome.source.row, outcome.source.offset
            if outcome.prediction is None:
                failed += 1
                self._failures.append(failure_line(outcome))
            else:
                written += 1
                cut += outcome.prediction.cut
                self._lines.append(
                    json.dumps(outcome.prediction.to_json(), ensure_ascii=False, allow_nan=False).encode() + b"\n"
                )
        self.standing = Standing(row, offset, written, failed, cut, now.bytes, now.failed_bytes)
        self._between = True
        if time.monotonic() - self._promised >= _SECONDS:
            self.promise()

    def promise(self, *, complete: bool = False) -> None:
        """See all rows so far onto the disk."""
        self._between = False
        if self._failures and self.failed not in self._files:
            self._files[self.failed] = _opened(self.failed)
        sizes = [
            self._append(self.out, self._lines, self.standing.bytes),
            self._append(self.failed, self._failures, self.standing.failed_bytes),
        ]
        now = asdict(self.standing) | {"bytes": sizes[0], "failed_bytes": sizes[1], "complete": complete}
        self.standing = Standing(**now)
        self._record()
        self._promised = time.monotonic()
        self._between = True

    def _append(self, path: Path, lines: list[bytes], size: int) -> int:
        if not lines:
            return size
        content = b"".join(lines)
        file = self._files[path]
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        lines.clear()
        return size + len(content)

    def _record(self) -> None:
        record = {"version": _VERSION, "standing": asdict(self.standing), "made_from": self._made_from}
        # Always the same name, so that kills leave one such file at most.
        temporary = self.progress.with_name(self.progress.name + ".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(record, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.progress)
        sync_directory(self.progress.parent)

    def _fresh(self) -> Standing:
        for path in (self.out, self.failed, self.progress):
            if path.exists():
                raise InputError(
                    f"{path} is there already. To go on with it: the same command with --resume. To begin anew: delete "
                    "it, or name another --out"
                )
        return Standing()

    def _found(self) -> Standing:
        if not self.progress.exists():
            return self._without_record()
        try:
            record = parse_json(self.progress.read_text(encoding="utf-8"))
            standing = Standing(**record["standing"])
            before = record["made_from"]
            if record["version"] != _VERSION:
                raise ValueError(f"version {record['version']!r}")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.progress}: is no record of an extraction's progress; it cannot go on") from error
        changed = next(_differences(before, self._made_from), None)
        if changed is not None:
            raise InputError(
                f"{self.out} was made from something else: {changed}. Give what it was made from, or another --out"
            )
        for path, size in ((self.out, standing.bytes), (self.failed, standing.failed_bytes)):
            found = path.stat().st_size if path.exists() else 0
            if found < size:
                raise InputError(f"{path} is shorter ({found} bytes) than it was ({size}); it cannot go on. Begin anew")
        return standing

    def _without_record(self) -> Standing:
        for path in (self.out, self.failed):
            if path.exists() and path.stat().st_size:  # killed before the first record, a job leaves an empty one
                raise InputError(
                    f"{path} is there, but not {self.progress}, which says how far it got and from what: it cannot go on. "
                    "Delete it, or name another --out"
                )
        return Standing()


def failure_line(outcome: Outcome) -> bytes:
    """The JSON line of a failed row: row, id, reason, text."""
    source = outcome.source
    row = {"row": source.row, "id": source.id, "reason": outcome.reason, "text": source.text or None}
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair has no bytes, only an escape
        return json.dumps(row).encode() + b"\n"


def _opened(path: Path, *, new: bool = False) -> IO[bytes]:
    """A file to write to, which is made where it is not there, and must not be there where it is to be `new`."""
    try:
        return path.open("xb" if new else "r+b" if path.exists() else "w+b")
    except FileExistsError:
        raise InputError(f"{path} was made by another process just now; wait for it, or name another --out") from None


def _cut(file: IO[bytes], size: int) -> None:
    """Make a file end, and be written on, after `size` bytes."""
    file.truncate(size)
    file.seek(size)


def _claim(file: IO[bytes], path: Path) -> None:
    """Keep other processes off a file until it is closed, or this process ends in whatever way."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{path} is being written by another process; wait for it, or end it") from None
    except OSError:  # a file system without locks
        return


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{name} {key}".strip())
    elif before != now:
        yield f"{name} was {json.dumps(before, ensure_ascii=False)}, is now {json.dumps(now, ensure_ascii=False)}"
