"""`nertune data split`: parts, manifest, refusals."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from nertune import data
from nertune.cli import main
from nertune.schema import Document

NAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏"
PLACES = "京津沪渝冀晋辽吉黑苏浙皖闽赣鲁豫鄂湘粤琼川贵云陕甘青蒙桂宁藏"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ninety documents with ids, three of them near-duplicates, and one with the only mention of a label."""
    rows = []
    for number in range(90):
        name, place = NAMES[number % 30], PLACES[(number * 7) % 30]
        text = f"{name}{number}住在{place}，{hashlib.sha256(str(number).encode()).hexdigest()}"
        rows.append(
            Document.of(text, [("人名", 0, 1), ("地点", text.index("在") + 1, text.index("，"))], id=f"d{number}")
        )
    rows += [Document(rows[0].text + mark, rows[0].entities, id=f"copy{mark}") for mark in "ab"]
    rows.append(Document.of("《红楼梦》又名《石头记》", [("书名", 0, 5)], id="book"))
    data.write(rows, tmp_path / "all.jsonl", format="entities")
    return tmp_path / "all.jsonl"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texts(path: Path) -> list[str]:
    return [document.text for document in data.read(path).documents]


def run(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    code = main(["data", "split", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_three_parts_hold_every_document_with_its_id(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    code, table, said = run(capsys, source, "--out", out)
    assert code == 0
    assert sorted(files(out)) == ["split.json", "test.jsonl", "train.jsonl", "validation.jsonl"]
    parts = [data.read(out / f"{name}.jsonl").documents for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [75, 9, 9]
    everything = data.read(source).documents
    assert sorted(sum(parts, ()), key=lambda d: str(d.id)) == sorted(everything, key=lambda d: str(d.id))
    side = [{document.id for document in part} & {"d0", "copya", "copyb"} for part in parts]
    assert sorted(map(len, side)) == [0, 0, 3]
    assert "3 documents in 1 group, the largest of 3" in said
    assert "has no mention of 书名 (1 in all)" in said
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["documents", "mentions", "人名", "地点", "书名"]


def test_the_manifest_tells_how_to_make_it_again(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    _, printed, _ = run(capsys, source, "--out", out, "--test", "0.2", "--validation", 5, "--seed", 7, "--json")
    manifest = json.loads((out / "split.json").read_text(encoding="utf-8"))
    assert json.loads(printed) == manifest
    assert manifest["source"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["files"]["validation.jsonl"]["documents"] == 5
    assert manifest["files"]["test.jsonl"]["documents"] == 19
    assert manifest["all"]["labels"] == {"人名": 92, "地点": 92, "书名": 1}
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
    command = shlex.split(manifest["command"])
    assert command[:4] == ["nertune", "data", "split", "all.jsonl"]
    again = [str(source) if part == "all.jsonl" else part.replace("DIR", str(tmp_path / "again")) for part in command]
    assert main(again[1:]) == 0
    assert files(tmp_path / "again") == files(out)


def test_labels_are_mapped_before_the_split_and_the_command_says_so(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    rule = ["--map", "人名,书名=a=b".replace("a=b", "a\\=b"), "--map", "地点="]
    code, _, said = run(capsys, source, "--out", out, "--offsets", "code-points", "--column", "text=text",
                        "--column", "entities=entities", *rule)  # fmt: skip
    assert code == 0
    assert "mentions left out, as the label map says: 地点 (92)" in said
    manifest = json.loads((out / "split.json").read_text(encoding="utf-8"))
    assert manifest["all"]["labels"] == {"a=b": 93}
    assert manifest["parameters"]["label_map"] == {"人名": "a=b", "书名": "a=b", "地点": None}
    assert manifest["parameters"]["reading"] == {
        "offsets": "code-points",
        "columns": {"text": "text", "entities": "entities"},
    }
    again = manifest["command"].replace("all.jsonl", str(source)).replace("DIR", str(tmp_path / "again"))
    assert main(shlex.split(again)[1:]) == 0
    assert files(tmp_path / "again") == files(out)


def test_a_part_of_a_split_is_not_replaced_by_its_own_parts(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    run(capsys, source, "--out", out)
    before = files(out)
    code, _, said = run(capsys, out / "train.jsonl", "--out", out)
    assert (code, "which the parts would replace; name another folder" in said) == (2, True)
    assert files(out) == before


def test_what_can_be_read_only_once_is_not_split(tmp_path: Path, capsys: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, said = run(capsys, tmp_path / "pipe", "--out", tmp_path / "parts")
    assert (code, "save it to a file first" in said) == (2, True)


def test_again_into_the_same_folder_gives_the_same_bytes(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    run(capsys, source, "--out", out)
    first = files(out)
    assert run(capsys, source, "--out", out)[0] == 0
    assert files(out) == first
    assert run(capsys, source, "--out", out, "--folds", 2)[0] == 0
    assert sorted(files(out)) == [f"fold-{n}/{part}.jsonl" for n in (1, 2) for part in ("train", "validation")] + [
        "split.json"
    ]


def test_nothing_of_other_hands_is_written_over(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    assert run(capsys, source, "--out", tmp_path)[0] == 2
    run(capsys, source, "--out", out)
    (out / "notes.txt").write_text("mine")
    before = files(out)
    code, _, said = run(capsys, source, "--out", out, "--seed", 3)
    assert code == 2
    assert "notes.txt is no part of the split there; nothing is written over" in said
    (out / "notes.txt").unlink()
    (out / "test.jsonl").write_text("corrected by hand")
    code, _, said = run(capsys, source, "--out", out, "--seed", 3)
    assert code == 2
    assert "test.jsonl was changed since it was split" in said
    assert files(out)["train.jsonl"] == before["train.jsonl"]
    (out / "split.json").write_text("{}")
    assert run(capsys, source, "--out", out)[0] == 2


def test_folds_hold_out_every_document_once(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "folds"
    code, table, _ = run(capsys, source, "--out", out, "--folds", 4)
    assert code == 0
    held = [texts(out / f"fold-{number}" / "validation.jsonl") for number in range(1, 5)]
    assert sorted(text for part in held for text in part) == sorted(texts(source))
    for number, part in enumerate(held, 1):
        assert not set(part) & set(texts(out / f"fold-{number}" / "train.jsonl"))
    assert "held out, least" in table


def test_few_shot_says_which_labels_have_too_few(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "few"
    code, _, said = run(capsys, source, "--out", out, "--few-shot", 5)
    assert code == 0
    assert "label '书名' has 1 mentions, fewer than 5: all were taken" in said
    manifest = json.loads((out / "split.json").read_text(encoding="utf-8"))
    few = manifest["files"]["few-shot.jsonl"]["labels"]
    assert few["书名"] == 1
    assert all(5 <= few[label] <= 10 for label in ("人名", "地点"))
    assert sorted(texts(out / "few-shot.jsonl") + texts(out / "rest.jsonl")) == sorted(texts(source))


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("conll", "train.conll"),
        ("hf", "train.parquet"),
        ("spacy", "train.spacy"),
        ("brat", "train"),
        ("doccano", "train.jsonl"),
    ],
)
def test_parts_in_other_formats_bear_their_endings(
    source: Path, tmp_path: Path, capsys: Any, to: str, name: str
) -> None:
    out = tmp_path / "parts"
    for _ in range(2):  # the second time over what the first one left
        code, _, said = run(capsys, source, "--out", out, "--to", to)
        assert code == 0, said
        assert data.read(out / name, format=to).format == to
    changed = out / name if (out / name).is_file() else sorted(path for path in (out / name).rglob("*.ann"))[0]
    changed.write_bytes(changed.read_bytes() + b"\n")
    code, _, said = run(capsys, source, "--out", out, "--to", to)
    assert code == 2
    assert f"{out / name} was changed since it was split" in said


def test_one_part_may_be_left_out_and_the_format_chosen(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "parts"
    assert run(capsys, source, "--out", out, "--validation", 0, "--group", "exact", "--to", "cluener")[0] == 0
    assert sorted(files(out)) == ["split.json", "test.jsonl", "train.jsonl"]
    assert data.detect(out / "test.jsonl") == "cluener"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--test", "0.6", "--validation", "0.4"], "--test 0.6 and --validation 0.4 leave nothing to train on"),
        (["--test", "0", "--validation", "0"], "hold nothing out"),
        (["--test", "90", "--validation", "3"], "cannot hold out 3 and 90 of 93 documents"),
        (["--test", "93"], "cannot hold out 93 of 93 documents"),
        (["--folds", "92"], "cannot make 92 folds of 93 documents in 91 groups"),
        (["--folds", "3", "--test", "0.1"], "--folds 3 and --test 0.1 exclude each other"),
        (["--folds", "3", "--few-shot", "2"], "--folds 3 and --few-shot 2 exclude each other"),
        (["--few-shot", "500"], "none is left to measure on"),
        (["--to", "entites"], "did you mean 'entities'"),
        (["--to", "alpaca"], "alpaca rows need a prompt"),
    ],
)
def test_nonsense_is_one_line(source: Path, tmp_path: Path, capsys: Any, options: list[str], said: str) -> None:
    code, out, err = run(capsys, source, "--out", tmp_path / "parts", *options)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--test", "1.5"], "'1.5' is neither a share below 1 nor a number of documents"),
        (["--test", "-0.1"], "'-0.1' is neither a share below 1 nor a number of documents"),
        (["--threshold", "0.2"], "'0.2' is not a similarity from 0.5 to 1"),
        (["--folds", "0"], "'0' is not a positive number"),
        (["--group", "some"], "invalid choice: 'some'"),
    ],
)
def test_wrong_usage(source: Path, tmp_path: Path, capsys: Any, options: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["data", "split", str(source), "--out", str(tmp_path / "parts"), *options])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
