"""The `alpaca` format: an array (or JSONL) of {"instruction", "input", "output"}, as LLaMA-Factory takes it.

Its rows hold a prompt and an answer. Reading tells the sentence from what the prompts have in common and the entities from
the answers; writing takes rows that the caller made, since only the prompt room knows the prompt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nertune.data.formats.dataset_info import ALPACA
from nertune.data.formats.exchange import Exchange, documents
from nertune.data.formats.frame import MARKER
from nertune.data.formats.rows import listed_format, opened_rows, write_data_set
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument
from nertune.data.wording import describe

__all__ = ["Alpaca", "AlpacaRow", "write_alpaca"]

_NO_TEXT = f"no text: 'input' is empty and 'instruction' has no line {MARKER} with a text after it"
_COLUMNS = {key: ALPACA[key] for key in ("prompt", "query", "response", "system")}


class AlpacaRow(NamedTuple):
    """One training row: what the model is told, what it is given, what it shall answer, and, if any, the system sentence."""

    instruction: str
    input: str
    output: str
    system: str | None = None


class Alpaca:
    """Reads rows back into documents. It has no `write`: use `write_alpaca` with rows made by the prompt room."""

    name = "alpaca"

    convention, elects = HALF_OPEN, False

    def sniff(self, source: Source) -> bool:
        """Whether every record holds the strings "instruction" and "output", or `dataset_info.json` says so."""
        listed = listed_format(source)
        if listed is not None:
            return listed == self.name
        values = [record.value for record in source.first_records]
        return bool(values) and all(
            isinstance(value.get(key), str) for value in values for key in ("instruction", "output")
        )

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents with mentions in the order of the answer, without offsets unless the answer marks them in the text.

        Raises DataError on a row without a text or an answer, and where most answers cannot be read.
        """
        with opened_rows(source, self.name) as rows:
            exchanges = map(_exchange, rows.records)
            yield from documents(exchanges, options, notes, answer="'output'", no_text=_NO_TEXT, answers=source.answers)


def write_alpaca(rows: Iterable[AlpacaRow], path: str | os.PathLike[str]) -> None:
    """Write `rows` as a JSON array (as JSONL where the name ends so) and name the file in `dataset_info.json` beside it.

    Rows that have a system sentence must all have one. Raises as `write_data_set` does.
    """

    def entry(first: Mapping[str, object]) -> dict[str, object]:
        return {"columns": _COLUMNS} if "system" in first else {}

    written = ({key: value for key, value in row._asdict().items() if value is not None} for row in rows)
    write_data_set(written, Path(path), entry)


def _exchange(record: Record) -> Exchange:
    value = record.value
    given = record.string("input") if value.get("input") is not None else ""
    told = record.string("instruction") if given.strip() == "" or value.get("instruction") is not None else ""
    history = value.get("history") or []
    if not isinstance(history, list):
        raise record.error(f"'history' must be a list of turns, found {describe(history)}")
    system = record.string("system") if value.get("system") is not None else ""
    if not given.strip():
        return Exchange(record, system, told, None, record.string("output"), len(history))
    start = len(told) + 1 if told else 0
    prompt = f"{told}\n{given}" if told else given
    return Exchange(record, system, prompt, start, record.string("output"), len(history))
