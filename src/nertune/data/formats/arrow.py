"""Tables of Arrow and Parquet, and the folders of them that `datasets` makes: rows in batches, and rows written.

Needs pyarrow, the extra `tables`. Every batch is validated before it is touched, so that offsets which point out of a
damaged file are an error and no crash; pyarrow unpickles nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nertune.atomic import replacing
from nertune.data.atomic import checked
from nertune.data.decoding import opened
from nertune.data.formats import features
from nertune.data.formats.features import json_object
from nertune.data.source import Source
from nertune.data.strict_json import decode_at
from nertune.data.texts.where import check_doubled
from nertune.data.wording import reason, shortened
from nertune.errors import DataError, MissingExtraError

__all__ = ["Row", "Tables", "is_dataset", "is_table", "opened_tables", "write_table"]

_BATCH = 256
_STREAM, _FILE, _PARQUET = b"\xff\xff\xff\xff", b"ARROW1", b"PAR1"
_PART = re.compile(r"(.+?)(?:-\d{5}-of-\d{5}(?:-[0-9a-f]+)?)?\.parquet")
_DICT, _INFO, _STATE = "dataset_dict.json", "dataset_info.json", "state.json"


class Row(NamedTuple):
    """A row to be written."""

    id: str | None
    text: str
    tokens: list[str]
    tags: list[str]


@dataclass(frozen=True)
class Tables:
    """The tables of one dataset, alike in their columns.

    `kinds`: what each column holds, in pyarrow's words. `features`: what they or their folder say of the columns.
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    features: object
    rows: Callable[[Sequence[str]], Iterator[dict[str, object]]]


def is_table(head: bytes) -> bool:
    """Whether a file that begins so is Parquet or Arrow."""
    return head.startswith((_STREAM, _FILE, _PARQUET))


def is_dataset(path: str) -> bool:
    """Whether a folder is what `save_to_disk` writes, or holds Parquet files by split."""
    folder = Path(path)
    if (folder / _DICT).is_file() or ((folder / _INFO).is_file() and (folder / _STATE).is_file()):
        return True
    return bool(_by_split(folder))


@contextmanager
def opened_tables(source: Source, split: str | None) -> Iterator[Tables]:
    """A file's table, or those of a folder's `split`. Raises DataError, MissingExtraError without the extra."""
    _pyarrow()
    with ExitStack() as stack:
        files, info = _files(source, split)
        yield _tables(source, files, info, stack)


def write_table(rows: Iterable[Row], path: str | os.PathLike[str], *, letters: str) -> None:
    """Parquet of id, text, tokens and ner_tags: `O` is 0, and each label has all `letters`, by its first occurrence."""
    pa, pq = _pyarrow()
    strings = pa.list_(pa.string())
    fields = [("id", pa.string()), ("text", pa.string()), ("tokens", strings), ("ner_tags", pa.list_(pa.int64()))]
    schema = pa.schema(fields)
    numbers = {"O": 0}
    with replacing(path) as file, pq.ParquetWriter(file.buffer, schema, store_schema=False) as writer:
        for number, batch in enumerate(_batches(rows)):
            for place, row in enumerate(batch, number * _BATCH + 1):
                checked(row._asdict(), path, place)
            for tag in (tag for row in batch for tag in row.tags if tag not in numbers):
                numbers |= {f"{letter}{tag[1:]}": len(numbers) + place for place, letter in enumerate(letters)}
            tags = [[numbers[tag] for tag in row.tags] for row in batch]
            columns = [[row.id for row in batch], [row.text for row in batch], [row.tokens for row in batch], tags]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
        writer.add_key_value_metadata({"huggingface": features.metadata(list(numbers))})


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _files(source: Source, split: str | None) -> tuple[list[Path], object]:
    """The files of the split, and the folder's own word about the columns."""
    if not source.is_folder:
        return [Path(source.path)], None
    folder = Path(source.path)
    if (folder / _DICT).is_file():
        folder = folder / _chosen(source, _names(json_object(folder / _DICT), "splits", folder / _DICT), split)
    elif not (folder / _STATE).is_file():
        by_split = _by_split(folder)
        return by_split[_chosen(source, list(by_split), split)], None
    elif split is not None:
        raise source.error(f"is a dataset without splits, so there is no {split!r}; leave --split out")
    state = json_object(folder / _STATE)
    if state.get("_indices_data_files"):
        raise source.error("was saved by an old version of datasets, with its rows' order in other files; save it anew")
    listed = state.get("_data_files")
    names = (
        [item.get("filename") if isinstance(item, dict) else None for item in listed]
        if isinstance(listed, list)
        else []
    )
    files = [folder / name for name in names if isinstance(name, str) and _is_plain(name)]
    if not files or len(files) < len(names):
        raise DataError("names no data files, or files outside its folder", path=folder / _STATE)
    info = json_object(folder / _INFO) if (folder / _INFO).is_file() else {}
    return files, info.get("features")


def _chosen(source: Source, splits: Sequence[str], split: str | None) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split in splits:
        return str(split)
    asked = "" if split is None else f"has no split {split!r}; it "
    raise source.error(
        f"{asked}holds the splits {', '.join(repr(shortened(split)) for split in splits[:20])}; "
        "name one (--split), or its own folder or file"
    )


def _by_split(folder: Path) -> dict[str, list[Path]]:
    """Parquet files in a folder by the split that they, or the folders they are in, are named after.

    As repositories of the hub have them: `data/train-00000-of-00001.parquet`, and `CONFIGURATION/train/0000.parquet` where
    the hub converted them. A configuration is part of a split's name only where there are several.
    """
    for depth in ("*", "*/*", "*/*/*"):
        found: dict[tuple[str, ...], list[Path]] = {}
        for file in sorted(folder.glob(f"{depth}.parquet")):
            named = _PART.fullmatch(file.name)
            if named and file.is_file():
                within = file.relative_to(folder).parts[:-1]
                split = within if named[1].isdecimal() and within else (*within, named[1])
                found.setdefault(split, []).append(file)
        if found:
            while len({split[0] for split in found}) == 1 and all(len(split) > 1 for split in found):
                found = {split[1:]: files for split, files in found.items()}
            return {"/".join(split): files for split, files in found.items()}
    return {}


def _names(value: dict[str, object], key: str, path: Path) -> list[str]:
    names = value.get(key)
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and _is_plain(n) for n in names):
        raise DataError(f"{key!r} must be a list of names", path=path)
    return [str(name) for name in names]


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set(name) & {"/", "\\", "\0"}


def _tables(source: Source, files: Sequence[Path], info: object, stack: ExitStack) -> Tables:
    first = _Table(files[0], source if not source.is_folder else None, stack)
    own = first.features()

    def rows(columns: Sequence[str]) -> Iterator[dict[str, object]]:
        yield from first.rows(columns)
        for path in files[1:]:
            with ExitStack() as inner:
                yield from _Table(path, None, inner).rows(columns)

    return Tables(first.names, first.kinds, own if own is not None else info, rows)


class _Table:
    """One open file."""

    _batches: Callable[[Sequence[str]], Iterator[Any]]

    def __init__(self, path: Path, source: Source | None, stack: ExitStack) -> None:
        pa, pq = _pyarrow()
        self._path, self._pa = path, pa
        file = source.file if source is not None else stack.enter_context(opened(path))
        try:
            magic = source.head[:6] if source is not None else file.peek(6)[:6]
            if magic.startswith(_PARQUET):
                table = pq.ParquetFile(file, pre_buffer=False)
                self.schema = table.schema_arrow
                self._batches = lambda columns: table.iter_batches(_BATCH, columns=columns)
            else:
                reader: Any = pa.ipc.open_file(file) if magic.startswith(_FILE) else pa.ipc.open_stream(file)
                self.schema = reader.schema
                self._batches = lambda columns: _selected(reader, columns, magic.startswith(_FILE))
            self.names = tuple(self.schema.names)
            self.kinds = tuple(map(str, self.schema.types))
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise DataError(f"is no table that can be read: {reason(error)}", path=path) from error

    def features(self) -> object:
        """The features in the schema, None where there are none."""
        raw = (self.schema.metadata or {}).get(b"huggingface")
        if raw is None:
            return None
        try:
            value, _ = decode_at(raw.decode("utf-8"), 0)
        except ValueError as error:
            raise DataError(
                f"its features (schema key 'huggingface') are broken: {reason(error)}", path=self._path
            ) from error
        info = value.get("info") if isinstance(value, dict) else None
        return info.get("features") if isinstance(info, dict) else None

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, object]]:
        """Its rows. Raises DataError where the file is damaged."""
        missing = [column for column in columns if column not in self.names]
        if missing:
            raise DataError(f"has no column {missing[0]!r}, as the files before it have", path=self._path)
        check_doubled(self.names, dict.fromkeys(columns, "--column"), self._path)
        number = 0
        try:
            for batch in self._batches(list(columns)):
                batch.validate(full=True)
                for start in range(0, batch.num_rows, _BATCH):
                    rows = batch.slice(start, _BATCH).to_pylist()
                    yield from rows
                    number += len(rows)
        except (self._pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
            raise DataError(f"cannot be read after row {number:,}: {reason(error)}", path=self._path) from error


def _selected(reader: Any, columns: Sequence[str], is_file: bool) -> Iterator[Any]:
    batches = (reader.get_batch(place) for place in range(reader.num_record_batches)) if is_file else reader
    for batch in batches:
        yield batch.select(columns)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("reading and writing tables", extra="tables") from error
    return pa, pq
