"""Extraction from whole files: rows from the data room, through a recognizer here, in processes or on a cluster, to a file."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from nertune.console import escaped
from nertune.data.texts import BEGINNING, Extent, Keys, Place, extent, read_texts
from nertune.extract.bulk import (
    CHUNK,
    Chunk,
    Outcome,
    Output,
    Standing,
    Workers,
    chunked,
    fingerprint,
    recognize,
    recognize_steadily,
)
from nertune.extract.bulk.cluster import Cluster, recognize_on_ray
from nertune.extract.bulk.output import failure_line
from nertune.extract.trace import show as show_trace
from nertune.schema import SourceText
from nertune.terminal import Meter, highlight, line, stderr, stdout

__all__ = ["Cluster", "Source", "extract_file", "extract_texts", "made_from"]

_CUT = "something was cut, an answer at its limit (its stop is length) or a sentence longer than a window (cut is true)"
_FINGERPRINTED = ("nertune.json", "calibration.json", "*.safetensors")

Factory = Callable[[], Any]
"""Makes a Recognizer, or what can be used as one; can be pickled where workers or a cluster are to make theirs."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of texts, or "-" for stdin, and how to read it: as `nertune.data.texts.read_texts` has it."""

    path: str
    whole: bool = False
    form: str | None = None
    keys: Keys = field(default_factory=Keys)

    def rows(self, after: Place = BEGINNING) -> Iterator[SourceText]:
        """Raises what `read_texts` does."""
        return read_texts(
            self.path,
            whole=self.whole,
            form=self.form,
            keys=self.keys,
            after=after,
            note=lambda told: line(f"nertune: {told}"),
        )

    def chunks(self, after: Place = BEGINNING) -> Iterator[Chunk]:
        """The same in chunks."""
        return chunked(self.rows(after))

    def extent(self) -> Extent:
        """How long it is, where that is known."""
        return Extent() if self.whole else extent(self.path, form=self.form)


def made_from(source: Source, model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What an output depends on: the input, the model's files or its address, and settings, all as JSON."""
    folder = Path(model)
    files = sorted({path for pattern in _FINGERPRINTED for path in folder.glob(pattern)}) if folder.is_dir() else []
    return {
        "input": fingerprint(source.path) if Path(source.path).is_file() else "stream",
        "reading": {"whole": source.whole, "form": source.form, "keys": source.keys._asdict(), "chunk": CHUNK},
        "model": {path.name: fingerprint(path) for path in files} or model,
        "settings": dict(settings),
    }


def extract_file(
    source: Source,
    factory: Factory,
    *,
    out: Path,
    failed: Path | None = None,
    made_from: Mapping[str, Any],
    resume: bool = False,
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> int:
    """Extract from every row into a file that can be gone on with after any kill. Returns the exit code.

    `failed`: for rows without a prediction; None names it after `out`. `workers`: processes, each with a recognizer of its
    own; None works in this one. `cluster`: on Ray instead. What is wrong with the files is said before a model is loaded.
    Raises what Output, `read_texts` and the recognizer do.
    """
    output = Output(out, failed or out.with_name(f"{out.stem}.failed.jsonl"), made_from, resume=resume)
    before = output.standing
    if before.complete:
        line(f"{out} is complete")
        return _told(output, before)
    after = Place(before.row, before.offset) if before.row else BEGINNING
    rows = source.rows(after)
    first = next(rows, None)
    progress = _Progress(source, before)
    coming: Iterable[SourceText] = () if first is None else map(progress.read, chain([first], rows))
    results: Generator[list[Outcome], None, None]
    if first is None:
        results = _nothing()
    elif cluster is not None:
        results = recognize_on_ray(partial(source.chunks, after), factory, cluster)
    elif workers is not None:
        results = _from_workers(coming, factory, workers)
    else:
        results = _from_here(coming, factory(), progress.within, lenient=True)
    try:
        with output, progress, closing(results):
            for outcomes in results:
                output.write(outcomes)
                progress.update(output.standing)
    except BaseException:
        if done := output.standing.written + output.standing.failed:
            line(f"nertune: {done} rows are done; the same command with --resume goes on after them")
        raise
    return _told(output, before)


def extract_texts(
    rows: Iterable[SourceText],
    recognizer: Any,
    *,
    show: bool = False,
    debug: bool = False,
    target: IO[str] | None = None,
    failed: IO[bytes] | None = None,
) -> int:
    """Extract from every row and print JSON lines, or coloured text, as results come. Returns the exit code.

    Rows without a prediction are named on stderr, and written to `failed` where it is given. `debug`: prompt, token ids
    and answer of each are shown on stderr. `target`: instead of stdout.
    """
    count: Counter[str] = Counter()
    with Meter("extracting") as meter:
        trace = partial(show_trace, console=stderr) if debug else None

        def tell(ended: int) -> None:
            meter.update(count["written"] + count["refused"] + ended)

        for outcomes in _from_here(rows, recognizer, tell, trace):
            for outcome in outcomes:
                prediction = outcome.prediction
                if prediction is None:
                    count["refused"] += 1
                    about = f" (id {outcome.source.id})" if outcome.source.id else ""
                    print(f"nertune: text {outcome.source.row}{about} left out: {outcome.reason}", file=sys.stderr)
                    if failed is not None:
                        failed.write(failure_line(outcome))
                    continue
                count["written"] += 1
                count["cut"] += prediction.cut
                if show:
                    names = recognizer.renderer.spec.labels.names
                    stdout.print(highlight(prediction.text, prediction.entities, names), soft_wrap=True)
                else:
                    content = json.dumps(prediction.to_json(), ensure_ascii=False, allow_nan=False)
                    print(content if target else escaped(content), file=target or sys.stdout, flush=True)
    if count["cut"]:
        print(f"nertune: {count['cut']} of {count['written']} texts: {_CUT}", file=sys.stderr)
    return 3 if count["refused"] else 0


def _from_here(
    rows: Iterable[SourceText],
    recognizer: Any,
    done: Callable[[int], None],
    trace: Callable[[Any], None] | None = None,
    *,
    lenient: bool = False,
) -> Generator[list[Outcome], None, None]:
    """A server is kept busy; a model on this machine is given chunks, so that its numbers are the same however often it is
    interrupted.
    """
    engine: Any = getattr(recognizer, "engine", None)
    if trace is None and hasattr(engine, "asking"):
        return recognize_steadily(recognizer, engine, rows)
    return (recognize(recognizer, chunk, done=done, trace=trace, lenient=lenient) for chunk in chunked(rows))


def _nothing() -> Generator[list[Outcome], None, None]:
    yield from ()


def _from_workers(rows: Iterable[SourceText], factory: Factory, count: int) -> Generator[list[Outcome], None, None]:
    with Workers(factory, count) as workers:
        yield from workers.run(chunked(rows))


class _Progress:
    """What is shown while a file is worked on: rows, rate, time left, failed rows."""

    def __init__(self, source: Source, before: Standing) -> None:
        self._extent = source.extent()
        self._before = before.written + before.failed
        self._now = before
        self._read, self._offset = self._before, before.offset

    def __enter__(self) -> _Progress:
        self._started = time.monotonic()
        self._meter = Meter("extracting", self._extent.rows, before=self._before)
        self._meter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter.__exit__(kind, error, trace)

    def read(self, row: SourceText) -> SourceText:
        """A row was read; where it ends tells how many there will be."""
        self._read, self._offset = self._read + 1, row.offset
        return row

    def within(self, more: int) -> None:
        """So many rows of the chunk at hand are through."""
        done = self._now.written + self._now.failed + more
        total = self._extent.rows
        if total is None and self._extent.size and self._offset:
            total = round(self._read * self._extent.size / self._offset)
        rate = (done - self._before) / max(1e-3, time.monotonic() - self._started)
        failed = f", {self._now.failed} failed" if self._now.failed else ""
        self._meter.update(done, total=total and max(total, done), extra=f"{rate:.1f} rows/s{failed}")

    def update(self, now: Standing) -> None:
        """A chunk is through."""
        self._now = now
        if now.written + now.failed > self._read:  # read elsewhere
            self._read, self._offset = now.written + now.failed, now.offset
        self.within(0)


def _told(output: Output, before: Standing) -> int:
    now = output.standing
    if now.cut:
        line(f"nertune: {now.cut} of {now.written} texts: {_CUT}")
    if now.failed:
        line(f"nertune: {now.failed} of {now.written + now.failed} rows failed; {output.failed} says which, and why")
    return 3 if now.failed else 0
