"""Bytes become text in one way: marks, UTF-16, UTF-32 and GB18030 are read as what they are, and nothing is guessed."""

from __future__ import annotations

import codecs
import io
import json
import string
from io import BufferedReader
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune import data
from nertune.data.texts import read_texts
from nertune.errors import DataError
from nertune.files import as_utf8, encoding_of, read_text, to_text

PROSE = (
    "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。\n他在上海说，这个方法是大家都可以用的。\n"
    "下周三，方鹏将在杭州第二中学介绍他的新书《小城邮差》。\n"
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "gbk")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_chinese_prose_is_read_whatever_its_encoding(tmp_path, encoding):
    path = tmp_path / "texts.txt"
    path.write_bytes(PROSE.encode(encoding))
    notes: list[str] = []
    assert read_text(path) == PROSE
    rows = list(read_texts(str(path), note=notes.append))
    assert [row.text for row in rows] == PROSE.splitlines()
    assert notes == [] if encoding.startswith("utf-8") else f"{path}: read as " in notes[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_so_are_records_tables_and_annotated_files(tmp_path, encoding, form):
    path = tmp_path / f"texts.{form}"
    rows = [{"id": str(n), "text": line} for n, line in enumerate(PROSE.splitlines(), 1)]
    written = {
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "json": json.dumps(rows, ensure_ascii=False),
        "csv": "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows),
    }[form]
    path.write_bytes(written.encode(encoding))
    assert [row.text for row in read_texts(str(path))] == PROSE.splitlines()
    if form != "csv":
        entities = [
            {**row, "entities": [{"label": "x", "start": 0, "end": 2, "text": row["text"][:2]}]} for row in rows
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in entities)
        path.write_bytes(text.encode(encoding))
        corpus = data.read(path)
        assert [document.entities[0].text for document in corpus.documents] == ["浙商", "他在", "下周"]
        assert any("read as" in note for note in corpus.notes) == (not encoding.startswith("utf-8"))


def test_a_line_break_byte_inside_a_character_of_utf_16_is_none():
    """U+4E0A, 上, has the byte of a line break; so a UTF-16 file gave the line `Nwm` an entity."""
    raw = "我在上海。\n上海真大。\n".encode("utf-16-le")
    assert b"\nNwm" in raw
    assert to_text(codecs.BOM_UTF16_LE + raw, "x") == "我在上海。\n上海真大。\n"
    assert to_text(raw, "x") == "我在上海。\n上海真大。\n"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("big5", "這個方法是大家都可以用的，他在臺北說。" * 5),
        ("shift_jis", "東京都は日本の首都であり、人口は約千四百万人である。" * 5),
        ("euc_jp", "東京都は日本の首都であり、人口は約千四百万人である。" * 5),
        ("euc_kr", "대한민국의 수도는 서울이며 한국어를 사용한다. " * 5),
        ("cp1251", "Москва столица России, крупнейший город страны. " * 5),
        ("latin-1", "Zürich, São Tomé, François, garçon, naïve, über " * 5),
        ("gbk", "方鹏"),
    ],
)
def test_what_is_not_certain_is_refused_with_its_line(tmp_path, encoding, text):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"first\n" + text.encode(encoding))
    with pytest.raises(DataError, match=r"texts.txt:2: is not UTF-8 .* iconv -f ENCODING"):
        read_text(path)
    assert encoding_of(path.read_bytes()) == ("utf-8", 0)


def test_a_file_that_breaks_its_promise_says_where(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(codecs.BOM_UTF16_LE + PROSE.encode("utf-16-le") + b"\x00\xd8")
    with pytest.raises(DataError, match=r"begins as UTF-16-LE and is not that at byte \d+, after line 4"):
        read_text(path)
    with pytest.raises(DataError, match=r"begins as UTF-16-LE"):
        list(read_texts(str(path)))


def test_nul_is_no_text(tmp_path):
    with pytest.raises(DataError, match="x:2: holds a NUL byte"):
        to_text(b"a\nb\0c", "x")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_utf_8_without_nul_is_never_taken_for_anything_else(text: str) -> None:
    raw = text.replace("\0", "").encode()
    if raw.startswith(tuple(mark for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))):
        return
    assert to_text(raw, "x") == text.replace("\0", "").removeprefix("\ufeff")


def test_a_large_file_is_read_a_piece_at_a_time():
    class Endless(io.RawIOBase):
        """Chinese in UTF-16 without an end."""

        taken = 0
        piece = "他在上海说，这个方法是大家都可以用的。\n".encode("utf-16-le")

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            piece = self.piece[: len(buffer)]
            buffer[: len(piece)] = piece
            Endless.taken += len(piece)
            return len(piece)

    file, name = as_utf8(BufferedReader(Endless()), "endless")
    assert name == "utf-16-le"
    assert [file.readline().decode() for _ in range(3)] == ["他在上海说，这个方法是大家都可以用的。\n"] * 3
    assert Endless.taken < 1 << 18


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16-le", "utf-16-be"])
def test_real_sentences_are_read_or_refused_and_never_taken_for_another_encoding(encoding):
    corpus = Path(__file__).parents[3] / "shared/data/cluener/train.jsonl"
    if not corpus.is_file():
        pytest.skip("needs the public corpora beside the repository")
    texts = [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()[:2000]]
    found = [encoding_of((text + "\n").encode(encoding))[0] for text in texts]
    assert set(found) <= {encoding, "utf-8"}
    assert found.count(encoding) > 1800
    assert encoding_of("\n".join(texts).encode(encoding)[: 1 << 13])[0] == encoding


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["hello world\nfoo\n", "id,text\n1,abc\n", "a", "1 0 N\n", "Zürich, naïve\n", "一一一\n一二三\n"]
)
def test_utf_16_without_a_mark_is_told_in_latin_and_tiny_texts(encoding: str, text: str) -> None:
    """ASCII with its two bytes exchanged is Chinese, so the other order of bytes is plausible as well."""
    assert to_text(text.encode(encoding), "x") == text


@given(st.text("\t\n\r" + string.printable[:95], min_size=4), st.data())
def test_a_nul_byte_in_ascii_does_not_make_it_chinese(text: str, data_: st.DataObject) -> None:
    """Pairs of ASCII characters are Chinese in UTF-16; a file is that only where NUL bytes are many."""
    place = data_.draw(st.integers(0, len(text)))
    raw = (text[:place] + "\0" + text[place:]).encode()
    with pytest.raises(DataError, match="NUL"):
        to_text(raw, "x")


@pytest.mark.parametrize(("encoding", "text"), [("big5", "這個方法是大家都可以用的"), ("latin-1", "Zürich")])
def test_the_advice_claims_no_more_than_is_known(tmp_path, encoding: str, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps({"text": text, "entities": []}, ensure_ascii=False).encode(encoding))
    with pytest.raises(DataError, match=r"if it is Chinese, it may be GB18030"):
        data.read(path)


def test_tags_in_a_file_of_another_encoding(tmp_path) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("O\nB-人名\nI-人名\n", encoding="utf-16")
    assert data.tag_names(str(path)) == ("O", "B-人名", "I-人名")
