"""Every way in which a file can be unreadable is one DataError that says where."""

from __future__ import annotations

import codecs
import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.data import read
from nertune.data.records import iter_records
from nertune.data.strict_json import decode_at, forbidden_string
from nertune.data.wording import describe
from nertune.errors import DataError, MissingFileError

GOOD = b'{"text": "abc", "entities": []}\n'


def failure(path: Path | str, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def of_bytes(directory: Path, content: bytes) -> Path:
    path = directory / "file.jsonl"
    path.write_bytes(content)
    return path


def test_missing_file_is_named_as_given_and_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError) as caught:
        read("sub/../gone.jsonl")
    assert str(caught.value).startswith("sub/../gone.jsonl: no such file")
    assert str(tmp_path / "gone.jsonl") in str(caught.value)
    assert "check the spelling" in str(caught.value)


def test_path_with_nul_is_a_missing_file() -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read("a\0b")


def test_directory(tmp_path: Path) -> None:
    assert failure(tmp_path).startswith(f"{tmp_path}: the format cannot be told: an empty directory. Formats: ")


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"", None, "is empty: no records in it"),
        (codecs.BOM_UTF8, None, "is empty: no records in it"),
        (b"\n  \n\t\r\n", None, "holds only blank lines"),
        (b"[ ]", 1, "the array is empty: no records in it"),
        (GOOD + b'{"text": "a\0b"}\n', 2, "holds a NUL byte"),
        (GOOD + '{"text": "实体"}\n'.encode("gb18030"), 2, "it may be GB18030/GBK: convert with: iconv -f GB18030"),
        (b"[" + GOOD + b",\n" + '{"text": "实体"}]'.encode("gbk"), 3, "is not UTF-8 (0xCC, byte 13 of the line)"),
        (b'{"text": "\xff"}', 1, "is not UTF-8 (0xFF, byte 11 of the line)"),
        (GOOD + b'{"text": "a\\u0000b"}\n', 2, "holds a NUL character: 'a\\x00b'"),
        (GOOD + b'{"text": "a\\ud800b"}\n', 2, "holds half of a surrogate pair, which is no character: 'a\\ud800b'"),
        (GOOD + b'{"text": "a", "k": [{"\\uDFFF": 1}]}\n', 2, "half of a surrogate pair"),
        (
            GOOD + b'\n{"text": "abc",, "entities": []}\n',
            3,
            "broken JSON at column 16: Expecting property name enclosed in double quotes, at the mark ▸ in: {",
        ),
        (GOOD + GOOD.strip() + GOOD, 2, "at column 32: something follows the record on its line"),
        (GOOD + b'{"text": "ab"\n' + GOOD, 2, "broken JSON at column 14: Expecting ',' delimiter, at"),
        (GOOD + b'{"text": "ab\n' + GOOD, 2, "broken JSON at column 10: Unterminated string starting, at"),
        (b"{\n", 1, "put each record on one line, or all of them in one array"),
        (GOOD + b'{"a": NaN}\n', 2, "broken JSON: NaN is not JSON"),
        (GOOD + b'{"a": 1, "a": 2}\n', 2, "the key 'a' is given twice in one object"),
        (GOOD + b'{"a": ' + b"9" * 5_000 + b"}\n", 2, "broken JSON: Exceeds the limit"),
        (GOOD + b'{"a": ' + b"[" * 200_000 + b"\n", 2, "the JSON is nested too deeply"),
        (b"[" * 200_000, 1, "the JSON is nested too deeply"),
        (GOOD + b"[1]\n", 2, "a record must be a JSON object, found a list of 1"),
        (b'[\n{"text": "a", "entities": []},\n7]', 3, "a record must be a JSON object, found the number 7"),
        (b'[\n{"text": "a"},\n{"text" "a"}]', 3, "broken JSON at column 9: Expecting ':' delimiter, at"),
        (b'[\n{"text": "a"}\n{"text": "a"}]', 3, "at column 1: Expecting ',' or ']' after the record"),
        (b'[\n{"text": "a"}\n', 3, "the array ends without its ']'"),
        (b'[{"text": "a"},\n{"a": 1, "a": 2}]', 2, "the key 'a' is given twice"),
        (b'[{"text": "a"}]\nx', 2, "at column 1: something follows the array's ']'"),
    ],
)
def test_unreadable_content(tmp_path: Path, content: bytes, line: int | None, said: str) -> None:
    path = of_bytes(tmp_path, content)
    with pytest.raises(DataError) as caught:
        list(iter_records(path))
    assert str(caught.value).startswith(f"{path}: " if line is None else f"{path}:{line}: ")
    assert said in str(caught.value)
    assert caught.value.line == line
    with pytest.raises(DataError):
        read(path)


def test_the_excerpt_of_broken_json_shows_the_place(tmp_path: Path) -> None:
    said = failure(of_bytes(tmp_path, '{"text": "叶老桂博士", oops}'.encode()))
    assert said.endswith('enclosed in double quotes, at the mark ▸ in: {"text": "叶老桂博士", ▸oops}')


def test_latin1_is_not_called_gb18030(tmp_path: Path) -> None:
    assert "GB18030" not in failure(of_bytes(tmp_path, b'{"text": "\xff"}'))


def test_bom_blank_lines_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = of_bytes(tmp_path, codecs.BOM_UTF8 + b"\r\n" + GOOD.replace(b"\n", b"\r\n") + b"  \n" + GOOD.strip())
    assert [record.line for record in iter_records(path)] == [2, 4]


def test_separators_that_only_python_breaks_lines_at_stay_in_the_text(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\u000bd"
    path = of_bytes(tmp_path, json.dumps({"text": text, "entities": []}, ensure_ascii=False).encode())
    assert read(path).documents[0].text == text


def test_records_of_an_array_know_their_lines(tmp_path: Path) -> None:
    path = of_bytes(tmp_path, b'\n[\n\n {"a": 1,\n "b": "x"},\n\n {"a": 2}\n]\n')
    assert [record.line for record in iter_records(path)] == [4, 7]


def test_escaped_backslash_before_u0000_is_text(tmp_path: Path) -> None:
    path = of_bytes(tmp_path, rb'{"text": "a\\u0000", "entities": []}')
    assert read(path).documents[0].text == r"a\u0000"


def test_surrogate_pairs_are_characters(tmp_path: Path) -> None:
    path = of_bytes(tmp_path, rb'{"text": "\ud83d\ude00", "entities": []}')
    assert read(path).documents[0].text == "😀"


def test_jsonl_is_read_line_by_line(tmp_path: Path) -> None:
    records = iter_records(of_bytes(tmp_path, GOOD + b"broken\n"))
    assert next(records).value["text"] == "abc"
    with pytest.raises(DataError, match=r"file\.jsonl:2: broken JSON at column 1: Expecting value"):
        next(records)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(GOOD * 3,))
    writer.start()
    assert len(read(pipe).documents) == 3
    writer.join()


def test_unreadable_file_is_a_data_error() -> None:
    path = Path("/proc/self/mem")
    if not path.exists():
        pytest.skip("there is no file here that opens and cannot be read")
    assert failure(path) == f"{path}: cannot be read: Input/output error"


def test_decode_at_gives_value_and_end() -> None:
    assert decode_at(' {"a": 1} x', 1) == ({"a": 1}, 9)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        ("ab", "the string 'ab'"),
        (1.5, "the number 1.5"),
        ([1, 2], "a list of 2"),
        ({}, "an empty object"),
        ({"a": 1, "b": 2}, "an object with the keys 'a', 'b'"),
    ],
)
def test_describe(value: object, words: str) -> None:
    assert describe(value) == words


def test_forbidden_string_looks_everywhere() -> None:
    assert forbidden_string({"a": [{"b": ("x", "\ud800")}]}) == "\ud800"
    assert forbidden_string({"a\0": 1}) == "a\0"
    assert forbidden_string({"a": ["😀", 1, None]}) is None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\\n中😀é\u2028', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab中", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(alphabet="ab中", max_size=3), _VALUES, max_size=3), max_size=6),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.integers(8, 40),
    st.data(),
)
def test_an_array_is_read_alike_in_whatever_pieces(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, object]],
    indent: int | None,
    ascii: bool,
    piece: int,
    data: st.DataObject,
) -> None:
    content = json.dumps(rows, ensure_ascii=ascii, indent=indent).encode()
    kind = data.draw(st.sampled_from(["sound", "cut", "byte"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        content = content[: place + 1]
    elif kind == "byte":
        content = content[:place] + bytes([data.draw(st.integers(1, 255))]) + content[place + 1 :]
    path = tmp_path_factory.getbasetemp() / "pieces.json"
    path.write_bytes(content)

    def outcome(size: int) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nertune.data.records._PIECE", size)
            found = []
            try:
                for record in iter_records(path):
                    found.append((record.line, record.value))
            except DataError as error:
                # Not how many records came before, and not what is guessed and shown of what follows: that depends.
                return error.line, str(error).partition("; it looks like")[0].partition("▸")[0]
            return found

    assert outcome(piece) == outcome(1 << 20)


def test_a_long_array_takes_no_more_memory_than_its_pieces(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    row = json.dumps({"text": "北京" * 500, "entities": []}, ensure_ascii=False)
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number in range(20_000):
            file.write(("," if number else "") + row)
        file.write("]")
    tracemalloc.start()
    assert sum(1 for _ in iter_records(path)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 60_000_000
    assert peak < 20_000_000
