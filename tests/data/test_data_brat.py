"""Standoff: a text, its annotations beside it, and folders of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nertune.cli import main
from nertune.data import detect, open_rows, read, write
from nertune.errors import DataError, DiskSpaceError, MissingFileError
from nertune.schema import Document, Entity

TEXT = "Anna 😀 lives\nin New\nYork, NY."
ANN = """T1\tPER 0 4\tAnna
T2\tLOC 16 19;20 24\tNew York
R1\tLivesIn Arg1:T1 Arg2:T2
E1\tLive:T3 Who:T1
T3\tLive 7 12\tlives
A1\tNegated E1
M1\tSpeculated E1
N1\tReference T2 Wikipedia:60\tNew York City
#1\tAnnotatorNotes T1\tis this a name?
*\tEquiv T1 T2
"""

Pairs = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Pairs:
    """A function that writes a folder of texts and annotations by name, and gives its path."""

    def written(**files: tuple[str, str]) -> Path:
        for name, (text, lines) in files.items():
            stem = tmp_path / "corpus" / name.replace("__", "/")
            stem.parent.mkdir(parents=True, exist_ok=True)
            stem.with_name(stem.name + ".txt").write_bytes(text.encode())
            stem.with_name(stem.name + ".ann").write_bytes(lines.encode())
        return tmp_path / "corpus"

    return written


def entities(path: Path) -> list[tuple[str, str]]:
    return [(e.label, e.text) for document in read(path).documents for e in document.entities]


def test_a_folder_with_sub_folders_in_the_order_of_names(folder: Pairs) -> None:
    path = folder(doc10=("B", ""), doc2=(TEXT, ANN), sub__doc1=("A\n", "T1\tX 0 1\tA\n"))
    corpus = read(path)
    assert corpus.format == "brat"
    assert corpus.documents == (
        Document.of(TEXT, [("PER", 0, 4), ("Live", 7, 12), ("LOC", 16, 24)], id="doc2"),
        Document("B", (), "doc10"),
        Document.of("A\n", [("X", 0, 1)], id="sub/doc1"),
    )
    assert corpus.notes == (
        "spans: half-open, by 4 of 4 mentions",
        "relations passed over: 1",
        "events passed over: 1",
        "attributes passed over: 2",
        "normalizations passed over: 1",
        "annotators' notes passed over: 1",
        "equivalences passed over: 1",
    )


@pytest.mark.parametrize("suffix", [".txt", ".ann"])
def test_a_single_text(folder: Pairs, suffix: str) -> None:
    path = folder(doc=(TEXT, ANN)) / f"doc{suffix}"
    assert detect(path) == "brat"
    assert read(path).documents[0].id == "doc"
    assert len(entities(path)) == 3


def test_fragments_with_words_between_them_are_lost_and_listed_with_their_line(folder: Pairs) -> None:
    path = folder(sub__doc=("left and right arm", "T1\tBODY 0 4;15 18\tleft arm\nT2\tBODY 9 18\tright arm\n"))
    with open_rows(path) as reading:
        (row,) = reading
        assert [e.text for e in row.document.entities] == ["right arm"]
        assert [(m.label, m.shown, m.line) for m in row.lost] == [("BODY", "left arm", 1)]
        assert (row.raw.file, row.raw.mentions[0].line) == ("sub/doc.ann", 2)
        assert reading.notes()[1:] == (
            "mentions of several fragments left out, because an entity is one stretch of text: 1",
        )


@pytest.mark.parametrize(
    ("text", "annotations", "found"),
    [
        ("a\r\nb c", "T1\tX 3 4\tb\r\nT2\tX 0 1;3 4\ta b\r\n", ["a\r\nb", "b"]),  # CR LF counted as two
        ("a\r\nb c", "T1\tX 2 3\tb\nT2\tX 4 5\tc\n", ["b", "c"]),  # and as one
        ("\ufeffa b", "T1\tX 3 4\tb\n", ["b"]),  # the mark counted
        ("\ufeffa b", "T1\tX 2 3\tb\n", ["b"]),  # and not
        ("one two\nthree", "T1\tX 4 13\ttwo three\n", ["two\nthree"]),  # a line break shown as a space
        ("x a b, a\nb", "T1\tX 7 10\ta b\n", ["a\nb"]),
        ("😀 b 😀 c", "T1\tX 3 4\tb\nT2\tX 8 9\tc\n", ["b", "c"]),  # UTF-16 units
        ("a b", "T1\tX 2 3\n", ["b"]),  # without its surface
        ("New  York", "T1\tX 0 3;5 9\tNew York\n", ["New  York"]),
    ],
)
def test_offsets_as_tools_count_them(folder: Pairs, text: str, annotations: str, found: list[str]) -> None:
    assert [surface for _, surface in entities(folder(doc=(text, annotations)))] == found


def test_writing(tmp_path: Path) -> None:
    documents = [
        Document.of(TEXT, [("PER", 0, 4), ("LOC", 16, 24)], id="a/b"),
        Document.of("x\ty", [("X", 0, 3), ("PER", 1, 3)]),
    ]
    path = tmp_path / "out"
    write(documents, path, format="brat")
    assert sorted(p.name for p in path.iterdir()) == [
        ".nertune.jsonl",
        "000002.ann",
        "000002.txt",
        "a_b.ann",
        "a_b.txt",
        "annotation.conf",
    ]
    assert (path / "a_b.txt").read_text(encoding="utf-8") == TEXT
    assert (path / "a_b.ann").read_text(encoding="utf-8") == "T1\tPER 0 4\tAnna\nT2\tLOC 16 19;20 24\tNew York\n"
    assert (path / "000002.ann").read_text(encoding="utf-8") == "T1\tX 0 1;2 3\tx y\nT2\tPER 1 3\t y\n"
    assert (
        (path / "annotation.conf").read_text(encoding="utf-8").startswith("[entities]\n\nPER\nLOC\nX\n\n[relations]\n")
    )
    assert read(path).documents == tuple(documents)


def test_names_are_safe_and_unlike_each_other(tmp_path: Path) -> None:
    ids = [
        "../../etc/passwd",
        "..",
        "CON",
        "nul.txt",
        "a\\b:c",
        "Doc",
        "doc",
        "doc-2",
        "doc",
        "é",
        "e\u0301",
        "长" * 200,
        " ",
    ]
    path = tmp_path / "out"
    write([Document(str(number), (), id) for number, id in enumerate(ids)], path, format="brat")
    names = [p.stem for p in path.glob("*.txt")]
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(p.parent == path and len(p.name.encode()) < 150 for p in path.rglob("*"))
    assert not {"con", "nul.txt"} & {name.casefold() for name in names}
    assert [d.id for d in read(path).documents] == ids
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_without_the_list_names_are_ids(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write([Document(str(n), (), id) for n, id in enumerate(["b10", "b9", None])], path, format="brat")
    (path / ".nertune.jsonl").unlink()
    assert [d.id for d in read(path).documents] == ["000003", "b9", "b10"]


def test_documents_that_were_added_or_removed_since(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write([Document("1", (), "z"), Document("2", (), "y")], path, format="brat")
    (path / "z.ann").unlink()
    (path / "new.txt").write_text("3")
    (path / "new.ann").write_text("T1\tX 0 1\t3\n")
    corpus = read(path)
    assert [d.id for d in corpus.documents] == ["y", "new"]
    assert corpus.notes[1:] == (
        "texts without an .ann passed over: 1",
        "documents of the list that are not in the folder any more: 1",
    )


def test_a_folder_as_it_was_written_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    write([Document.of("a", [("X", 0, 1)], id="1")], path, format="brat")
    write([], path, format="brat")
    write([Document("b", (), "2")], path, format="brat")
    assert sorted(p.name for p in path.iterdir()) == [".nertune.jsonl", "2.ann", "2.txt", "annotation.conf"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("1.ann", "T1\tY 0 1\ta\n", "1 was changed since nertune wrote it"),
        ("annotation.conf", "[entities]\nX\n", "annotation.conf was changed since nertune wrote it"),
        ("notes.md", "mine", "notes.md was not written by nertune"),
        (".nertune.jsonl", '{"name": "../1", "id": "1", "digest": ""}\n', "1.ann was not written by nertune"),
    ],
)
def test_a_folder_that_people_worked_in_is_left_alone(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / "out"
    write([Document.of("a", [("X", 0, 1)], id="1")], path, format="brat")
    (path / name).write_text(content)
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    with pytest.raises(DataError, match=f"out: is there already, and {said}"):
        write([Document("b")], path, format="brat")
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before
    assert os.listdir(tmp_path) == ["out"]


def test_where_no_folder_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="it is no folder"):
        write([Document("a")], tmp_path / "file", format="brat")
    with pytest.raises(MissingFileError, match="there is no directory"):
        write([Document("a")], tmp_path / "none" / "out", format="brat")
    with pytest.raises(DataError, match="record 2 holds NUL"):
        write([Document("a"), Document("a\0")], tmp_path / "out", format="brat")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskSpaceError, match="nothing was changed"):
        write([Document("a")], tmp_path / "out", format="brat")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ("T1\tX 0\ta\n", "2: a text-bound annotation is T1<tab>LABEL START END<tab>TEXT"),
        ("T1\n", "2: a text-bound annotation"),
        ("T1\tX 0 1;2\ta\n", "2: a text-bound annotation"),
        ("T1\tX -1 1\ta\n", "2: a text-bound annotation"),
        ("T1\tX 0 " + "9" * 5_000 + "\ta\n", "2: a text-bound annotation"),
        ("T1\t0 1\ta\n", "2: a text-bound annotation"),
        ("T1\tA|B 0 1\ta\n", "2: label 'A|B' cannot be used"),
        ("hello\n", "2: an annotation begins with one of T R E A M N # *, found 'hello'"),
        ("T1\tX 0 1\t\0\n", "2: holds a NUL byte"),
    ],
)
def test_wrong_lines_are_told_with_file_and_line(folder: Pairs, annotations: str, said: str) -> None:
    path = folder(sub__doc=("ab", "\n" + annotations))
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}/sub/doc.ann:{said}")


def test_wrong_files_are_told(folder: Pairs, tmp_path: Path) -> None:
    path = folder(doc=("a", ""))
    (path / "doc.txt").write_bytes("叶老桂在".encode("gb18030"))
    with pytest.raises(DataError, match=r"doc\.txt:1: is not UTF-8 .* it may be GB18030"):
        read(path)
    (path / "doc.txt").write_text("叶", encoding="utf-16")
    assert [document.text for document in read(path).documents] == ["叶"]
    (path / "doc.txt").unlink()
    for where in (path, path / "doc.ann"):
        with pytest.raises(DataError, match=r"doc\.ann: there is no doc\.txt beside it"):
            read(where)
    os.mkfifo(path / "doc.txt")
    with pytest.raises(DataError, match="there is no"):
        read(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no \.ann"):
        read(tmp_path / "empty", format="brat")


def test_a_name_that_is_not_utf_8_is_told(folder: Pairs) -> None:
    path = folder(doc=("a", ""), **{"文\u3000件": ("b", "")})
    assert [d.id for d in read(path).documents] == ["doc", "文\u3000件"]
    for suffix in (b".txt", b".ann"):
        Path(os.fsdecode(os.fsencode(path) + b"/\xff" + suffix)).write_text("")
    with pytest.raises(DataError, match="name is not UTF-8; rename it"):
        read(path)


def test_links_that_leave_the_folder_are_not_followed(folder: Pairs, tmp_path: Path) -> None:
    path = folder(doc=("a", "T1\tX 0 1\ta\n"))
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("secret.txt", "secret.ann"):
        (outside / name).write_text("")
        (path / name).symlink_to(outside / name)
    (path / "sub").symlink_to(outside)
    (path / "again.txt").symlink_to(path / "doc.txt")  # this one stays
    (path / "again.ann").symlink_to(path / "doc.ann")
    corpus = read(path)
    assert [d.id for d in corpus.documents] == ["again", "doc"]
    assert corpus.notes[-1] == "links passed over: 3"


def test_a_list_of_another_shape_is_told(folder: Pairs) -> None:
    path = folder(doc=("a", ""))
    (path / ".nertune.jsonl").write_text('{"name": 3}\n')
    with pytest.raises(DataError, match=r"\.nertune\.jsonl:1: 'name' must be a string"):
        read(path)


def test_what_has_several_pieces_is_listed_as_such(folder: Pairs, tmp_path: Path) -> None:
    path = folder(doc=("left and right arm", "T1\tBODY 0 4;15 18\tleft arm\nT2\tBODY 9 13\tnowhere\n"))
    assert main(["data", "convert", str(path), str(tmp_path / "out")]) == 3
    listed = json.loads((tmp_path / "out.left-out.jsonl").read_text(encoding="utf-8"))
    assert [(entity["kind"], entity["text"]) for entity in listed["entities"]] == [
        ("mentions of several pieces", "left arm"),
        ("mentions that the text does not hold there", "nowhere"),
    ]


def test_convert_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, back = tmp_path / "in.jsonl", tmp_path / "brat", tmp_path / "back.jsonl"
    kept, gone = Entity("PER", 0, 4, "Anna", 0.5), Entity("two words", 7, 12, "lives")
    write([Document(TEXT, (kept, gone), "b"), Document("x", (), "a")], source, format="entities")
    assert main(["data", "convert", str(source), str(target), "--to", "brat"]) == 3
    said = capsys.readouterr().err
    assert "brat cannot hold scores: 1" in said
    assert "brat cannot hold labels with white space in them: 1" in said
    assert "not come back alike" not in said
    (row,) = map(json.loads, (tmp_path / "brat.left-out.jsonl").read_text(encoding="utf-8").splitlines())
    assert [e["label"] for e in row["entities"]] == ["two words"]
    assert main(["data", "convert", str(target), str(back)]) == 0
    assert read(back).documents == (Document.of(TEXT, [("PER", 0, 4)], id="b"), Document("x", (), "a"))
