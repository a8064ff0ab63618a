"""Rows from Parquet, in batches, row groups that are passed over unread. Rows are numbered from 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nertune.data.decoding import opened
from nertune.data.texts.lines import LONGEST, unusable
from nertune.data.texts.where import Keys, Place, check_columns
from nertune.errors import DataError, MissingExtraError
from nertune.schema import SourceText

__all__ = ["count_rows", "from_parquet"]

_BATCH = 256


def count_rows(source: str) -> int:
    """How many rows a file has. Raises DataError, and MissingExtraError without the extra `tables`."""
    with _parquet(source) as table:
        return int(table.metadata.num_rows)


def from_parquet(source: str, keys: Keys, after: Place, note: Callable[[str], None]) -> Iterator[SourceText]:
    """A text a row. `note`: told of columns that stand twice or without a name.

    Raises DataError for a file without the text's column, or with two of it, or where that holds no strings, or the id's
    holds bytes.
    """
    with _parquet(source) as table:
        import pyarrow as pa

        names = table.schema_arrow.names
        check_columns(names, keys, source, note, line=None)
        kind = _kind(table, keys.text)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise DataError(f"the column {keys.text} holds {kind}, not strings", path=source)
        own = _kind(table, keys.id) if keys.id in names else pa.string()
        if "binary" in str(own) or pa.types.is_nested(own):
            raise DataError(
                f"the column {keys.id}, which is each row's id, holds {own}, not strings or numbers; name another "
                "(--id-key), or one that is not there for no ids",
                path=source,
            )
        columns = [keys.text, *([keys.id] if keys.id in names else [])]
        number, groups = _remaining(table, after.row)
        try:
            for batch in table.iter_batches(batch_size=_BATCH, row_groups=groups, columns=columns):
                for place in range(batch.num_rows):
                    number += 1
                    if number > after.row:
                        yield _row(batch, place, number, keys)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot be read after row {number}: {error}", path=source) from error


def _kind(table: Any, name: str) -> Any:
    """The type of a column's values."""
    import pyarrow as pa

    kind = table.schema_arrow.field(name).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _remaining(table: Any, row: int) -> tuple[int, list[int]]:
    """How many rows the groups have that end before a row, and which groups do not."""
    passed = 0
    groups = range(table.metadata.num_row_groups)
    for group in groups:
        size = table.metadata.row_group(group).num_rows
        if passed + size > row:
            return passed, list(groups[group:])
        passed += size
    return passed, []


def _row(batch: Any, place: int, number: int, keys: Keys) -> SourceText:
    own = None
    try:
        if keys.id in batch.schema.names:
            value = batch.column(keys.id)[place].as_py()
            own = None if value is None else str(value)
        text = batch.column(keys.text)[place].as_py()
    except UnicodeDecodeError:
        return unusable(number, None, "is not UTF-8", id=own)
    if not text or not text.strip():
        return unusable(number, None, f"{keys.text!r} is empty", id=own, text=text or "")
    if len(text) > LONGEST:
        return unusable(number, None, f"is longer than {LONGEST >> 20} million characters; cut the text", id=own)
    return SourceText(own, text, number)


@contextmanager
def _parquet(source: str) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("reading Parquet", extra="tables") from error
    with opened(source) as file:
        try:
            table = pq.ParquetFile(file, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"is no Parquet file that can be read: {error}", path=source) from error
        yield table
