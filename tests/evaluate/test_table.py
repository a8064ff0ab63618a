"""What tables show, and that each says which measure it shows."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from nertune.errors import InputError
from nertune.evaluate import Evaluation, evaluate
from nertune.evaluate.compare import compare
from nertune.evaluate.compare_table import difference_table
from nertune.evaluate.evaluation import LabelScore, Score, Scores
from nertune.evaluate.table import (
    comparison_table,
    markdown_table,
    published_table,
    scheme_table,
    score_table,
    semeval_table,
)
from nertune.schema import Document, Entity, Mention, Prediction

TEXT = "甲乙甲"
GOLD = [Document.of(TEXT, [("name", 0, 1), ("name", 2, 3), ("a[b]|c", 1, 2)])]


def scored(*spans: tuple[str, int, int], invented: tuple[str, str] | None = None) -> Evaluation:
    entities = tuple(Entity(label, start, end, TEXT[start:end]) for label, start, end in spans)
    ungrounded = () if invented is None else (Mention(*invented),)
    return evaluate(GOLD, [Prediction(TEXT, entities, ungrounded)])


def lines(table: Table, *, width: int = 200) -> list[list[str]]:
    out = StringIO()
    Console(file=out, width=width).print(table)
    return [line.replace("│", " ").replace("┃", " ").split() for line in out.getvalue().splitlines()]


def words(table: Table) -> str:
    return " ".join(" ".join(line) for line in lines(table))


def test_score_table_rows() -> None:
    shown = lines(score_table(scored(("name", 0, 1)), measure="span"))
    assert ["label", "precision", "recall", "F1", "95%", "interval", "support"] in shown
    assert ["a[b]|c", "0.0000", "0.0000", "0.0000", "—", "1"] in shown
    assert ["name", "1.0000", "0.5000", "0.6667", "—", "2"] in shown
    assert ["micro", "1.0000", "0.3333", "0.5000", "—", "3"] in shown
    assert ["macro", "0.5000", "0.2500", "0.3333", "—", "3"] in shown


def test_score_table_of_the_other_measure_differs() -> None:
    shown = lines(score_table(scored(("name", 0, 1)), measure="text"))
    assert ["name", "1.0000", "1.0000", "1.0000", "—", "1"] in shown


def test_each_row_shows_the_interval_of_its_f1() -> None:
    result = evaluate(GOLD * 9, [Prediction(TEXT), *[Prediction(TEXT, GOLD[0].entities)] * 8])
    scores = result.metrics["span"]
    shown, text = lines(score_table(result, measure="span")), markdown_table(result, measure="span")
    for name, score in (("name", scores.labels["name"]), ("micro", scores.micro), ("macro", scores.macro)):
        low, high = (f"{value:.4f}" for value in score.ci95 or ())
        assert low < f"{score.f1:.4f}" < high
        assert [low, "to", high] in [line[4:7] for line in shown if line[:1] == [name]]
        assert f"| {low} to {high} |" in text
    assert "9 documents, micro F1 " in words(score_table(result, measure="span"))


def test_a_long_label_takes_no_column_from_the_numbers() -> None:
    label = "organisations of every kind, with all that belongs to them 组织机构名称（全称，含下属部门与分支机构）"
    gold = [Document.of(TEXT, [(label, 0, 1)])] * 2
    result = evaluate(gold, [Prediction(TEXT, gold[0].entities)] * 2)
    compared = compare(gold, [Prediction(TEXT)] * 2, [Prediction(TEXT)] * 2, resamples=9, shuffles=1)
    for table, figures in (
        (score_table(result, measure="span"), "1.0000 1.0000 1.0000 1.0000 to 1.0000 2"),
        (comparison_table(result, result, measure="span"), "1.0000 1.0000 +0.0000 1.0000 1.0000 2"),
        (scheme_table(result, scheme="exact"), "2 0 0 0 0 1.0000 1.0000 1.0000 2"),
        (difference_table(compared, measure="span"), "0.0000 0.0000 +0.0000 +0.0000 to +0.0000 1.000 2"),
    ):
        rows = [" ".join(line) for line in lines(table, width=80)]
        assert any(row.startswith("organisation") and row.endswith(figures) for row in rows), rows


@pytest.mark.parametrize(("measure", "compares"), [("text", "(label, text)"), ("span", "(label, start, end)")])
def test_every_table_says_what_it_measures(measure: str, compares: str) -> None:
    result = scored(("name", 0, 1))
    for said in (
        words(score_table(result, measure=measure)),
        words(score_table(result, measure=measure, title="Mine [bold]")),
        words(comparison_table(result, result, measure=measure)),
        markdown_table(result, measure=measure),
    ):
        assert f"Measure {measure}: sets of {compares}" in said
        assert "against gold" in said or "Mine [bold]" in said
        assert "1 document." in said


def test_comparison_table_rows() -> None:
    before = scored(invented=("city", "丁"))
    after = scored(("name", 0, 1), ("name", 2, 3))
    table = comparison_table(before, after, measure="span")
    shown = lines(table)
    assert ["city", "0.0000", *"—————"] in shown
    assert ["name", "0.0000", "1.0000", "+1.0000", "1.0000", "1.0000", "2"] in shown
    assert ["a[b]|c", "0.0000", "0.0000", "+0.0000", "0.0000", "0.0000", "1"] in shown
    assert ["micro", "0.0000", "0.8000", "+0.8000", "1.0000", "0.6667", "3"] in shown
    assert ["macro", "0.0000", "0.5000", "+0.5000", "0.5000", "0.5000", "3"] in shown
    assert "Not the same gold" not in words(table)
    reverse = lines(comparison_table(after, before, measure="span"))
    assert ["city", "—", "0.0000", "—", "0.0000", "0.0000", "0"] in reverse


def test_labels_that_only_the_model_uses_are_told() -> None:
    result, right = scored(invented=("city", "丁")), scored(("name", 0, 1))
    for said in (
        words(score_table(result, measure="text")),
        words(comparison_table(result, right, measure="text")),
        markdown_table(result, measure="span"),
    ):
        assert "Not labels of the gold, only predicted: city." in said
    assert "only predicted" not in words(score_table(right, measure="text"))


def test_comparing_scores_on_different_gold_is_said() -> None:
    other = evaluate([Document(TEXT)], [Prediction(TEXT)])
    assert "Not the same gold" in words(comparison_table(other, scored(), measure="text"))


def test_markdown_table() -> None:
    text = markdown_table(scored(("name", 0, 1)), measure="span")
    assert text.splitlines()[2:] == [
        "| label | precision | recall | F1 | 95% interval | support |",
        "|---|---:|---:|---:|---:|---:|",
        "| a[b]\\|c | 0.0000 | 0.0000 | 0.0000 | — | 1 |",
        "| name | 1.0000 | 0.5000 | 0.6667 | — | 2 |",
        "| **micro** | 1.0000 | 0.3333 | 0.5000 | — | 3 |",
        "| **macro** | 0.5000 | 0.2500 | 0.3333 | — | 3 |",
    ]


PUBLISHED = Path(__file__).parents[3] / "shared" / "tutorials" / "published-table.txt"


def test_the_published_layout_line_by_line() -> None:
    """Label, P, R, F1; last label of the alphabet first; then micro and macro: the layout of published CLUENER tables."""
    gold = Document.of("甲乙丙丁", [("scene", 0, 1), ("地址", 1, 2), ("address", 2, 3), ("地址", 3, 4)])
    found = Prediction(
        "甲乙丙丁", Document.of("甲乙丙丁", [("scene", 0, 1), ("address", 0, 1), ("地址", 1, 2)]).entities
    )
    assert published_table(evaluate([gold], [found])).splitlines() == [
        "     Label Precision Recall     F1",
        "      地址       1.0    0.5 0.6667",
        "     scene       1.0    1.0 1.0000",
        "   address       0.0    0.0 0.0000",
        "Micro Avg.    0.6667    0.5 0.5714",
        "Macro Avg.         -      - 0.5556",
    ]


def _label_score(precision: float, recall: float, f1: float) -> LabelScore:
    return LabelScore(precision=precision, recall=recall, f1=f1, support=1)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"no published table at {PUBLISHED}")
def test_the_published_numbers_give_the_published_table() -> None:
    """Byte for byte, the numbers given as they are rounded there."""
    published = PUBLISHED.read_text(encoding="utf-8")
    rows = [line.rsplit(maxsplit=3) for line in published.splitlines()[1:]]
    labels = {name: _label_score(*map(float, values)) for name, *values in reversed(rows[:-2])}
    precision, recall, f1 = map(float, rows[-2][1:])
    micro = Score(precision=precision, recall=recall, f1=f1)
    macro = Score(precision=0.7927, recall=0.7939, f1=float(rows[-1][3]))
    evaluation = replace(scored(), metrics={"text": Scores(micro=micro, macro=macro, labels=labels)})
    assert published_table(evaluation) == published
    assert float(rows[-1][3]) == round(sum(score.f1 for score in labels.values()) / len(labels), 4)


@pytest.mark.parametrize("found", [(), (("name", 0, 1),), (("name", 0, 1), ("name", 2, 3), ("a[b]|c", 1, 2))])
def test_the_published_layout_is_what_pandas_prints(found: tuple[tuple[str, int, int], ...]) -> None:
    pandas = pytest.importorskip("pandas")
    evaluation = scored(*found)
    scores = evaluation.metrics["text"]
    rows = [(*reversed(scores.labels.items()),), (("Micro Avg.", scores.micro),)]
    table = [[name, round(s.precision, 4), round(s.recall, 4), round(s.f1, 4)] for part in rows for name, s in part]
    table.append(["Macro Avg.", "-", "-", round(scores.macro.f1, 4)])
    frame = pandas.DataFrame(table, columns=["Label", "Precision", "Recall", "F1"])
    assert published_table(evaluation) == frame.to_string(index=False) + "\n"


def test_semeval_table_shows_the_counts_of_each_scheme() -> None:
    shown = lines(semeval_table(scored(("name", 0, 1), ("name", 1, 3))))
    assert ["strict", "1", "1", "0", "1", "0", "0.5000", "0.3333", "0.4000"] in shown
    assert ["partial", "1", "0", "1", "1", "0", "0.7500", "0.5000", "0.6000"] in shown


def test_scheme_table_shows_the_counts_of_each_label() -> None:
    shown = lines(scheme_table(scored(("name", 0, 1), ("name", 1, 3)), scheme="partial"))
    assert ["name", "1", "0", "1", "0", "0", "0.7500", "0.7500", "0.7500", "2"] in shown
    assert ["a[b]|c", "0", "0", "0", "1", "0", "0.0000", "0.0000", "0.0000", "1"] in shown
    assert ["micro", "1", "0", "1", "1", "0", "0.7500", "0.5000", "0.6000", "3"] in shown
    assert ["macro", "0.3750", "0.3750", "0.3750", "3"] in shown


def test_tables_of_nothing() -> None:
    empty = evaluate([], [])
    assert "0 documents" in words(score_table(empty, measure="text"))
    assert "0 documents" in markdown_table(empty, measure="text")


def test_a_measure_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="measure 'token' is not there; use one of: text, span, partial"):
        markdown_table(scored(), measure="token")


def test_a_table_of_very_many_labels_shows_those_with_the_most_support_and_shortens_their_names():
    documents = [Document.of("甲乙", [(f"label {n}" + "x" * (200 if n == 0 else 0), 0, 1)]) for n in range(300)]
    documents += [Document.of("甲乙", [("often", 0, 2)])] * 3
    evaluation = evaluate(
        documents, [Prediction(document.text, document.entities) for document in documents], resamples=0
    )
    table = score_table(evaluation, measure="text")
    names = [str(cell) for cell in table.columns[0].cells]
    assert names[-4:-2] != names[-2:]
    assert "often" in names
    assert len(names) == 60 + 1 + 2
    assert f"and {301 - 60} labels with less support: --json" in names
    assert max(map(len, names)) == 80
