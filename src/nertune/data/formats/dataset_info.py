"""`dataset_info.json`: which files are LLaMA-Factory's data sets, in which of its two formats, under which names.

Its entries as LLaMA-Factory 0.9 reads them (data/README.md there). Once an entry names any column or tag, those that it does
not name are not there.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nertune.data.wording import describe
from nertune.errors import DataError, InputError
from nertune.files import parse_json

__all__ = ["ALPACA", "INFO", "PLAIN", "TAGS", "DataSet", "data_set", "data_set_of_file", "data_sets", "extended"]

INFO = "dataset_info.json"

ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}
SHAREGPT = {"messages": "messages", "system": "system"}
PLAIN = {"instruction": "instruction", "input": "input", "output": "output"}
_MESSAGES = "conversations"
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}
_ALL_TAGS = {**TAGS, "observation_tag": "observation", "function_tag": "function_call"}
_NEEDED = {"alpaca": ("prompt", "response"), "sharegpt": ("messages",)}
_NEEDED_TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag")
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_IGNORED = ("subset", "split", "folder", "tags", "file_sha1", "formatting", "ranking", "num_samples", "columns")


class DataSet(NamedTuple):
    """A file of rows in the format `format`, alpaca or sharegpt.

    `columns`: from the names that the reader of the format knows to the file's; None where the entry names none and the file
    has the format's own.
    """

    path: str
    format: str
    columns: dict[str, str] | None

    @property
    def named(self) -> dict[str, str]:
        """The columns by name, the usual ones where the entry names none."""
        if self.columns is not None:
            return self.columns
        return dict(PLAIN) if self.format == "alpaca" else {"messages": _MESSAGES, **_ALL_TAGS}


def data_set(folder: str, name: str) -> DataSet:
    """The data set of that name. Raises InputError with what is wrong with its entry."""
    if folder == "ONLINE" or folder.startswith("REMOTE:"):
        raise InputError(f"dataset_dir {folder!r} is on a hub; download the data and name their folder")
    path = Path(folder) / INFO
    if not path.is_file():
        raise InputError(f"{path}: no such file (looked in {path.parent.absolute()}); set dataset_dir")
    info = _read(path)
    if name not in info:
        near = difflib.get_close_matches(name, info, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(map(repr, info)) or 'none'}"
        raise InputError(f"{name!r} is not in {path}; {hint}")
    return _data_set(path, name, info[name])


def data_sets(folder: str) -> dict[str, str]:
    """The names of the data sets that lie in the folder itself, and their files; none where it has no such list."""
    path = Path(folder) / INFO
    return {name: entry["file_name"] for name, entry in _local(path)} if path.is_file() else {}


def data_set_of_file(path: str) -> DataSet | None:
    """The data set that a file is, by the list beside it; None where there is no such list, or it does not name the file."""
    if "\0" in path or not os.path.isfile(path):  # a pipe lies beside nothing
        return None
    info = Path(path).with_name(INFO)
    try:
        named = [name for name, entry in _local(info) if entry["file_name"] == Path(path).name]
        return _data_set(info, named[0], _read(info)[named[0]]) if len(named) == 1 else None
    except InputError:
        return None


def extended(path: Path, name: str, entry: Mapping[str, object]) -> dict[str, object]:
    """The list at `path` with one more entry, or one in place of that name's.

    Raises DataError for one that is no JSON object, which would be lost.
    """
    info: dict[str, object] = {}
    if path.exists():
        try:
            found = parse_json(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be updated: {error}; repair or move it", path=path) from error
        if not isinstance(found, dict):
            raise DataError(f"cannot be updated: it must be a JSON object, found {describe(found)}", path=path)
        info = found
    return {**info, name: dict(entry)}


def _read(path: Path) -> dict[str, Any]:
    try:
        info = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"not JSON: {error}", path=path) from error
    if not isinstance(info, dict):
        raise DataError("expected an object with an entry for each data set", path=path)
    return info


def _local(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of files. A library's own description of its data may have the same name; its values are no such entries."""
    try:
        info = _read(path) if path.is_file() else {}
    except InputError:
        return
    for name, entry in info.items():
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
            yield name, entry


def _data_set(path: Path, name: str, entry: object) -> DataSet:
    where = f"the entry {name!r}"
    if not isinstance(entry, dict):
        raise DataError(f"{where} must be an object, found {entry!r:.60}", path=path)
    form = "alpaca" if entry.get("formatting", "alpaca") == "alpaca" else "sharegpt"
    problems = _problems(entry, form)
    if problems:
        raise DataError(f"{where}: " + "; ".join(problems), path=path)
    file = path.parent / entry["file_name"]
    if "\0" in str(file) or not file.is_file():
        what = (
            "a folder, and one file is needed"
            if "\0" not in str(file) and file.is_dir()
            else f"not there (looked for {file.absolute()})"
        )
        raise DataError(f"{where}: file_name: {file} is {what}", path=path)
    if file.suffix.lower() not in (".json", ".jsonl"):
        raise DataError(f"{where}: file_name: {file.name} is neither .json nor .jsonl; convert it", path=path)
    return DataSet(str(file), form, _columns(entry, form))


def _columns(entry: Mapping[str, Any], form: str) -> dict[str, str] | None:
    if form == "alpaca":
        return {ALPACA[key]: column for key, column in entry["columns"].items()} if "columns" in entry else None
    if "columns" not in entry and "tags" not in entry:
        return None
    columns: dict[str, str] = entry.get("columns", {"messages": _MESSAGES})
    tags: dict[str, str] = entry.get("tags", _ALL_TAGS)
    return {**{SHAREGPT[key]: column for key, column in columns.items() if key in SHAREGPT}, **tags}


def _problems(entry: Mapping[str, Any], form: str) -> list[str]:
    """Why an entry cannot be used, in the entry's own words."""
    problems = [f"{key}: data on a hub; download them and give file_name" for key in _ELSEWHERE if key in entry]
    if entry.get("formatting", "alpaca") not in ("alpaca", "sharegpt", "openai"):
        problems.append(f"formatting: {entry['formatting']!r} rows are not read; make alpaca or sharegpt rows of them")
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
    problems += _name_problems(entry, "columns", tuple(ALPACA if form == "alpaca" else SHAREGPT), _NEEDED[form], form)
    if form == "sharegpt":
        problems += _name_problems(entry, "tags", tuple(_ALL_TAGS), _NEEDED_TAGS, form)
    return problems


def _name_problems(
    entry: Mapping[str, Any], key: str, known: tuple[str, ...], needed: tuple[str, ...], form: str
) -> list[str]:
    """What is wrong with the names under `columns` or `tags`."""
    names = entry.get(key)
    if key not in entry:
        return []
    if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
        return [f"{key}: expected names of {key}, such as {{{needed[0]}: …}}"]
    problems = []
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"{key} of {form} text: {', '.join(known)}"
        problems.append(f"{key}.{name}: not used here; {hint}")
    missing = [name for name in needed if name not in names]
    if missing and not problems:
        problems.append(f"{key}: {' and '.join(missing)} must be named once any is")
    return problems
