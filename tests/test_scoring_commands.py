"""`nertune score` and `compare` as they are typed: formats, pairing, files, exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nertune import data
from nertune.cli import main
from nertune.evaluate import evaluate
from nertune.evaluation_folder import read_folder, write_folder
from nertune.schema import Document, Mention, ParseOutcome, Prediction

DOCUMENTS = [
    Document.of("叶老桂在浙商银行", [("name", 0, 3), ("company", 4, 8)], id="a"),
    Document.of("招商银行开户", [("company", 0, 4)], id="b"),
]


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    data.write(DOCUMENTS, tmp_path / "gold.jsonl", format="cluener")
    return tmp_path / "gold.jsonl"


def folder_of(path: Path, *kept: int) -> Path:
    """An evaluation in which the entities of the documents `kept` were found."""
    predictions = [Prediction(d.text, d.entities if n in kept else ()) for n, d in enumerate(DOCUMENTS)]
    write_folder(path, evaluate(DOCUMENTS, predictions), DOCUMENTS, predictions)
    return path


def test_files_of_different_formats_and_order_are_scored_by_id(capsys: Any, gold: Path, tmp_path: Path) -> None:
    found = [DOCUMENTS[1], replace(DOCUMENTS[0], entities=DOCUMENTS[0].entities[:1])]
    data.write(found, tmp_path / "found.jsonl", format="entities")
    assert main(["score", str(gold), str(tmp_path / "found.jsonl"), "--json"]) == 0
    captured = capsys.readouterr()
    value = json.loads(captured.out)
    assert value["metrics"]["span"]["micro"]["recall"] == pytest.approx(2 / 3)
    assert value["semeval"]["strict"]["labels"]["company"]["missed"] == 1
    assert "gold.jsonl: read as cluener" in captured.err
    assert "found.jsonl: read as entities" in captured.err
    assert "paired by id" in captured.err


def test_labels_of_both_files_are_mapped(capsys: Any, gold: Path, tmp_path: Path) -> None:
    found = [
        Document.of("叶老桂在浙商银行", [("PER", 0, 3), ("机构", 4, 8), ("时间", 3, 4)], id="a"),
        Document.of("招商银行开户", [("company", 0, 4)], id="b"),
    ]
    data.write(found, tmp_path / "found.jsonl", format="entities")
    rules = ["--map", "name,PER=人名", "--map", "company=机构", "--map", "时间=", "--map", "PERS=人名"]
    arguments = ["score", str(gold), str(tmp_path / "found.jsonl"), *rules]
    assert main([*arguments, "--json", "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    scores = json.loads(captured.out)["metrics"]["span"]
    assert (scores["micro"]["f1"], list(scores["labels"])) == (1.0, ["人名", "机构"])
    assert "gold.jsonl: mentions given another label: name to 人名 (1), company to 机构 (2)" in captured.err
    assert "found.jsonl: mentions left out, as the label map says: 时间 (1)" in captured.err
    # A rule for one of the files alone is no mistake.
    assert "no mention bears: PERS (like PER). Labels there: PER, company, name, 时间, 机构" in captured.err
    assert {e.label for d in read_folder(tmp_path / "out").gold for e in d.entities} == {"人名", "机构"}
    assert main([*arguments[:3], "--map", "name"]) == 2
    assert "--map 'name': a rule has one equals sign, found none" in capsys.readouterr().err


def test_texts_without_prediction_are_refused_or_counted_as_empty(capsys: Any, gold: Path, tmp_path: Path) -> None:
    data.write(DOCUMENTS[:1], tmp_path / "found.jsonl", format="entities")
    arguments = ["score", str(gold), str(tmp_path / "found.jsonl"), "--json"]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 of 2 gold documents have no prediction by id: 2 (id b, '招商银行开户')" in captured.err
    assert main([*arguments, "--missing-empty"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["text"]["micro"]["recall"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("table", "shown"),
    [("scores", "measure: span"), ("semeval", "scheme: type"), ("published", "Micro Avg."), ("markdown", "| label |")],
)
def test_each_table_is_printed(capsys: Any, gold: Path, table: str, shown: str) -> None:
    assert main(["score", str(gold), str(gold), "--table", table]) == 0
    assert shown in capsys.readouterr().out


def test_scoring_a_folder_s_own_files_gives_its_scores_again(capsys: Any, tmp_path: Path) -> None:
    """Ungrounded mentions, answers that were cut and such that could not be read are among them."""
    predictions = [
        Prediction(DOCUMENTS[0].text, DOCUMENTS[0].entities[1:], (Mention("name", "李四"),), stop="length"),
        Prediction(DOCUMENTS[1].text, outcome=ParseOutcome.INVALID),
    ]
    evaluation = evaluate(DOCUMENTS, predictions)
    write_folder(tmp_path / "first", evaluation, DOCUMENTS, predictions)
    files = [str(tmp_path / "first" / name) for name in ("gold.jsonl", "predictions.jsonl")]
    assert main(["score", *files, "--json", "--out", str(tmp_path / "second")]) == 0
    assert json.loads(capsys.readouterr().out) == evaluation.to_json()
    assert json.loads((tmp_path / "second" / "evaluation.json").read_text(encoding="utf-8")) == evaluation.to_json()
    again = read_folder(tmp_path / "second")
    assert list(again.gold) == DOCUMENTS
    assert [(p.entities, p.ungrounded, p.cut, p.outcome) for p in again.predictions] == [
        (p.entities, p.ungrounded, p.cut, p.outcome) for p in predictions
    ]


def test_the_report_tells_what_the_tool_was_trained_on(capsys: Any, gold: Path, tmp_path: Path) -> None:
    data.write(DOCUMENTS[:1], tmp_path / "train.jsonl", format="entities")
    arguments = ["score", str(gold), str(gold), "--train", str(tmp_path / "train.jsonl")]
    assert main(arguments) == 2
    assert "--train is for the report, which goes into --out DIR" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "out"), "--map", "company=机构"]) == 0
    assert f"the report: {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().err
    rows = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["errors"]["breakdowns"]
    assert {row["name"]: row["gold"] for row in rows["seen in training"]} == {
        "seen with this label": 2,
        "not seen": 1,
    }


def test_a_folder_of_predictions_is_no_run(gold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.write(DOCUMENTS, tmp_path / "theirs", format="brat")
    monkeypatch.chdir(tmp_path)
    assert main(["score", str(gold), "theirs", "--out", "out"]) == 0
    assert json.loads(Path("out/report.json").read_text(encoding="utf-8"))["title"] == "theirs on gold.jsonl"


def test_a_place_that_cannot_be_a_folder_is_told_before_the_work(capsys: Any, gold: Path, tmp_path: Path) -> None:
    for command in (["score", str(gold), str(gold)], ["evaluate", "http://127.0.0.1:9/v1#m", "--data", str(gold)]):
        assert main([*command, "--out", str(gold)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "gold.jsonl: is there, and no folder" in captured.err
        assert main([*command, "--out", str(gold / "below")]) == 2
        assert "below: cannot be written: Not a directory" in capsys.readouterr().err


def test_two_folders_are_compared(capsys: Any, tmp_path: Path) -> None:
    a, b = folder_of(tmp_path / "a", 0), folder_of(tmp_path / "b", 0, 1)
    assert main(["compare", str(a), str(b), "--json", "--shuffles", "200"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["a"], value["b"], value["documents"]) == (str(a), str(b), 2)
    assert value["metrics"]["span"]["micro"]["difference"] == pytest.approx(0.2)
    assert [row["id"] for row in value["differing"]] == ["b"]
    assert main(["compare", str(a), str(b)]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 documents differ: B has fewer errors in 1, A in 0" in shown
    assert "2 (id b): 招商银行开户" in shown


def test_folders_of_different_gold_are_refused(capsys: Any, tmp_path: Path) -> None:
    a, b = folder_of(tmp_path / "a", 0), folder_of(tmp_path / "b", 0)
    data.write([DOCUMENTS[0], replace(DOCUMENTS[1], entities=())], b / "gold.jsonl", format="entities")
    assert main(["compare", str(a), str(b)]) == 2
    assert "not scored on the same gold: document 2, '招商银行开户'" in capsys.readouterr().err
    data.write(DOCUMENTS[:1], b / "gold.jsonl", format="entities")
    (b / "predictions.jsonl").write_text(json.dumps(Prediction(DOCUMENTS[0].text).to_json()) + "\n", encoding="utf-8")
    assert main(["compare", str(a), str(b)]) == 2
    assert "holds 2 documents" in capsys.readouterr().err


def test_a_folder_without_gold_says_how_to_make_it(capsys: Any, tmp_path: Path) -> None:
    a, b = folder_of(tmp_path / "a", 0), folder_of(tmp_path / "b", 0)
    (b / "gold.jsonl").unlink()
    assert main(["compare", str(a), str(b)]) == 2
    assert "there is no gold.jsonl in it" in capsys.readouterr().err
    assert main(["compare", str(a), str(tmp_path / "c")]) == 2
    assert "no such folder" in capsys.readouterr().err
