"""Texts in every form, read row by row: what is wrong with a row stays in that row, and reading goes on from any row."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from nertune.data.texts import Keys, Place, extent, read_texts
from nertune.data.texts.lines import LONGEST
from nertune.errors import DataError, InputError

TEXTS = ["叶老桂", '他说"好"', "两行\n一条", "a,b\tc", "完"]
ROWS = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]


def _table(mark: str) -> str:
    quoted = lambda cell: '"' + cell.replace('"', '""') + '"'  # noqa: E731
    lines = [f"id{mark}text", *(f"{row['id']}{mark}{quoted(row['text'])}" for row in ROWS)]
    return "\r\n".join(lines) + "\r\n"


def _parquet(path: Path, rows: list[dict], **options) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2, **options)
    return path


def _write(form: str, folder: Path) -> Path:
    path = folder / f"texts.{form}"
    if form == "parquet":
        return _parquet(path, ROWS)
    content = {
        "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        "json": json.dumps(ROWS, indent=1),
        "csv": _table(","),
        "tsv": _table("\t"),
        "txt": "\ufeff" + "".join(f"{text}\r\n\n" for text in TEXTS),
    }[form.removesuffix(".gz")]
    raw = content.encode()
    path.write_bytes(gzip.compress(raw) if form.endswith(".gz") else raw)
    return path


FORMS = ["jsonl", "json", "csv", "tsv", "parquet", "txt", "jsonl.gz", "csv.gz"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_texts(tmp_path, form):
    found = list(read_texts(str(_write(form, tmp_path))))
    assert all(row.problem is None for row in found)
    if form == "txt":
        assert [row.text for row in found] == [line for text in TEXTS for line in text.split("\n")]
    else:
        assert [(row.id, row.text) for row in found] == [(row["id"], row["text"]) for row in ROWS]


@pytest.mark.parametrize("form", FORMS)
def test_reading_goes_on_after_any_row(tmp_path, form):
    source = str(_write(form, tmp_path))
    rows = list(read_texts(source))
    for place, row in enumerate(rows):
        assert list(read_texts(source, after=Place(row.row, row.offset))) == rows[place + 1 :]
        assert list(read_texts(source, after=Place(row.row, None))) == rows[place + 1 :]


def test_what_was_read_is_not_read_again(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"text": "{number}"}}\n' for number in range(10)))
    rows = list(read_texts(str(path)))
    content = path.read_bytes()
    path.write_bytes(b"\xff" * rows[6].offset + content[rows[6].offset :])
    assert list(read_texts(str(path), after=Place(7, rows[6].offset))) == rows[7:]


BAD_LINES = {
    b'{"text": 3}': "'text' must be a string, found the number 3",
    b'{"other": 1}': "the record has no 'text'; its keys are 'other'",
    b'{"text": " "}': "'text' is empty",
    b'{"text": "\\ud800"}': "holds half of a surrogate pair",
    b"[1]": "a record must be a JSON object",
    b"no json": "broken JSON",
    b'{"text": "\xff"}': "is not UTF-8",
    b'{"text": "\x00"}': "holds a NUL byte",
    b'{"id": [1], "text": "x"}': "'id' must be a string",
}


def test_a_bad_line_is_a_row_with_a_problem(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + b"\n".join(BAD_LINES) + b'\n{"text": "last"}')
    first, *bad, last = read_texts(str(path))
    assert (first.row, first.problem, last.row, last.problem) == (1, None, 2 + len(BAD_LINES), None)
    for row, (number, expected) in zip(bad, enumerate(BAD_LINES.values(), 2), strict=True):
        assert row.row == number
        assert expected in row.problem
        assert str(path) not in row.problem


def test_bad_elements_of_an_array_are_rows_with_a_problem(tmp_path):
    path = tmp_path / "texts.json"
    path.write_text('[{"text": "a"}, 3, {"text": "\\ud800"}, {"text": ""}, {"id": 7, "text": "b"}]')
    rows = list(read_texts(str(path)))
    assert [(row.row, row.problem is None) for row in rows] == [
        (1, True),
        (2, False),
        (3, False),
        (4, False),
        (5, True),
    ]
    path.write_text('[{"text": "a"}, {"text": ]')
    with pytest.raises(DataError, match=r"texts\.json:1: broken JSON at column 26"):
        list(read_texts(str(path)))


def test_an_array_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("nertune.data.records._PIECE", 3)
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False, indent=3), encoding="utf-8")
    assert [row.text for row in read_texts(str(path))] == TEXTS


@pytest.mark.parametrize("form", ["jsonl", "txt", "csv"])
def test_a_line_without_end_is_one_bad_row_in_bounded_memory(tmp_path, form):
    path = tmp_path / f"texts.{form}"
    good = '{"text": "a"}\n' if form == "jsonl" else "text\n"
    with path.open("w") as file:
        file.write(good)
        file.write('{"text": "' + "x" * (2 * LONGEST + 5) + '"}\n')
        file.write(good)
    rows = list(read_texts(str(path)))
    assert [row.problem for row in rows if row.problem] == ["is longer than 4 MB; cut the text"]
    assert rows[-1].problem is None
    assert list(read_texts(str(path), after=Place(2, rows[-2].offset))) == rows[-1:]


def test_a_quotation_mark_that_is_never_closed_spoils_its_own_line_alone(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text('id,text\n1,"open\n2,b\n3,"two\nlines"\n4,c\n')
    rows = list(read_texts(str(path)))
    # The mark of row 3 closes the field of row 1 for whoever reads on; what follows it is no longer a field.
    assert [row.text for row in rows if row.problem is None][-1] == "c"
    path.write_text('id,text\n1,a\n2,"open\n3,b\n4,c\n')
    rows = list(read_texts(str(path)))
    assert [(row.row, row.text) for row in rows if row.problem is None] == [(2, "a"), (4, "b"), (5, "c")]
    assert [row.problem for row in rows if row.problem] == ["a quotation mark opens a field and is never closed"]


def test_a_row_of_a_table_with_too_few_or_too_many_cells(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("id,text\n1,a\n2\n3,b,c\n4,\n")
    assert [row.problem for row in read_texts(str(path))] == [
        None,
        "has 1 cells, the header 2",
        "has 3 cells, the header 2",
        "'text' is empty",
    ]


def test_parquet_rows_without_text(tmp_path):
    path = _parquet(
        tmp_path / "texts.parquet", [{"id": 1, "text": "a"}, {"id": 2, "text": None}, {"id": 3, "text": " "}]
    )
    assert [(row.id, row.problem) for row in read_texts(str(path))] == [
        ("1", None),
        ("2", "'text' is empty"),
        ("3", "'text' is empty"),
    ]
    assert extent(str(path)).rows == 3


def test_other_keys(tmp_path):
    for form, content in (("jsonl", '{"n": 1, "t": "a"}'), ("csv", "n,t\n1,a"), ("tsv", "n\tt\n1\ta")):
        path = tmp_path / f"texts.{form}"
        path.write_text(content)
        (row,) = read_texts(str(path), keys=Keys("t", "n"))
        assert (row.id, row.text) == ("1", "a")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"id,body\n1,x\n", "has no column 'text'; its columns are 'id', 'body'"),
        ("a.jsonl", b'{"body": "x"}\n' * 3, "a.jsonl:1: the record has no 'text'; its keys are 'body'"),
        ("a.txt", "叶老桂".encode("gb18030"), "GB18030"),
        ("a.txt", b"\n \n", "holds no text"),
        ("a.csv", b"id,text\n", "holds no text"),
        ("a.csv", b"", "holds no text"),
        ("a.json", b"[]", "a.json:1: the array is empty"),
        ("a.parquet", b"PAR1", "is no Parquet file"),
        ("a.txt.gz", gzip.compress(b"a\n" * 10_000, mtime=0)[:-20], "compressed data is damaged"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected):
        list(read_texts(str(path)))


def test_stdin_of_any_form_but_parquet(monkeypatch):
    def given(content: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))

    given("a\nb\n")
    assert [row.text for row in read_texts("-")] == ["a", "b"]
    given("text\na\nb\n")
    assert [row.text for row in read_texts("-", form="csv")] == ["a", "b"]
    given("a\nb\n")
    assert [row.text for row in read_texts("-", after=Place(1, None))] == ["b"]
    with pytest.raises(InputError, match="Parquet cannot be read from stdin"):
        list(read_texts("-", form="parquet"))


def test_columns_that_stand_twice_or_without_a_name_are_named(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("id,text,text\n1,a,b\n")
    with pytest.raises(DataError, match=r"texts\.csv:1: has 2 columns 'text' \(2, 3\).*--text-key"):
        list(read_texts(str(path)))
    path.write_text("id,text,id\n1,a,b\n")
    with pytest.raises(DataError, match=r"has 2 columns 'id' \(1, 3\).*--id-key"):
        list(read_texts(str(path)))
    path.write_text("id,text,n,,n\n1,a,b,c,d\n")
    notes: list[str] = []
    assert [row.text for row in read_texts(str(path), note=notes.append)] == ["a"]
    assert notes == [
        f"{path}: columns that stand more than once, and are not read: 'n'",
        f"{path}: columns without a name, and not read: 4",
    ]


def test_a_binary_id_of_parquet_is_named(tmp_path):
    path = _parquet(tmp_path / "texts.parquet", [{"id": b"\xff", "text": "a"}])
    with pytest.raises(DataError, match=r"the column id, which is each row's id, holds binary.*--id-key"):
        list(read_texts(str(path)))
    assert [(row.id, row.text) for row in read_texts(str(path), keys=Keys(id="other"))] == [(None, "a")]


def test_an_id_of_several_values_in_parquet_is_named(tmp_path):
    path = _parquet(tmp_path / "texts.parquet", [{"id": {"a": 1}, "text": "a"}])
    with pytest.raises(DataError, match=r"the column id, which is each row's id, holds struct<a: int64>.*--id-key"):
        list(read_texts(str(path)))


def test_a_table_of_lines_that_end_in_cr_alone_is_told_the_way_out(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_bytes(b"id,text\r1,a\r")
    with pytest.raises(DataError, match=r"carriage return \(CR\) outside of quotation marks.* tr "):
        list(read_texts(str(path)))
