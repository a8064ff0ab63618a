"""What a report holds, in words, as Markdown and as JSON."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from nertune.evaluate import evaluate
from nertune.evaluate.errors import analyse
from nertune.evaluate.report import build_report
from nertune.evaluate.report.curves import calibration_curve, threshold_curve
from nertune.evaluate.report.markdown import literal
from nertune.evaluate.report.rows import document_rows
from nertune.evaluate.report.summary import summary
from nertune.schema import Document, Entity, Prediction


def test_the_three_files_say_the_same(pairs, tmp_path):
    gold, predicted = pairs(40)
    report = build_report(gold, predicted, title="甲 | 乙", train=gold[:20], facts={"model": "m"})
    report.write(tmp_path)
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    evaluation = evaluate(gold, predicted)
    assert value["evaluation"] == json.loads(json.dumps(evaluation.to_json()))
    micro = evaluation.metrics["span"].micro
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert json.dumps(value["summary"]["headline"])[1:-1] in page
    assert f"**F1 {micro.f1:.4f}**" in text
    assert value["summary"]["headline"].replace("!", "\\!") in text
    assert text.startswith("# 甲 \\| 乙\n")
    assert "| hallucinated | 8 | named, but it does not stand in the text |" in text
    assert "seen with this label" in text
    label = evaluation.metrics["span"].labels["地点"]
    figures = f"{label.precision:.4f} | {label.recall:.4f} | {label.f1:.4f}"
    assert f"| 地点 | {figures} | {label.ci95[0]:.4f} to {label.ci95[1]:.4f} | {label.support} |" in text
    outcomes = evaluation.semeval["exact"].micro.outcomes
    assert f"| exact | {' | '.join(map(str, outcomes))} |" in text
    assert "| 40 | missed | 人名 | (nothing) |" in text


def test_labels_that_a_model_sees_under_another_name_are_shown_with_both(pairs):
    gold, predicted = pairs(40)
    plain = build_report(gold, predicted, title="t")
    assert "display" not in plain.value
    report = build_report(gold, predicted, title="t", display={"组织": "ORG", "书名": "B|OOK"})
    text, value = report.files()["report.md"], json.loads(report.files()["report.json"])
    assert value["display"] == {"组织": "ORG", "书名": "B|OOK"}
    assert {**value, "display": None, "summary": None} == {
        **json.loads(plain.files()["report.json"]), "display": None, "summary": None
    }  # fmt: skip
    assert "| 组织 (ORG) |" in text
    assert "书名 (B\\|OOK)" in text
    assert "| 人名 |" in text
    assert any("组织 (ORG) (F1 " in line for kind in ("good", "bad") for line in value["summary"][kind])
    shown = text.replace(" (ORG)", "").replace(" (B\\|OOK)", "")
    assert shown == plain.files()["report.md"]


def test_equal_input_gives_an_equal_report(pairs):
    assert build_report(*pairs(30), title="t").files() == build_report(*pairs(30), title="t").files()


def test_the_summary_in_words():
    text = "叶老桂在浙商银行"
    gold = [Document.of(text, [("name", 0, 3), ("org", 4, 8)])] * 20
    found = (Entity("name", 0, 3, "叶老桂", 0.9), Entity("place", 4, 8, "浙商银行", 0.9))
    predicted = [Prediction(text, found)] * 20
    evaluation = evaluate(gold, predicted)
    said = summary(evaluation, analyse(gold, predicted, train=[Document.of("叶老桂", [("name", 0, 3)])]), None)
    assert said["headline"] == (
        "Of 100 entities that the model names, 50 are right; of 100 that are annotated, it finds 50. Measured on 20 texts."
    )
    assert said["good"] == [
        "Best at name (F1 100%).",
        "Everything that it names stands in the text.",
        "Every answer could be read to its end.",
    ]
    assert said["bad"] == [
        "Worst at org (F1 0%).",
        "In 100% of its 20 errors it finds the right place and gives it the wrong label.",
        "Most often confused: org, taken for place, 20 times.",
    ]
    assert said["look"] == [
        "Of the mentions that the training data hold it finds 100%, of new ones 0%.",
        "20 places where the model is sure of something else than the annotation: these may be errors of the annotation.",
    ]


def test_nothing_annotated_is_said():
    report = build_report([Document("无")], [Prediction("无")], title="t")
    assert "Nothing is annotated" in report.value["summary"]["headline"]
    assert set(report.files()) == {"report.html", "report.md", "report.json"}
    assert build_report([], [], title="t").files()["report.md"].startswith("# t\n")


def test_precision_and_recall_by_threshold():
    text = "叶老桂在浙商银行"
    gold = [Document.of(text, [("name", 0, 3), ("org", 4, 8)])]
    found = (Entity("name", 0, 3, "叶老桂", 0.9), Entity("place", 4, 8, "浙商银行", 0.5))
    curve = threshold_curve(gold, [Prediction(text, found)])
    by_threshold = {point["threshold"]: (point["precision"], point["recall"]) for point in curve["points"]}
    assert by_threshold[0.0] == by_threshold[0.5] == (0.5, 0.5)
    assert by_threshold[0.52] == by_threshold[0.9] == (1.0, 0.5)
    assert by_threshold[0.92] == (0.0, 0.0)
    calibration = calibration_curve(gold, [Prediction(text, found)])
    assert calibration["entities"] == 2
    assert calibration["ece"] == pytest.approx(0.3)
    assert threshold_curve(gold, [Prediction(text)]) is calibration_curve(gold, [Prediction(text)]) is None


def test_where_there_is_no_room_documents_with_errors_come_first(pairs):
    gold, predicted = pairs(20)
    predicted[10:] = [Prediction(document.text, document.entities) for document in gold[10:]]
    rows = document_rows(analyse(gold, predicted), predicted, most_bytes=3_000)
    numbers = [row[0] for row in rows["documents"]]
    assert rows["total"] == 20
    assert numbers == sorted(numbers)
    assert set(range(1, 11)) <= set(numbers)
    assert len(numbers) < 20


def test_long_texts_are_left_out_when_they_would_not_fit():
    gold = [Document("<&>" * 100_000)] * 20
    report = build_report(gold, [Prediction(document.text) for document in gold], title="t")
    assert 0 < len(report.value["documents"]) < 20
    assert len(report.files()["report.html"].encode()) < 5_000_000


def test_mentions_of_any_length_keep_a_page_small():
    text = "长" * 20_000
    gold = [Document.of(text, [("name", place, len(text))]) for place in range(100)]
    found = [
        Prediction(text, (Entity("place", d.entities[0].start, len(text), d.entities[0].text, 0.99),)) for d in gold * 2
    ]
    report = build_report(gold * 2, found, title="t")
    assert len(report.files()["report.html"].encode()) < 5_000_000
    assert len(report.value["errors"]["suspects"]) == 100
    assert "200 places where the model is sure" in report.value["summary"]["look"][0]
    assert "The 20 surest of 200." in report.files()["report.md"]
    assert report.value["errors"]["mistakes"][0]["gold"] == ("name", "长" * 150 + " … " + "长" * 150)


def test_a_part_without_annotations_has_no_recall():
    gold = [Document.of("甲乙", [("name", 0, 1)])]
    text = build_report(gold, [Prediction("甲乙", (Entity("name", 0, 2, "甲乙"),))], title="t").files()["report.md"]
    assert "| 1 | — | 0.0000 | 0.0000 | 1 | 0 |" in text
    assert "| 2 | 0.0000 | — | — | 0 | 1 |" in text


def test_a_lone_surrogate_does_not_keep_a_report_from_being_written(tmp_path):
    text = "叶\ud800老"
    build_report([Document.of(text, [("name", 0, 3)])], [Prediction(text)], title=text).write(tmp_path)
    assert "叶⟨U+D800⟩老" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_text_of_the_data_is_no_markup_in_markdown():
    class Tags(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag, attrs):
            self.found.append(tag)

    evil = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) | `a` **b**\n# c"
    assert "\n" not in literal(evil)
    report = build_report([Document.of(evil, [(evil, 0, 5)])], [Prediction(evil)], title=evil).files()["report.md"]
    for line in report.splitlines():
        assert "<img" not in line.replace("\\<", "")
        assert "](" not in line.replace("\\]", "")
