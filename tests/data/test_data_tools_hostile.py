"""Whatever a file of an annotation tool holds, it is read or refused in words, with the file's name."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.data import read
from nertune.errors import DataError

KEYS = [
    "id",
    "text",
    "data",
    "label",
    "labels",
    "entities",
    "annotations",
    "predictions",
    "result",
    "value",
    "start",
    "end",
]
KEYS += [
    "start_offset",
    "end_offset",
    "type",
    "to_name",
    "score",
    "was_cancelled",
    "ground_truth",
    "globalOffsets",
    "ner",
]

ATOMS = st.sampled_from(
    [None, True, 0, 1, 3, -1, 1.5, 10**30, "", "a", "text", "labels", "a😀b", "\\n", "/p[1]", "A|B"]
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6).map(
    lambda row: {"text": "a😀b", "data": {"text": "a"}} | row
)

LINES = st.sampled_from(
    [
        b"T1\tX 0 1\ta",
        b"T2\tX 0 1;2 3\ta b",
        b"T1",
        b"T\t\t\t",
        b"R1\t",
        b"\r",
        b"\xff",
        b"\0",
        b"\xef\xbb\xbf",
        b"T1\tX 9 1\ta",
        b"*",
    ]
)


@pytest.mark.parametrize("format", ["doccano", "labelstudio"])
@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=3))
def test_json_of_any_shape(format: str, rows: list[object]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        read_or_refused(path, format)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(LINES | st.binary(max_size=12), max_size=6),
    text=st.binary(max_size=12) | st.sampled_from([b"a\r\nb c"]),
)
def test_standoff_of_any_bytes(lines: list[bytes], text: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "doc.ann"
        path.write_bytes(b"\n".join(lines))
        path.with_suffix(".txt").write_bytes(text)
        read_or_refused(path, "brat")


def read_or_refused(path: Path, format: str) -> None:
    for name in (format, None):
        said, documents = f"{path.parent}", ()
        try:
            documents = read(path, format=name).documents
        except DataError as error:
            said = str(error)
        assert str(path.parent) in said
        assert all(d.text[e.start : e.end] == e.text for d in documents for e in d.entities)
