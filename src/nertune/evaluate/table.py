"""An `Evaluation` as a table, for a terminal (rich) or for Markdown.

Every table says which measure it shows and what that compares, because the two measures differ by several points on
the same predictions. Values have 4 decimals, as published tables do.
"""

from __future__ import annotations

from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from nertune.evaluate.evaluation import Evaluation, Outcomes, Score, Scores
from nertune.evaluate.measures import Metric, describe, known_measure

__all__ = ["comparison_table", "markdown_table", "published_table", "score_table", "semeval_table"]

_ABSENT = "—"


class _Row(NamedTuple):
    name: str
    score: Score
    support: int


def score_table(evaluation: Evaluation, *, measure: Metric, title: str | None = None) -> Table:
    """Precision, recall, F1 and support by label, then micro and macro.

    The caption names the measure, whatever the title. Raises InputError when the evaluation lacks the measure.
    """
    scores = _scores(evaluation, measure)
    table = _empty_table(
        title or f"Predictions against gold, measure: {measure}",
        f"{_measured(measure)}. {_extent(evaluation, scores)}.{_invented(scores)}",
        ["precision", "recall", "F1", "support"],
    )
    for row in _label_rows(scores):
        table.add_row(Text(row.name), *_values(row))
    table.add_section()
    for row in _summary_rows(scores):
        table.add_row(Text(row.name, style="bold"), *_values(row))
    return table


def comparison_table(before: Evaluation, after: Evaluation, *, measure: Metric) -> Table:
    """F1 before and after and its change, then precision, recall and support after; by label, then micro and macro.

    A label that one side lacks shows a dash there. Where the two were not scored on the same gold, as far as
    documents and supports tell, the caption says so: the change then means nothing. Raises InputError when either
    evaluation lacks the measure.
    """
    old, new = _scores(before, measure), _scores(after, measure)
    same = before.documents == after.documents and _supports(old) == _supports(new)
    warning = "" if same else " Not the same gold on both sides: the change is no measure of progress."
    table = _empty_table(
        f"Before and after, each against gold, measure: {measure}",
        f"{_measured(measure)}. Before: {_extent(before, old)}. After: {_extent(after, new)}."
        f"{_invented(old, new)}{warning}",
        ["F1 before", "F1 after", "change", "precision after", "recall after", "support after"],
    )
    old_rows = {row.name: row for row in _label_rows(old)}
    new_rows = {row.name: row for row in _label_rows(new)}
    for name in sorted(old_rows.keys() | new_rows.keys()):
        table.add_row(Text(name), *_change(old_rows.get(name), new_rows.get(name)))
    table.add_section()
    for old_row, new_row in zip(_summary_rows(old), _summary_rows(new), strict=True):
        table.add_row(Text(new_row.name, style="bold"), *_change(old_row, new_row))
    return table


def markdown_table(evaluation: Evaluation, *, measure: Metric) -> str:
    """The same rows as `score_table` in Markdown, under a line that names the measure; ends with a line break."""
    scores = _scores(evaluation, measure)
    lines = [
        f"Predictions against gold. {_measured(measure)}. {_extent(evaluation, scores)}.{_invented(scores)}",
        "",
        "| label | precision | recall | F1 | support |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {_cell(row.name)} | {' | '.join(_values(row))} |" for row in _label_rows(scores)]
    lines += [f"| **{row.name}** | {' | '.join(_values(row))} |" for row in _summary_rows(scores)]
    return "\n".join(lines) + "\n"


def published_table(evaluation: Evaluation, *, measure: Metric = "text") -> str:
    """The layout of published CLUENER tables as plain text: label, P, R, F1; then micro, and macro, the mean of the F1.

    Labels stand as those tables have them, last in the alphabet first. Ends with a line break.
    """
    scores = _scores(evaluation, measure)
    rows = [*reversed(_label_rows(scores)), *_summary_rows(scores)]
    width = max(cell_len(row.name) for row in rows)
    lines = [f"{_filled('label', width)}  precision  recall  f1"]
    for row in rows:
        precision, recall, f1, _ = _values(row)
        lines.append(f"{_filled(row.name, width)}  {precision:9}  {recall:6}  {f1:6}".rstrip())
    return "\n".join(lines) + "\n"


def semeval_table(evaluation: Evaluation) -> Table:
    """The four SemEval-2013 schemes over all labels: their counts, then precision, recall and F1."""
    counts = ["COR", "INC", "PAR", "MIS", "SPU"]
    table = _empty_table(
        "Predictions against gold, SemEval-2013 schemes, micro",
        "strict: label and place; exact: place; partial: place, a half for an overlap; type: label of what overlaps. "
        "One mention answers one. Correct, incorrect, partial, missed, spurious.",
        [*counts, "P", "R", "F1"],
        first="scheme",
    )
    table.box = SIMPLE_HEAD
    for scheme, scores in evaluation.semeval.items():
        found = scores.micro.outcomes or Outcomes(0, 0, 0, 0, 0)
        values = [scores.micro.precision, scores.micro.recall, scores.micro.f1]
        table.add_row(Text(scheme), *map(str, found), *(f"{value:.4f}" for value in values))
    return table


def _filled(name: str, width: int) -> str:
    """`name` filled with spaces to a width in columns; a Chinese character has two."""
    return name + " " * (max(width, 5) - cell_len(name))


def _scores(evaluation: Evaluation, measure: Metric) -> Scores:
    known_measure(measure, evaluation.metrics)
    return evaluation.metrics[measure]


def _empty_table(title: str, caption: str, columns: list[str], *, first: str = "label") -> Table:
    # Text, not str: a bracket in a label or title is no markup.
    table = Table(title=Text(title), caption=Text(caption), caption_justify="left")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _measured(measure: Metric) -> str:
    return f"Measure {measure}: {describe(measure)}"


def _extent(evaluation: Evaluation, scores: Scores) -> str:
    documents = f"{evaluation.documents} document{'' if evaluation.documents == 1 else 's'}"
    if scores.micro.ci95 is None:
        return documents
    low, high = scores.micro.ci95
    return f"{documents}, micro F1 {scores.micro.f1:.4f}, 95% interval {low:.4f} to {high:.4f}"


def _invented(*sides: Scores) -> str:
    """A sentence on the labels that only predictions use."""
    gold = {name for scores in sides for name, score in scores.labels.items() if score.support}
    names = sorted({name for scores in sides for name in scores.labels} - gold)
    return f" Not labels of the gold, only predicted: {', '.join(names)}." if names else ""


def _label_rows(scores: Scores) -> list[_Row]:
    return [_Row(name, score, score.support) for name, score in scores.labels.items()]


def _summary_rows(scores: Scores) -> list[_Row]:
    return [_Row("micro", scores.micro, scores.support), _Row("macro", scores.macro, scores.support)]


def _supports(scores: Scores) -> dict[str, int]:
    # A label without support was only predicted; it says nothing about the gold.
    return {name: score.support for name, score in scores.labels.items() if score.support}


def _values(row: _Row) -> list[str]:
    score = row.score
    return [f"{score.precision:.4f}", f"{score.recall:.4f}", f"{score.f1:.4f}", str(row.support)]


def _change(old: _Row | None, new: _Row | None) -> list[str]:
    before = _ABSENT if old is None else f"{old.score.f1:.4f}"
    if new is None:
        return [before, *[_ABSENT] * 5]
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    change = _ABSENT if old is None else f"{round(new.score.f1 - old.score.f1, 4) + 0.0:+.4f}"
    precision, recall, f1, support = _values(new)
    return [before, f1, change, precision, recall, support]


def _cell(name: str) -> str:
    return " ".join(name.replace("\\", "\\\\").replace("|", "\\|").splitlines())
