"""Spans over every kind of character, through every format and every way of counting: each is the slice that it names.

`make soak` sends a million of them; `make test` some thousands.
"""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path

import pytest

from nertune.data import FORMATS, MarkedLines, WritableFormat, open_rows, read, write
from nertune.data.spans import Convention
from nertune.prompt import KNOWN_ANSWERS
from nertune.schema import Document

_PIECES = (
    *"abz09 .,中国北京的叶老桂ＡＢ１２，。「」ﾊﾝé",
    *(
        "😀",
        "👩‍👩‍👧‍👦",
        "🇨🇳",
        "👍🏽",
        "𠮷",
        "e\u0301",
        "ก็",
        "नि",
        "\u202e",
        "\u200b",
        "\ufeff",
        "\u00a0",
        "\u3000",
        "\r\n",
        "\n",
        "\t",
        "\u2028",
    ),
    *("[", "]", "|", "<b>", "</b>", "&amp;", "\\", '"', "'", "{", "}", "#", "_", "-DOCSTART-", "<|im_end|>"),
)
_LABELS = ("人名", "ORG", "loc-2", "x.y")
_UNITS = ("code points", "UTF-16 units", "UTF-8 bytes")


def _document(chosen: random.Random, number: int) -> Document:
    text = "".join(chosen.choices(_PIECES, k=chosen.randint(1, 30)))
    spans = set()
    for _ in range(chosen.randint(0, 12)):
        start = chosen.randrange(len(text))
        spans.add((chosen.choice(_LABELS), start, chosen.randint(start + 1, min(len(text), start + 12))))
    return Document.of(text, sorted(spans), id=f"d{number}")


def _checked(documents: list[Document]) -> int:
    """The number of entities, each of which is its slice."""
    count = 0
    for document in documents:
        for entity in document.entities:
            assert document.text[entity.start : entity.end] == entity.text
            count += 1
    return count


def _through(documents: list[Document], folder: Path, seed: int) -> int:
    """Send documents through every format and convention; how many spans came back, all where they were."""
    count = 0
    for name, entry in FORMATS.items():
        if not isinstance(entry, WritableFormat):
            continue
        path = folder / f"{name}-{seed}"
        expressed = [entry.express(document).document for document in documents]
        write(documents, path, format=name)
        found = list(read(path, format=name, answers=KNOWN_ANSWERS).documents)
        assert found == [document for document in expressed if document is not None], name
        count += _checked(found)
    for marks in KNOWN_ANSWERS.marks():
        lines = MarkedLines(marks)
        expressed = [document for document in (lines.express(d).document for d in documents) if document is not None]
        path = folder / f"{marks.name}-{seed}"
        lines.write(expressed, path)
        with open_rows(path, format="inline", answers=KNOWN_ANSWERS) as rows:
            found = [row.document for row in rows]
        assert found == expressed, marks.name
        count += _checked(found)
    for origin, inclusive, unit in product((0, 1), (0, 1), _UNITS):
        count += _counted(documents, folder / f"counted-{seed}", Convention(origin, inclusive, unit))  # type: ignore[arg-type]
    return count


def _counted(documents: list[Document], path: Path, convention: Convention) -> int:
    """The same for a file that counts otherwise, which is told from its surfaces."""

    def offset(text: str, end: int) -> int:
        if convention.unit == "code points":
            return end
        return (
            len(text[:end].encode()) if convention.unit == "UTF-8 bytes" else len(text[:end].encode("utf-16-le")) // 2
        )

    with path.open("w", encoding="utf-8") as file:
        for document in documents:
            entities = [
                {
                    "start": offset(document.text, e.start) + convention.origin,
                    "end": offset(document.text, e.end) + convention.origin - convention.inclusive,
                    "label": e.label,
                    "text": e.text,
                }
                for e in document.entities
            ]
            file.write(json.dumps({"id": document.id, "text": document.text, "entities": entities}) + "\n")
    corpus = read(path, format="entities")
    assert list(corpus.documents) == documents, convention.name
    assert any(note.startswith(f"spans: {convention.name}, by") for note in corpus.notes)
    return _checked(list(corpus.documents))


def _send(folder: Path, wanted: int) -> None:
    chosen = random.Random(20)
    sent = batch = 0
    while sent < wanted:
        batch += 1
        sent += _through([_document(chosen, number) for number in range(100)], folder, batch)


def test_thousands_of_spans_come_back_where_they_were(tmp_path: Path) -> None:
    _send(tmp_path, 5_000)


@pytest.mark.soak
def test_a_million_spans_come_back_where_they_were(tmp_path: Path) -> None:
    _send(tmp_path, 1_000_000)
