"""LLaMA-Factory's data sets: `dataset_info.json`, and the prompt and answer format that the rows of a file show.

Its rows bring their prompts with them, ours have one prompt a run. So the rows are read once: what stands before the
sentence in each must be the same text, and becomes the run's prompt; the answer format is the one that writes most of
the answers as they stand.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

from nertune import data
from nertune.data.records import Record, iter_records
from nertune.errors import InputError
from nertune.prompt import PromptTemplate, answer_format
from nertune.schema import Document, LabelSet

__all__ = ["Shown", "Source", "find_source", "shown_by"]

_INFO = "dataset_info.json"
_PLAIN = {"instruction": "instruction", "input": "input", "output": "output"}
_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_IGNORED = ("subset", "split", "folder", "tags", "file_sha1", "formatting", "ranking", "num_samples", "columns")
_ROWS_TO_CHOOSE = 200  # rows that choose the answer format; all are counted afterwards


class Source(NamedTuple):
    """A local file of alpaca rows; `columns` from our names for their keys to the file's."""

    path: str
    columns: dict[str, str]

    @property
    def renamed(self) -> dict[str, str] | None:
        """The columns that reading entities needs, None where they have their usual names."""
        columns = {name: column for name, column in self.columns.items() if name in _PLAIN}
        return None if columns == _PLAIN else columns


class Shown(NamedTuple):
    """What the rows of a source say about the run, and what is to be said about them."""

    user: str
    system: str | None
    answer: dict[str, Any]
    notes: tuple[str, ...]


def find_source(folder: str, name: str) -> Source:
    """The file that a data set's name stands for. Raises InputError with what is wrong with its entry."""
    if folder == "ONLINE" or folder.startswith("REMOTE:"):
        raise InputError(f"dataset_dir {folder!r} is on a hub; download the data and name their folder")
    info_path = Path(folder) / _INFO
    if not info_path.is_file():
        raise InputError(f"{info_path}: no such file (looked in {info_path.parent.absolute()}); set dataset_dir")
    try:
        info = json.loads(info_path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{info_path}: not JSON: {error}") from error
    if not isinstance(info, dict):
        raise InputError(f"{info_path}: expected an object with an entry for each data set")
    if name not in info:
        near = difflib.get_close_matches(name, info, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(map(repr, info)) or 'none'}"
        raise InputError(f"{name!r} is not in {info_path}; {hint}")
    if not isinstance(info[name], dict):
        raise InputError(f"{info_path}: the entry {name!r} must be an object, found {info[name]!r:.60}")
    problems = list(_entry_problems(info[name]))
    if problems:
        raise InputError(f"{info_path}: the entry {name!r}: " + "; ".join(problems))
    return _source(folder, info[name], where=f"{info_path}: the entry {name!r}")


def _entry_problems(entry: dict[str, Any]) -> Sequence[str]:
    """Why an entry cannot be used, in the entry's own words."""
    problems = [f"{key}: data on a hub; download them and give file_name" for key in _ELSEWHERE if key in entry]
    if entry.get("formatting", "alpaca") != "alpaca":
        problems.append(f"formatting: {entry['formatting']!r} rows are not read; make alpaca rows of them")
    if entry.get("ranking"):
        problems.append("ranking: pairs of answers are for other methods than sft")
    if entry.get("num_samples") is not None:
        problems.append("num_samples: rows are not drawn at random; use max_samples for the first ones")
    if not problems and not isinstance(entry.get("file_name"), str):
        problems.append("file_name is missing")
    known = ("file_name", *_IGNORED, *_ELSEWHERE)
    for key in sorted(set(entry) - set(known)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        problems.append(f"{key}: unknown" + (f"; did you mean {near[0]!r}?" if near else ""))
    columns = entry.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(value, str) for value in columns.values()):
        return [*problems, "columns: expected names of columns, such as {prompt: instruction}"]
    for key in sorted(set(columns) - set(_COLUMNS)):
        near = difflib.get_close_matches(key, _COLUMNS, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"columns of alpaca text: {', '.join(_COLUMNS)}"
        problems.append(f"columns.{key}: not used here; {hint}")
    return problems


def _source(folder: str, entry: dict[str, Any], *, where: str) -> Source:
    path = Path(folder) / entry["file_name"]
    if not path.is_file():
        what = "a folder, and one file is needed" if path.is_dir() else f"not there (looked for {path.absolute()})"
        raise InputError(f"{where}: file_name: {path} is {what}")
    if path.suffix.lower() not in (".json", ".jsonl"):
        raise InputError(f"{where}: file_name: {path.name} is neither .json nor .jsonl; convert it")
    columns = _PLAIN
    if "columns" in entry:
        columns = {_COLUMNS[key]: column for key, column in entry["columns"].items()}
        missing = [key for key in ("prompt", "response") if _COLUMNS[key] not in columns]
        if missing:
            raise InputError(f"{where}: columns: {' and '.join(missing)} must be named once any column is")
    return Source(str(path), columns)


def shown_by(source: Source, *, limit: int | None, default_system: str | None) -> Shown:
    """Read up to `limit` rows for their common prompt and their answer format.

    Raises DataError for rows that are not alpaca, InputError for rows whose prompts differ.
    """
    corpus = data.read(source.path, format="alpaca", limit=limit, columns=source.renamed)
    records = list(islice(iter_records(source.path), len(corpus.documents)))
    asked = [_asked(record, source.columns, text=document.text) for record, document in _pairs(records, corpus)]
    for record, (system, before) in zip(records, asked, strict=True):
        if (system, before) != asked[0]:
            raise record.error(
                f"asks otherwise than the first row: a run has one prompt. First {asked[0][1]!r:.80}, here {before!r:.80}"
            )
    system, before = asked[0]
    template = PromptTemplate(before + "{text}", system or default_system)
    if template.fill(LabelSet(("x",), {}, {"x": "x"}), "") != template:
        raise InputError(
            f"{source.path}: the prompt holds {{labels}}, {{descriptions}} or {{answer_format}}, which stand for something "
            "here"
        )
    outputs = [str(record.value[source.columns["output"]]) for record in records]
    answer, alike = _answer(corpus.documents, outputs)
    notes = [f"prompt and answer format ({answer['format']}) as the {len(records):,} rows of {source.path} show them"]
    if alike < len(records):
        notes.append(
            f"{len(records) - alike:,} of {len(records):,} answers are trained in another wording than the file's: in the "
            "order of the text, each entity that is in the text"
        )
    return Shown(template.user, template.system, answer, tuple(notes))


def _pairs(records: Sequence[Record], corpus: data.Corpus) -> list[tuple[Record, Document]]:
    return list(zip(records, corpus.documents, strict=True))


def _asked(record: Record, columns: dict[str, str], *, text: str) -> tuple[str, str]:
    """A row's own system text, and what stands before the sentence in the user's turn, which is `prompt\\nquery`."""

    def cell(name: str) -> Any:
        return record.value.get(columns[name]) if name in columns else None

    if cell("history"):
        raise record.error(f"{columns['history']!r} holds earlier turns; single turns alone can be trained")
    content = "\n".join(part for part in (cell("instruction"), cell("input")) if part)
    system = cell("system") or ""
    if not isinstance(system, str):
        raise record.error(f"{columns['system']!r} must be a string")
    if not content.endswith(text):
        raise record.error("the sentence must be the end of the prompt")
    return system, content[: len(content) - len(text)]


def _answer(documents: Sequence[Document], outputs: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The answer format, as a recipe names it, that writes most answers to the letter; and how many of all it does."""
    keys = (("label", "text"), ("entity_label", "entity_text"))
    choices = [
        {"format": name, "label_key": label, "text_key": text, "distinct": distinct}
        for name, (label, text), distinct in product(("json", "jsonl"), keys, (True, False))
    ]

    def alike(choice: dict[str, Any], count: int | None) -> int:
        options = dict(choice)
        written = answer_format(options.pop("format"), options)
        pairs = zip(documents[:count], outputs[:count], strict=True)
        return sum(written.write(document) == output for document, output in pairs)

    best = max(choices, key=lambda choice: alike(choice, _ROWS_TO_CHOOSE))
    return best, alike(best, None)
