"""From one format of annotated files to another, and what the way cost: read, written, and read back.

Documents pass through one by one. What the target cannot hold is listed in a file beside it rather than dropped, and what
was written is read back and compared with what should stand there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from nertune import data
from nertune.atomic import STDOUT, is_stream, replacing, replacing_bytes, same_file
from nertune.data.loss import Loss
from nertune.data.wording import counted
from nertune.errors import InputError, MissingFileError
from nertune.prompt import KNOWN_ANSWERS, AnswerFormat, PromptSpec, PromptTemplate, answer_format, load_template, strict
from nertune.prompted import LAYOUTS, ROWS, Layout, PromptedRows
from nertune.schema import Document, LabelSet
from nertune.train.llamafactory import open_recipe
from nertune.train.sections import PromptSection, parse_answer, parse_labels

__all__ = ["Conversion", "Wording", "convert"]


@dataclass(frozen=True, slots=True)
class Wording:
    """How rows for LLMs are worded. What is None is the recipe's, or the default.

    Args:
        template: a template by name or path (default: cluener).
        answer: the name of an answer format (default: json).
        labels: in the order in which the prompt names them (default: those that occur, the most frequent first).
        layout: which columns of an alpaca row hold what (default: sentence-in-input).
        recipe: a recipe whose prompt, answers, labels and label map are taken.
        task: which of its data sets, where it has several.
    """

    template: str | None = None
    answer: str | None = None
    labels: tuple[str, ...] | None = None
    layout: Layout | None = None
    recipe: str | None = None
    task: str | None = None


_AS_USUAL = Wording()
_AS_THEY_ARE = data.LabelMap()
_AS_TOLD = data.ReadSettings()
_NOWHERE = "mentions that the text does not hold there"  # their offsets are the file's own
_FOLDERS = ("brat", "hf")  # formats that are folders of files
_PIECES = "mentions of several pieces"


class Conversion(NamedTuple):
    """What was converted. `said`: lines for people; `complete`: no document and no entity of the source is left out."""

    said: tuple[str, ...]
    complete: bool


def convert(
    source: str,
    target: str,
    *,
    target_format: str,
    wording: Wording = _AS_USUAL,
    scheme: data.Scheme | None = None,
    label_map: data.LabelMap = _AS_THEY_ARE,
    reading: data.ReadSettings = _AS_TOLD,
) -> Conversion:
    """Convert an annotated file, read the result back, and say what is to be said about both.

    `wording`: the prompts and answers of rows for LLMs; its `answer` also the marks of inline lines (inline). `scheme`: that
    of the tags, for targets that have tags. `label_map`: other labels for those of the file, given right after reading.
    `reading`: how the source is read, see `data.open_rows`. What the target's format cannot hold, and mentions of the source
    that have no place in its text, are listed in `TARGET.left-out.jsonl`, a line for each document it is about.
    Raises DataError for what cannot be read, InputError when both are the same file, for labels that the answers cannot
    write or that are not among those listed, and for a wording or a scheme where the target has none, DiskSpaceError.
    """
    if is_stream(target):
        return _to_stream(
            source,
            target,
            target_format=target_format,
            wording=wording,
            scheme=scheme,
            label_map=label_map,
            reading=reading,
        )
    words = _Words.of(wording, label_map)
    label_map = words.label_map
    if target_format in ROWS:
        reading = {**reading, "labels": label_map.wanted(words.labels.names if words.labels else None)}
    if not Path(target).absolute().parent.is_dir():
        raise MissingFileError(f"{target}: there is no directory {Path(target).absolute().parent}; make it first")
    listed = _left_out_path(target)
    for written in (target, listed):
        if same_file(source, written):
            raise InputError(f"{written}: is the file to be converted, and would be replaced; name another target")
    with data.open_rows(source, answers=KNOWN_ANSWERS, **reading) as read:
        rows: Iterable[data.Row] = read
        changes = data.Changes()
        if target_format in ROWS and scheme is None:
            labels, rows = _labelled(source, reading, read, label_map)
            writer: data.Writer = words.rows(target_format, labels, source)
        else:
            writer = _writer(target_format, target, wording, scheme)
        passage = _Passage(writer, label_map.rows(rows, changes))
        with replacing(listed) as file:
            writer.write(passage.documents(file), target)
            for missed in read.missed:
                passage.list_missed(missed.line, missed.why, file)
        said = [
            *words.notes,
            f"{source}: {read.format}, {counted(passage.counts['read'], 'document')}",
            *read.notes(),
            *label_map.notes(changes),
            *passage.losses(),
        ]
    if passage.counts["listed"]:
        said.append(f"{listed}: what was left out of {counted(passage.counts['listed'], 'document')}, a line each")
    else:
        listed.unlink()
    if target_format in ROWS:
        said.append(f"{Path(target).parent / 'dataset_info.json'}: entry {Path(target).stem!r}")
    unlike = _unlike(target, target_format, passage.digests)
    if unlike:
        said.append(_not_alike(unlike, target_format))
    said.append(f"{target}: {counted(len(passage.digests), 'document')} written as {target_format}")
    return Conversion(tuple(said), complete=not (passage.counts["listed"] or unlike))


def _to_stream(source: str, target: str, *, target_format: str, **settings: Any) -> Conversion:
    """Convert into a temporary file, read that back, and send it. What is left out is listed among what is said."""
    if target_format in _FOLDERS:
        raise InputError(f"{target}: {target_format} is a folder of files, which no stream holds; name a folder")
    shown = "stdout" if target == STDOUT else target
    with tempfile.TemporaryDirectory(prefix="nertune-") as folder:
        file = Path(folder) / "converted"
        found = convert(source, str(file), target_format=target_format, **settings)
        listed = _left_out_path(str(file))
        left_out = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
        said = [line.replace(str(file), shown) for line in found.said if "dataset_info.json" not in line]
        with replacing_bytes(target) as out, file.open("rb") as content:
            shutil.copyfileobj(content, out)
    return Conversion((*said, *(f"left out: {line}" for line in left_out)), found.complete)


@dataclass(frozen=True)
class _Words:
    """A wording with its parts loaded. `labels`: None for those that occur in the file."""

    template: PromptTemplate
    answer: AnswerFormat
    labels: LabelSet | None
    label_map: data.LabelMap
    layout: Layout | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, wording: Wording, label_map: data.LabelMap) -> _Words:
        """Raises InputError, MissingFileError and RecipeError for parts that are not there."""
        notes: list[str] = []
        section = None
        if wording.recipe is not None:
            opened = open_recipe(wording.recipe)
            notes += opened.notes
            section = opened.recipe.section(wording.task)
        elif wording.task is not None:
            raise InputError("--task is one of a recipe's tasks: name the recipe (--recipe)")
        if wording.template is not None or section is None:
            template = load_template(wording.template or "cluener", notes)
        else:
            template = (section.prompt or PromptSection()).load(notes)
        if wording.answer is not None or section is None:
            answer = answer_format(wording.answer or "json")
        else:
            answer = parse_answer("inline" if section.answer is None else section.answer)
        if wording.labels is not None:
            labels: LabelSet | None = LabelSet(wording.labels)
        else:
            labels = parse_labels(section.labels) if section and section.labels else None
        if section is not None and not label_map:
            label_map = section.data.mapping()
        return cls(template, answer, labels, label_map, wording.layout, tuple(notes))

    def rows(self, format: str, found: LabelSet, source: str) -> PromptedRows:
        """What writes rows. `found`: the labels that occur. Raises InputError where some are not listed."""
        if self.layout is not None and format != "alpaca":
            raise InputError(f"--layout {self.layout}: {format} has turns instead of columns; it is for alpaca")
        unknown = [name for name in found if self.labels is not None and name not in self.labels]
        if unknown:
            raise InputError(
                f"{source}: labels that are not listed: {', '.join(unknown)}. Add them (--labels, or labels of the recipe), "
                "or give them others (--map OLD=NEW; OLD= leaves them out)"
            )
        spec = PromptSpec(self.template, self.labels or found, strict(self.answer).form)
        return PromptedRows(format, spec, self.layout or LAYOUTS[0])


def _writer(format: str, target: str, wording: Wording, scheme: data.Scheme | None) -> data.Writer:
    """What writes documents alone. Raises InputError for what it has no use for."""
    answer = wording.answer
    for option in ("template", "labels", "layout", "recipe", "task"):
        if (value := getattr(wording, option)) is not None:
            shown = ",".join(value) if isinstance(value, tuple) else value
            raise InputError(f"--{option} {shown}: {format} has no prompts; it is for {' and '.join(ROWS)}")
    if answer is not None and format != "inline":
        raise InputError(f"--answer {answer}: {format} holds no answers; it is for {', '.join(ROWS)} and inline")
    if format != "inline" or scheme is not None:
        return data.writer(format, path=target, scheme=scheme)
    marks = {known.name: known for known in KNOWN_ANSWERS.marks()}
    if (answer or "inline") not in marks:
        raise InputError(f"--answer {answer}: inline lines are marked as {' or '.join(marks)}")
    return data.MarkedLines(marks[answer or "inline"])


def _labelled(
    source: str, settings: data.ReadSettings, reading: data.Reading, label_map: data.LabelMap
) -> tuple[LabelSet, Iterable[data.Row]]:
    """The labels that a prompt names, most frequent first, and the rows: a file is read twice, a pipe is kept."""
    if os.path.isfile(source) or os.path.isdir(source):
        with data.open_rows(source, answers=KNOWN_ANSWERS, **settings) as first:
            return _labels(first, label_map), reading
    kept = list(reading)
    return _labels(kept, label_map), kept


def _labels(rows: Iterable[data.Row], label_map: data.LabelMap) -> LabelSet:
    return LabelSet.from_documents(row.document for row in label_map.rows(rows, data.Changes()))


class _Passage:
    """Documents on their way, each as the target holds it; what it does not hold goes into the list."""

    def __init__(self, writer: data.Writer, rows: Iterable[data.Row]) -> None:
        self.writer, self.rows = writer, rows
        self.digests = array("Q")  # eight bytes a document, so that any number of them fits
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
            if left_out or document is None or row.lost:
                self.counts["listed"] += 1
                listed.write(json.dumps(_listed(row, document, losses), ensure_ascii=False) + "\n")
            if document is not None:
                self.digests.append(_digest(document))
                yield document

    def list_missed(self, line: int, why: str, listed: TextIO) -> None:
        """A record that was not read at all."""
        self.counts["listed"] += 1
        listed.write(json.dumps({"line": line, "document": f"not read: {why}"}, ensure_ascii=False) + "\n")

    def losses(self) -> list[str]:
        """A line for each kind of thing that the target cannot hold."""
        return [f"{self.writer.name} cannot hold {kind}: {count:,}" for kind, count in self._kinds.most_common()]


def _listed(row: data.Row, document: Document | None, losses: Iterable[Loss]) -> dict[str, object]:
    entities: list[dict[str, object]] = [
        {"kind": loss.kind, "start": e.start, "end": e.end, "label": e.label, "text": e.text}
        for loss in losses
        if loss.left_out and (e := loss.entity) is not None
    ]
    entities += [
        {
            "kind": _PIECES if mention in row.raw.lost else _NOWHERE,
            "start": mention.start,
            "end": mention.end,
            "label": mention.label,
            "text": mention.text,
        }
        for mention in row.lost
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


def _digest(document: Document) -> int:
    entities = [(e.label, e.start, e.end, e.score) for e in document.entities]
    return int.from_bytes(hashlib.blake2b(repr((document.text, entities)).encode(), digest_size=8).digest())


def _unlike(target: str, format: str, digests: Sequence[int]) -> list[int]:
    """Read the target back; the numbers of the documents that are not what was to be written."""
    # What was written is known, and not left to what spans without surfaces seem to say.
    offsets: data.Offsets | None = "code-points" if data.FORMATS[format].elects else None
    with data.open_rows(target, format=format, offsets=offsets, answers=KNOWN_ANSWERS) as reading:
        found = (_digest(row.document) for row in reading)
        return [number for number, (a, b) in enumerate(zip_longest(digests, found), 1) if a != b]


def _left_out_path(target: str) -> Path:
    return Path(target.rstrip("/") + ".left-out.jsonl")


def _not_alike(numbers: Sequence[int], format: str) -> str:
    first = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
    do = "does" if len(numbers) == 1 else "do"
    return f"{counted(len(numbers), 'document')} {do} not come back alike: {format} cannot hold the entities ({first})"
