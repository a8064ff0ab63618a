"""What a tool predicted, from a file in any format that annotated files are read in.

Extraction's own lines say more than annotated files do: what was named and stands nowhere, and how the answer ended. That
is kept, so that such a file is scored as it was when it was written. What a reader leaves out of an annotated file, because
the text does not hold it, is an ungrounded mention here: it was predicted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from nertune.data.corpus import open_rows
from nertune.data.formats.answers import Answers
from nertune.data.records import Record
from nertune.data.spans import Row
from nertune.data.wording import describe
from nertune.schema import Mention, ParseOutcome, Prediction

__all__ = ["PredictionFile", "read_predictions"]

_OUTCOMES = {outcome.value: outcome for outcome in ParseOutcome}


class PredictionFile(NamedTuple):
    """Predictions, the format they were in, and notes for people on what the reader decided."""

    predictions: tuple[Prediction, ...]
    format: str
    notes: tuple[str, ...]


class _Extra(NamedTuple):
    ungrounded: tuple[Mention, ...]
    cut: bool
    outcome: ParseOutcome


_NOTHING = _Extra((), False, ParseOutcome.CLEAN)


def read_predictions(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    labels: Sequence[str] | None = None,
    answers: Answers | None = None,
) -> PredictionFile:
    """The predictions of a file; `format`, `labels` and `answers` as `read` has them.

    A mention without a surface that is not within its text is named by its offsets.

    Of the keys that extraction writes, `ungrounded`, `stop`, `cut` and `outcome` are read where they are; `windows` is not.
    Raises as `read` does, and DataError where one of these keys holds something else than extraction writes.
    """
    with open_rows(path, format=format, labels=labels, answers=answers) as reading:
        predictions = tuple(_prediction(row) for row in reading)
        return PredictionFile(predictions, reading.format, reading.notes())


def _prediction(row: Row) -> Prediction:
    extra = _NOTHING if row.raw.record is None else _extra(row.raw.record)
    lost = tuple(Mention(mention.label, mention.shown) for mention in row.lost)
    return Prediction(
        row.document.text,
        row.document.entities,
        extra.ungrounded + lost,
        id=row.document.id,
        cut=extra.cut,
        outcome=extra.outcome,
    )


def _extra(record: Record) -> _Extra:
    value = record.value
    if "ungrounded" not in value and "stop" not in value:
        return _NOTHING
    found = value.get("ungrounded", [])
    if not isinstance(found, list):
        raise record.error(f"'ungrounded' must be a list, found {describe(found)}")
    outcome = value.get("outcome", ParseOutcome.CLEAN.value)
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        raise record.error(f"'outcome' must be one of {', '.join(_OUTCOMES)}, found {describe(outcome)}")
    cut = value.get("stop") == "length" or value.get("cut") is True
    if not found and not cut and outcome == ParseOutcome.CLEAN.value:
        return _NOTHING
    return _Extra(tuple(_mention(record, item) for item in found), cut, _OUTCOMES[outcome])


def _mention(record: Record, item: object) -> Mention:
    if isinstance(item, dict) and isinstance(item.get("text"), str):
        return Mention(record.label(item.get("label")), item["text"])
    raise record.error(f"'ungrounded' must hold objects {{'label', 'text'}}, found {describe(item)}")
