"""Text with entities marked in it: brackets or tags, one document a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nertune.cli import main
from nertune.data import MarkedLines, detect, open_rows, read, write
from nertune.errors import DataError, InputError
from nertune.prompt import KNOWN_ANSWERS
from nertune.schema import Document

BRACKETS = "[叶老桂 | name]博士\n\n[[南京 | 地点]大学 | 机构]在\\[此\\]\n没有\n"
TAGS = "<name>叶老桂</name>博士\n<机构><地点>南京</地点>大学</机构>在&lt;此&gt;\n没有\n"


def marked(name: str) -> MarkedLines:
    (marks,) = [marks for marks in KNOWN_ANSWERS.marks() if marks.name == name]
    return MarkedLines(marks)


def put(tmp_path: Path, content: str) -> Path:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    return tmp_path / "a.txt"


@pytest.mark.parametrize(("content", "marks", "here"), [(BRACKETS, "inline", "[此]"), (TAGS, "xml", "<此>")])
def test_both_marks(tmp_path: Path, content: str, marks: str, here: str) -> None:
    corpus = read(put(tmp_path, content.replace("\n", "\r\n")), answers=KNOWN_ANSWERS)
    assert corpus.format == "inline"
    assert corpus.documents == (
        Document.of("叶老桂博士", [("name", 0, 3)]),
        Document.of(f"南京大学在{here}", [("机构", 0, 4), ("地点", 0, 2)]),
        Document("没有"),
    )
    assert corpus.notes == (f"marks: {marks}",)


@pytest.mark.parametrize(
    "content",
    [
        "没有\n",
        "他说[笑]\n[叶老桂 | name]博士\n",  # brackets of the text itself
        "| a | b |\n|---|---|\n",
        "[a | b](c)\n[d]: e\n",
        "<p>叶老桂</p>博士\n",
        "<html>\n<body>a</body>\n",
        "<doc>一</doc>\n<doc>二</doc>\n",  # whole lines are no entities
        "<?xml version='1.0'?>\n<a>b</a>c\n",
        "a < b\n<name>c</name>d\n",
        "x[3] = y | z\n",
    ],
)
def test_other_texts_are_not_taken_for_marked_ones(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="the format cannot be told"):
        detect(put(tmp_path, content), answers=KNOWN_ANSWERS)


def test_lines_that_are_not_sound_are_left_out_with_their_number(tmp_path: Path) -> None:
    path = put(tmp_path, "[甲 | a]乙\n他说[笑]\n[ | a]\n[甲 | a]丙\n无\n")
    with open_rows(path, format="inline", answers=KNOWN_ANSWERS) as reading:
        assert [row.document.text for row in reading] == ["甲乙", "甲丙", "无"]
        assert [line for line, _ in reading.missed] == [2, 3]
        assert "line 2: the line is not sound in the inline format: '他说[笑]'" in reading.notes()[-1]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (
            "[甲 | a]乙\n他说[笑]\n",
            2,
            "the line is not sound in the inline format: '他说[笑]' (1 of the first 2 lines are not)",
        ),
        ("[甲 | a]\n" + "[" * 100_000 + "\n", 2, "is not sound"),
        ("<a>甲</a>\n" + "<a>" * 100_000 + "\n", 2, "is not sound"),
        ("[甲 | a]乙\n[甲 | a\rb]\n[甲 | a\rb]\n", 2, "cannot be used"),
    ],
)
def test_most_lines_must_be_sound(tmp_path: Path, content: str, line: int, said: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode())
    with pytest.raises(DataError) as caught:
        read(path, format="inline", answers=KNOWN_ANSWERS)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\n \n", "only blank lines"), (b"a\0b", "NUL"), (b"\xff\xfea", "UTF-16"), (b"\xb1\xb1", "GB18030")],
)
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "a.txt", format="inline", answers=KNOWN_ANSWERS)


def test_marks_must_be_brought_along(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pass answers=nertune\.prompt\.KNOWN_ANSWERS"):
        read(put(tmp_path, BRACKETS), format="inline")
    with pytest.raises(DataError, match="inline lines need a way of marking"):
        write([], tmp_path / "b.txt", format="inline")


def test_what_a_line_cannot_hold() -> None:
    writer = marked("xml")
    for text, kind in (
        ("甲\n乙", "texts of several lines"),
        (" ", "blank texts"),
        ("\ufeff甲", "texts that begin with"),
    ):
        found = writer.express(Document(text))
        assert found.document is None
        assert found.losses[0].kind.startswith(kind)
        assert found.losses[0].left_out
    found = writer.express(Document.of("甲乙丙", [("a", 0, 2), ("b", 1, 3), ("第 一", 0, 1)], id="x"))
    assert found.document == Document.of("甲乙丙", [("a", 0, 2)])
    assert [loss.kind for loss in found.losses] == [
        "ids",
        "labels that cannot be written as xml",
        "entities that cross others",
    ]
    deep = Document.of("甲" * 40, [("a", n, 40 - n) for n in range(18)])
    assert writer.express(deep).document is None


@st.composite
def documents(draw: st.DrawFn) -> Document:
    signs = st.sampled_from("甲ab []|\\<>&;\n\r\t😀e\u0301\u2028\x85") | st.characters(
        codec="utf-8", exclude_characters="\0"
    )
    text = draw(st.text(signs, max_size=12))
    place = st.integers(0, len(text))
    spans = draw(st.lists(st.tuples(st.sampled_from(("人名", "x-1", "a b")), place, place), max_size=5))
    return Document.of(text, dict.fromkeys((label, a, b) for label, a, b in spans if a < b))


@pytest.mark.parametrize("name", ["inline", "xml"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(documents(), max_size=4))
def test_whatever_is_written_is_read_back(tmp_path: Path, name: str, given: list[Document]) -> None:
    writer, path = marked(name), tmp_path / "a.txt"
    first = Document.of("方鹏去", [("人名", 0, 2)])
    kept = [found for document in (first, *given) if (found := writer.express(document).document) is not None]
    writer.write(kept, path)
    assert list(read(path, format="inline", answers=KNOWN_ANSWERS).documents) == kept


@pytest.mark.parametrize("name", ["inline", "xml"])
def test_conversion_there_and_back(tmp_path: Path, name: str) -> None:
    source, target, back = (str(tmp_path / file) for file in ("a.txt", "b.jsonl", "c.txt"))
    Path(source).write_text({"inline": BRACKETS.replace("\n\n", "\n"), "xml": TAGS}[name], encoding="utf-8")
    assert main(["data", "convert", source, target]) == 0
    assert main(["data", "convert", target, back, "--to", "inline", "--answer", name]) == 0
    assert Path(back).read_bytes() == Path(source).read_bytes()
    assert main(["data", "convert", target, back, "--to", "inline", "--answer", "json"]) == 2
