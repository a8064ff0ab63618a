"""Documents for a page that shows them: what page.js of `nertune data show` draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nertune.data.spans import Row

__all__ = ["SCRIPT", "show_page"]

SCRIPT = Path(__file__).with_name("show.js")
_MOST_BYTES = 40 << 20  # of texts on one page


def show_page(
    rows: Iterable[tuple[int, Row]], *, title: str, most: int, display: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The page's value: `labels` as [name, display name, mentions], the most frequent first, and `documents`.

    A document is [number, line, id, text, entities as [start, end, place of the label, score], mentions that the text does
    not hold as [place of the label, text]]. `rows`: each with its number in the file, of which `most`, and not more than
    40 MiB of text, are taken; `total` counts all.
    """
    taken: list[tuple[int, Row]] = []
    counts: Counter[str] = Counter()
    total, room = 0, _MOST_BYTES
    for number, row in rows:
        total += 1
        counts.update(entity.label for entity in row.document.entities)
        counts.update(dict.fromkeys((mention.label for mention in row.lost), 0))
        room -= len(row.document.text.encode("utf-8"))
        if len(taken) < most and room >= 0:
            taken.append((number, row))
    names = sorted(counts, key=lambda name: (-counts[name], name))
    places = {name: place for place, name in enumerate(names)}
    display = display or {}
    return {
        "title": title,
        "labels": [[name, display.get(name, name), counts[name]] for name in names],
        "total": total,
        "documents": [_document(number, row, places) for number, row in taken],
    }


def _document(number: int, row: Row, places: Mapping[str, int]) -> list[Any]:
    entities = [
        [e.start, e.end, places[e.label], None if e.score is None else round(e.score, 3)] for e in row.document.entities
    ]
    absent = [[places[mention.label], mention.shown] for mention in row.lost]
    return [number, row.raw.line, row.document.id, row.document.text, entities, absent]
