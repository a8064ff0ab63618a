"""Column files, as the corpora have them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nertune.cli import main
from nertune.data import detect, open_rows, read, writer
from nertune.data.formats.conll import Conll
from nertune.errors import DataError, InputError
from nertune.schema import Document

documents = runpy.run_path(str(Path(__file__).with_name("strategies.py")))["documents"]
Column = Callable[[str], Path]

CONLL03 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O
. . O O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
IOB1 = "U.N. NNP I-NP I-ORG\nofficial NN I-NP O\nEkeus NNP I-NP I-PER\nHeads NNP I-NP B-PER\n"
MSRA = "当\tO\n1\tO\n9\tO\n希\tB-LOC\n腊\tI-LOC\n\n海\tO\n钓\tO\n"
WEIBO = "男0\tB-PER.NOM\n友1\tI-PER.NOM\n交0\tO\n往1\tO\n@0\tO\n\n李0\tB-PER.NAM\n"
RESUME = "高 B-NAME\n勇 E-NAME\n： O\n男 O\n汉 B-RACE\n族 E-RACE\n京 S-LOC\n上 B-ORG\n海 M-ORG\n行 E-ORG\n"
MULTICONER = "# id 52a8-11\tdomain=en\nin _ _ O\nparis _ _ B-LOC\n\n# id 52a8-12\tdomain=en\n# _ _ O\nok _ _ O\n"
WNUT = "@paulwalk\tO\n#fun\tO\nEmpire\tB-location\nState\tI-location\n\t\n"
CONLLU = "# sent_id = s-1\n# text = Don't  go, EU!\nDon't\tO\ngo\tO\n,\tO\nEU\tB-ORG\n!\tO\n"


@pytest.fixture
def column(tmp_path: Path) -> Column:
    """A function that writes a column file."""

    def written(content: str) -> Path:
        path = tmp_path / "x.conll"
        path.write_text(content, encoding="utf-8", newline="")
        return path

    return written


def found(path: Path, **options: object) -> tuple[list[tuple[str, list[str]]], tuple[str, ...]]:
    corpus = read(path, **options)  # type: ignore[arg-type]
    return [(d.text, [f"{e.label}:{e.text}" for e in d.entities]) for d in corpus.documents], corpus.notes


def test_conll_2003(column: Column) -> None:
    rows, notes = found(column(CONLL03))
    assert rows == [
        ("EU rejects German call .", ["ORG:EU", "MISC:German"]),
        ("Peter Blackburn", ["PER:Peter Blackburn"]),
    ]
    assert notes == (
        "-DOCSTART- lines; each sentence is a document of its own: 1",
        "tags: BIO",
        "tokens joined with a space between them (--joiner)",
    )


def test_iob1(column: Column) -> None:
    rows, notes = found(column(IOB1))
    assert rows == [("U.N. official Ekeus Heads", ["ORG:U.N.", "PER:Ekeus", "PER:Heads"])]
    assert notes[0] == "tags: IOB1"
    assert len(notes) == 2


def test_msra(column: Column) -> None:
    rows, notes = found(column(MSRA))
    assert rows == [("当19希腊", ["LOC:希腊"]), ("海钓", [])]
    assert notes[1].startswith("tokens joined with nothing between them, but")


def test_weibo_with_its_segmentation(column: Column) -> None:
    rows, notes = found(column(WEIBO))
    assert rows == [("男友交往@", ["PER.NOM:男友"]), ("李", ["PER.NAM:李"])]
    assert notes[0] == "tokens: the digits behind each character (its place in the word) taken off"


def test_resume_bmes(column: Column) -> None:
    rows, notes = found(column(RESUME))
    assert rows == [("高勇：男汉族京上海行", ["NAME:高勇", "RACE:汉族", "LOC:京", "ORG:上海行"])]
    assert notes[0] == "tags: BMES"


def test_comments_and_tokens_that_begin_with_a_hash(column: Column) -> None:
    corpus = read(column(MULTICONER))
    assert [(d.text, d.id) for d in corpus.documents] == [("in paris", "52a8-11"), ("# ok", "52a8-12")]
    assert found(column(WNUT))[0] == [("@paulwalk #fun Empire State", ["location:Empire State"])]
    assert found(column("# O\n# a comment of words\nEU B-ORG\n"))[0] == [("# EU", ["ORG:EU"])]


def test_the_text_of_a_comment_is_the_text(column: Column) -> None:
    corpus = read(column(CONLLU))
    assert corpus.documents == (Document.of("Don't  go, EU!", [("ORG", 11, 13)], id="s-1"),)
    assert corpus.notes == ("tags: BIO",)
    rows, notes = found(column(CONLLU.replace("EU!", "UE!")))
    assert rows == [("Don't go , EU !", ["ORG:EU"])]
    assert notes[1] == "texts that are not made of their tokens, made anew from these: 1 (the first at line 1)"


def test_where_a_mention_stands_is_known(column: Column) -> None:
    with open_rows(column(CONLL03)) as reading:
        rows = [(row.raw.line, [mention.line for mention in row.raw.mentions]) for row in reading]
    assert rows == [(3, [3, 5]), (9, [9])]


def test_broken_sequences_are_counted(column: Column) -> None:
    rows, notes = found(column("a B-X\nb O\nc I-X\nd I-Y\n"))
    assert rows == [("a b c d", ["X:a", "X:c", "Y:d"])]
    assert (
        notes[-1]
        == "entities with tags that the scheme does not have so, read as conlleval does: 2 (the first at line 3)"
    )


def test_notes_are_there_when_reading_ends_early(column: Column) -> None:
    _, notes = found(column("c I-X\nd O\nd B-X\n\ne O\n"), limit=1)
    assert "read as conlleval does: 1 (the first at line 1)" in notes[-1]


def test_tokens_of_white_space_carriage_returns_and_marks(column: Column) -> None:
    assert found(column("\ufeff叶\tB-P\r\n \tO\r\n\tO\r\n\u3000\tO\r\n桂\tO\r\n"))[0] == [("叶  \u3000桂", ["P:叶"])]
    assert found(column("叶  O \n  O\n桂\tO\n"))[0] == [("叶 桂", [])]


def test_joiner_and_columns_may_be_named(column: Column) -> None:
    assert found(column(MSRA), joiner="space")[0][1] == ("海 钓", [])
    germeval = "1\tSchartau\tB-PER\tO\n2\tsagte\tO\tB-OTH\n"
    assert found(column(germeval), columns={"token": "2", "tag": "3"})[0] == [("Schartau sagte", ["PER:Schartau"])]
    assert found(column(germeval), columns={"token": "2"})[0] == [("Schartau sagte", ["OTH:sagte"])]
    with pytest.raises(InputError, match="column tag: 'x' is no number of a column"):
        read(column(germeval), columns={"tag": "x"})


def test_bare_labels_are_read_when_the_format_is_named(column: Column) -> None:
    rows, notes = found(column("New LOC\nYork LOC\nis O\n"), format="conll")
    assert rows == [("New York is", ["LOC:New York"])]
    assert notes[0] == "tags: bare labels (IO); neighbouring tokens of one label are one entity"


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (MSRA + "\n坏\n", 10, "'坏' is a single column; a token needs a tag behind it"),
        (MSRA + "\n坏\tX-LOC\n", 10, "'X-LOC' is no tag: tags are O or like B-LABEL, I-LABEL"),
        (MSRA + "\n坏\tB-[x]\n", 10, "label '[x]' cannot be used"),
        ("a BODY-B\nb BODY-I\nc B-X\n", 3, "'B-X' is no tag: tags are O or like LABEL-B, LABEL-I"),
        ("\n\n", None, "holds no tokens"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(column: Column, content: str, line: int | None, said: str) -> None:
    path = column(content)
    with pytest.raises(DataError) as caught:
        read(path, format="conll")
    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [CONLL03, IOB1, MSRA, WEIBO, RESUME, MULTICONER, WNUT, CONLLU])
def test_detected(column: Column, content: str) -> None:
    assert detect(column(content)) == "conll"


def test_a_line_that_is_wrong_hides_nothing(column: Column) -> None:
    with pytest.raises(DataError, match=r":12: '坏' is a single column"):
        read(column(RESUME + "\n坏\n" + RESUME))


@pytest.mark.parametrize(
    "content", ["A text.\nAnother text.\n", "one line about vitamin B-12\n", "a NN\nb VB\n", "O\nO\n"]
)
def test_not_taken_for_columns(column: Column, content: str) -> None:
    with pytest.raises(DataError, match="the format cannot be told"):
        detect(column(content))


@given(st.lists(documents(), min_size=1, max_size=6), st.sampled_from(["bio", "bioes", "bmes"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_expressed_comes_back(tmp_path: Path, given_: list[Document], scheme: str) -> None:
    format = writer("conll", path="x", scheme=scheme)  # type: ignore[arg-type]
    expressed = [format.express(document).document for document in given_]
    path = tmp_path / "out.conll"
    format.write([document for document in expressed if document is not None], path)
    assert list(read(path, format="conll").documents) == expressed


def test_written_as_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "out.conll"
    rows = [Document.of("EU is #1", [("ORG", 0, 2)]), Document.of("# x", [("X", 0, 3)], id="7"), Document("a  b")]
    Conll().write(rows, path)
    assert path.read_text(encoding="utf-8") == (
        "# text = EU is #1\nEU\tB-ORG\nis\tO\n#\tO\n1\tO\n\n# id = 7\n#\tB-X\nx\tI-X\n\n# text = a  b\na\tO\nb\tO\n\n"
    )
    assert list(read(path).documents) == rows


def test_converted_and_what_is_lost_is_listed(tmp_path: Path, jsonl: Callable[..., Path], capsys: object) -> None:
    source = jsonl(
        {"text": "南京大学\n在南京", "label": {"ORG": {"南京大学": [[0, 3]]}, "LOC": {"南京": [[0, 1], [6, 7]]}}}
    )
    target = tmp_path / "out.conll"
    assert main(["data", "convert", str(source), str(target), "--to", "conll", "--scheme", "bmes"]) == 3
    assert "南\tB-ORG\n京\tM-ORG\n大\tM-ORG\n学\tE-ORG\n" in target.read_text(encoding="utf-8")
    said = capsys.readouterr().err  # type: ignore[attr-defined]
    assert "conll cannot hold entities inside others: 1" in said
    assert "conll cannot hold line breaks in texts (written as spaces): 1" in said
    back = tmp_path / "back.jsonl"
    assert main(["data", "convert", str(target), str(back), "--joiner", "none"]) == 0
    assert read(back).documents == read(target).documents


def test_options_of_the_command_line_are_checked(column: Column, capsys: object) -> None:
    assert main(["data", "convert", str(column(MSRA)), "x", "--column", "tag"]) == 2
    assert "--column tag: give NAME=COLUMN, such as tag=2" in capsys.readouterr().err  # type: ignore[attr-defined]
    assert main(["data", "convert", str(column(MSRA)), "x", "--scheme", "bio"]) == 2
    assert "entities has no tags" in capsys.readouterr().err  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("San Tellmo _ O B-LOC", "'San Tellmo _ O B-LOC' has 5 columns, and most lines have 4"),
        ("Tellmo B-LOC", "'Tellmo B-LOC' has 2 columns, and most lines have 4"),
    ],
)
def test_a_row_of_other_columns_than_the_rest_is_an_error_with_its_line(column: Column, row: str, said: str) -> None:
    path = column(f"En _ O O\nla _ O O\n{row}\n. _ O O\n")
    with pytest.raises(DataError, match=rf"x\.conll:3: {said}"):
        read(path)


def test_whole_sentences_that_are_one_token_are_a_doubt(column: Column) -> None:
    path = column("新车剐蹭,受损(护栏).无需报警 -X- _ B-护栏\n\n路面积水,无人受伤 -X- _ O\n\n好 -X- _ O\n\n")
    corpus = read(path)
    assert len(corpus.documents) == 3
    (doubt,) = corpus.doubts
    assert "2 of 3 sentences are a single token, such as 新车剐蹭,受损(护栏).无需报警" in doubt
    assert doubt in corpus.notes
    assert read(column("方 B-PER\n鹏 I-PER\n\n好 O\n\n")).doubts == ()


@pytest.mark.parametrize("word", ["internationalization", "https://www.example.com/a,b", "10:30", "1,000", "方鹏"])
def test_lists_of_words_are_no_doubt(column: Column, word: str) -> None:
    assert read(column(f"{word} O\n\n" * 3 + "方 B-PER\n\n")).doubts == ()
