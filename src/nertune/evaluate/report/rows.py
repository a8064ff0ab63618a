"""Documents with their gold and predicted entities, small enough for one page.

An entity is a list of numbers: start, end (code points), place of its label in `labels`, place of its class in `classes`,
then for gold the place of its partner among the predicted (-1: none), for predicted the score in thousandths (-1: none).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nertune.evaluate.errors import ErrorReport
from nertune.evaluate.findings import KINDS, Finding
from nertune.schema import Document, Entity, ParseOutcome, Prediction

__all__ = ["MOST_BYTES", "document_rows"]

MOST_BYTES = 4_200_000
"""Of UTF-8 for all documents: with the rest a page stays below 5 MB."""

_CLASSES = list(KINDS)


def document_rows(
    errors: ErrorReport, predicted: Sequence[Prediction], *, most_bytes: int = MOST_BYTES
) -> dict[str, Any]:
    """`labels`, and `documents`: as many as there is room for, those with errors first; `total` counts all.

    Labels are in the order of gold and predicted mentions together, the most frequent first.
    """
    counts: dict[str, int] = {}
    for found in errors.found:
        for finding in found:
            for name in finding.labels:
                if name is not None:
                    counts[name] = counts.get(name, 0) + 1
    labels = sorted(counts, key=lambda name: (-counts[name], name))
    places = {name: place for place, name in enumerate(labels)}
    order = sorted(range(len(errors.found)), key=lambda place: _right(errors.found[place]))
    rows, room = [], most_bytes
    for place in order:
        row = _row(place, errors.documents[place], errors.found[place], predicted[place], places)
        # As the page writes it: what could end a script is escaped there, which is longer.
        size = len(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")) + 1
        size += 5 * sum(map(str(row[2]).count, "<>&\u2028\u2029"))
        if size <= room:
            room -= size
            rows.append(row)
    rows.sort(key=lambda row: row[0])
    return {"labels": labels, "total": len(errors.found), "documents": rows}


def _right(found: Sequence[Finding]) -> bool:
    return all(finding.kind == "correct" for finding in found)


def _row(
    place: int, document: Document, found: Sequence[Finding], prediction: Prediction, labels: dict[str, int]
) -> list[Any]:
    """[number from 1, id, text, gold, predicted, ungrounded as [label, text, class], remark]."""
    gold: list[list[int]] = []
    marked: list[list[int]] = []
    nowhere: list[list[Any]] = []
    for kind, wanted, named in found:
        number = _CLASSES.index(kind)
        if wanted is not None:
            partner = len(marked) if isinstance(named, Entity) else -1
            gold.append([wanted.start, wanted.end, labels[wanted.label], number, partner])
        if isinstance(named, Entity):
            score = -1 if named.score is None else round(1000 * named.score)
            marked.append([named.start, named.end, labels[named.label], number, score])
        elif named is not None:
            nowhere.append([labels[named.label], named.text, number])
    remark = "cut" if prediction.cut else "unreadable" if prediction.outcome is ParseOutcome.INVALID else ""
    return [place + 1, document.id, document.text, gold, marked, nowhere, remark]
