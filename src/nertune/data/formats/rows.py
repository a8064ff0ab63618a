"""Files of rows for LLMs: opened under the names that `dataset_info.json` gives their keys, and written with their entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nertune.atomic import replacing
from nertune.data.atomic import checked
from nertune.data.formats.dataset_info import INFO, DataSet, data_set, data_set_of_file, data_sets, extended
from nertune.data.records import Record
from nertune.data.source import Source, open_source, with_names
from nertune.errors import InputError

__all__ = ["Rows", "listed_format", "opened_rows", "write_data_set"]


class Rows(NamedTuple):
    """The records of an open file under the format's own names, and the names that the caller or the list gives them."""

    records: Iterator[Record]
    columns: Mapping[str, str] | None


def listed_format(source: Source) -> str | None:
    """The format that `dataset_info.json` gives a file or a folder; None where there is none that does."""
    if source.columns is not None:
        return None
    if source.is_folder:
        names = list(data_sets(source.path))
        return data_set(source.path, names[0]).format if names else None
    found = data_set_of_file(source.path) if source.is_json else None
    return found.format if found else None


@contextmanager
def opened_rows(source: Source, format: str) -> Iterator[Rows]:
    """The rows of a file, or of the one data set that a folder's list names.

    The caller's names go before those of the list beside the file, and these before the format's own. Raises DataError for
    a folder that names no data set or several.
    """
    if source.is_folder:
        listed = _only(source)
        with open_source(listed.path, columns=listed.columns) as file:
            yield Rows(file.records(), listed.columns)
        return
    beside = None if source.columns is not None else data_set_of_file(source.path)
    if beside is None or beside.format != format or beside.columns is None:
        yield Rows(source.records(), source.columns)
        return
    columns = beside.columns
    yield Rows((with_names(record, columns) for record in source.records()), columns)


def _only(source: Source) -> DataSet:
    listed = data_sets(source.path)
    if len(listed) == 1:
        return data_set(source.path, *listed)
    if not listed:
        raise source.error(f"is a directory without a {INFO} that names a file in it; name the file to read")
    files = ", ".join(str(Path(source.path, file)) for file in listed.values())
    raise source.error(f"{INFO} names {len(listed)} data sets; give the file of one: {files}")


def write_data_set(
    rows: Iterable[Mapping[str, object]], path: Path, entry: Callable[[Mapping[str, object]], Mapping[str, object]]
) -> None:
    """Write rows one by one as a JSON array, or as JSONL where the name ends so, and name the file in the list beside it.

    `entry`: what the list says of it besides its name, from the first row. Both are replaced atomically, the list last, and
    its other entries are kept. Raises InputError for no rows or for the name `dataset_info.json`, DataError for a list that
    is not a JSON object (nothing is written then) or for text that is not Unicode, MissingFileError for an absent directory,
    DiskSpaceError.
    """
    if path.name == INFO:
        raise InputError(f"{path}: {INFO} lists the data sets; give the rows another name")
    info_path = path.with_name(INFO)
    extended(info_path, path.stem, {})
    lines = path.suffix.lower() == ".jsonl"
    first: Mapping[str, object] | None = None
    with replacing(path) as file:
        for number, row in enumerate(rows, 1):
            sound = dict(checked(row, path, number))
            if lines:
                file.write(json.dumps(sound, ensure_ascii=False) + "\n")
            else:
                text = json.dumps([sound], ensure_ascii=False, indent=2)
                file.write(("[" if first is None else ",") + text[1:-2])
            first = sound if first is None else first
        if first is None:
            raise InputError(f"{path}: no rows to write")
        file.write("" if lines else "\n]\n")
    info = extended(info_path, path.stem, {"file_name": path.name, **entry(first)})
    with replacing(info_path) as file:
        json.dump(info, file, ensure_ascii=False, indent=2)
        file.write("\n")
