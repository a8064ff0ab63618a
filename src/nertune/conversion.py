"""From one format of annotated files to another, and what the way cost: read, written, and read back.

Documents pass through one by one. What the target cannot hold is listed in a file beside it rather than dropped, and what
was written is read back and compared with what should stand there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TextIO

from nertune import data
from nertune.atomic import replacing
from nertune.data.loss import Loss
from nertune.errors import InputError
from nertune.extract import ground
from nertune.prompt import PromptSpec, answer_format, fitted, load_template, refuse_unwritable
from nertune.schema import Document

__all__ = ["Conversion", "convert"]

_AS_THEY_ARE = data.LabelMap()
_READ_BACK = ("json", "jsonl")  # answers that the reader of alpaca rows knows


class Conversion(NamedTuple):
    """What was converted. `said`: lines for people; `complete`: every document and entity of the source is in the target."""

    said: tuple[str, ...]
    complete: bool


def convert(
    source: str,
    target: str,
    *,
    source_format: str | None,
    target_format: str,
    template: str,
    answer: str,
    label_map: data.LabelMap = _AS_THEY_ARE,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Conversion:
    """Convert an annotated file, read the result back, and say what is to be said about both.

    What the target's format cannot hold is listed in `TARGET.left-out.jsonl`, a line for each document it is about.
    `label_map`: other labels for those of the file, given right after reading.
    `reading`: what else `data.open_rows` takes for the source.
    Raises DataError for what cannot be read, InputError when both are the same file, DiskSpaceError.
    """
    if Path(source).exists() and Path(target).exists() and Path(source).samefile(target):
        raise InputError(f"{target}: source and target are the same file")
    if target_format == "alpaca":
        corpus = data.read(source, format=source_format, **reading)
        documents, changes = label_map.apply(corpus.documents)
        corpus = replace(corpus, documents=documents, notes=(*corpus.notes, *label_map.notes(changes)))
        return _to_rows(source, target, corpus, template, answer)
    writer = data.writer(target_format, path=target)
    listed = _left_out_path(target)
    with data.open_rows(source, format=source_format, **reading) as rows:
        changes = data.Changes()
        passage = _Passage(writer, label_map.rows(rows, changes))
        with replacing(listed) as file:
            writer.write(passage.documents(file), target)
        said = [
            f"{source}: {rows.format}, {passage.counts['read']:,} documents",
            *rows.notes(),
            *label_map.notes(changes),
            *passage.losses(),
        ]
    if passage.counts["listed"]:
        said.append(f"{listed}: what was left out, a line for each of {passage.counts['listed']:,} documents")
    else:
        listed.unlink()
    unlike = _unlike(target, target_format, passage.digests)
    if unlike:
        said.append(_not_alike(unlike, target_format))
    said.append(f"{target}: {len(passage.digests):,} documents written as {target_format}")
    return Conversion(tuple(said), complete=not (passage.counts["listed"] or unlike))


class _Passage:
    """Documents on their way, each as the target holds it; what it does not hold goes into the list."""

    def __init__(self, writer: data.WritableFormat, rows: Iterable[data.Row]) -> None:
        self.writer, self.rows = writer, rows
        self.digests: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()

    def documents(self, listed: TextIO) -> Iterator[Document]:
        """What is to be written. What is not goes into `listed`, as it is met."""
        for row in self.rows:
            self.counts["read"] += 1
            document, losses = self.writer.express(row.document)
            self._kinds.update(loss.kind for loss in losses)
            left_out = sum(loss.left_out for loss in losses)
            self.counts["left out"] += left_out
            if left_out or document is None:
                self.counts["listed"] += 1
                listed.write(json.dumps(_listed(row, document, losses), ensure_ascii=False) + "\n")
            if document is not None:
                self.digests.append(_digest(document))
                yield document

    def losses(self) -> list[str]:
        """A line for each kind of thing that the target cannot hold."""
        return [f"{self.writer.name} cannot hold {kind}: {count:,}" for kind, count in self._kinds.most_common()]


def _listed(row: data.Row, document: Document | None, losses: Iterable[Loss]) -> dict[str, object]:
    entities = [
        {"kind": loss.kind, "start": e.start, "end": e.end, "label": e.label, "text": e.text}
        for loss in losses
        if loss.left_out and (e := loss.entity) is not None
    ]
    whole = (
        {} if document is not None else {"document": "left out: " + ", ".join(sorted({loss.kind for loss in losses}))}
    )
    where = {} if row.raw.file is None else {"file": row.raw.file}
    return {
        **where,
        "line": row.raw.line,
        "id": row.document.id,
        "text": row.document.text,
        **whole,
        "entities": entities,
    }


def _digest(document: Document) -> bytes:
    entities = [(e.label, e.start, e.end, e.score) for e in document.entities]
    return hashlib.blake2b(repr((document.text, entities)).encode(), digest_size=16).digest()


def _unlike(target: str, format: str, digests: Sequence[bytes]) -> list[int]:
    """Read the target back; the numbers of the documents that are not what was to be written."""
    # What was written is known, and not left to what spans without surfaces seem to say.
    offsets: data.Offsets | None = "code-points" if data.FORMATS[format].elects else None
    with data.open_rows(target, format=format, offsets=offsets) as reading:
        found = (_digest(row.document) for row in reading)
        return [number for number, (a, b) in enumerate(zip_longest(digests, found), 1) if a != b]


def _left_out_path(target: str) -> Path:
    return Path(target.rstrip("/") + ".left-out.jsonl")


def _to_rows(source: str, target: str, corpus: data.Corpus, template: str, answer: str) -> Conversion:
    """To alpaca rows, whose prompt is a template's."""
    said = [f"{source}: {corpus.format}, {len(corpus.documents):,} documents", *corpus.notes]
    rows = _alpaca_rows(corpus, source, template, answer)
    data.write_alpaca(rows, Path(target))
    said.append(f"{Path(target).parent / 'dataset_info.json'}: entry {Path(target).stem!r}")
    if answer in _READ_BACK:
        again = data.read(target, format="alpaca").documents
    else:
        again = _answered(corpus, rows, answer)
        said.append(
            f"alpaca rows with {answer} answers are for training elsewhere: nertune reads those with json and jsonl"
        )
    pairs = enumerate(zip(corpus.documents, again, strict=True), 1)
    lost = [number for number, (before, after) in pairs if _digest(before) != _digest(after)]
    if lost:
        said.append(_not_alike(lost, "alpaca"))
    said.append(f"{target}: {len(again):,} documents written as alpaca")
    return Conversion(tuple(said), complete=not lost)


def _not_alike(numbers: Sequence[int], format: str) -> str:
    first = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
    return f"{len(numbers):,} documents do not come back alike: {format} cannot hold their entities ({first})"


def _alpaca_rows(corpus: data.Corpus, source: str, template: str, answer: str) -> list[data.AlpacaRow]:
    spec = PromptSpec(load_template(template), corpus.labels, fitted(answer_format(answer), corpus.documents))
    refuse_unwritable(
        (f"{source}: document {number}", spec.answer, document) for number, document in enumerate(corpus.documents, 1)
    )
    filled = spec.filled()
    before, after = filled.around_text()
    return [
        data.AlpacaRow(filled.system or "", before + document.text + after, spec.write(document))
        for document in corpus.documents
    ]


def _answered(corpus: data.Corpus, rows: Sequence[data.AlpacaRow], answer: str) -> tuple[Document, ...]:
    """The documents that the answers of rows speak of, read and placed as a model's answers are."""
    form = answer_format(answer)
    return tuple(
        Document(document.text, ground(document.text, form.parse(row.output), corpus.labels).entities)
        for document, row in zip(corpus.documents, rows, strict=True)
    )
