"""An `Evaluation` as a table, for a terminal (rich) or for Markdown.

Every table says which measure it shows and what that compares, because measures differ by several points on the same
predictions. Values have 4 decimals, as published tables do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from nertune.console import visible
from nertune.evaluate.evaluation import Evaluation, Score, Scores
from nertune.evaluate.measures import Metric, describe, known_measure
from nertune.evaluate.semeval import Scheme

__all__ = [
    "comparison_table",
    "empty_table",
    "markdown_table",
    "published_table",
    "scheme_table",
    "score_table",
    "semeval_table",
]

_ABSENT = "—"
_COLUMNS = ("precision", "recall", "F1", "95% interval", "support")
_OUTCOMES = ("COR", "INC", "PAR", "MIS", "SPU")


_MOST_LABELS = 60  # in a table for the terminal
_LONGEST_LABEL = 80  # characters


class _Row(NamedTuple):
    name: str
    score: Score
    support: int


def score_table(evaluation: Evaluation, *, measure: Metric, title: str | None = None) -> Table:
    """Precision, recall, F1, its 95% interval and support by label, then micro and macro.

    The caption names the measure, whatever the title. Raises InputError when the evaluation lacks the measure.
    """
    scores = _scores(evaluation, measure)
    table = empty_table(
        title or f"Predictions against gold, measure: {measure}",
        f"{_measured(measure)}. {_extent(evaluation, scores)}.{_invented(scores)}",
        _COLUMNS,
    )
    _add_labels(table, ((row.name, row.support, _cells(row)) for row in _label_rows(scores)))
    table.add_section()
    for row in _summary_rows(scores):
        table.add_row(Text(row.name, style="bold"), *_cells(row))
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
    table = empty_table(
        f"Before and after, each against gold, measure: {measure}",
        f"{_measured(measure)}. Before: {_extent(before, old)}. After: {_extent(after, new)}."
        f"{_invented(old, new)}{warning}",
        ["F1\nbefore", "F1\nafter", "change", "precision\nafter", "recall\nafter", "support\nafter"],
    )
    old_rows = {row.name: row for row in _label_rows(old)}
    new_rows = {row.name: row for row in _label_rows(new)}
    pairs = [(name, old_rows.get(name), new_rows.get(name)) for name in sorted(old_rows.keys() | new_rows.keys())]
    _add_labels(
        table,
        ((name, max(row.support for row in (one, other) if row), _change(one, other)) for name, one, other in pairs),
    )
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
        f"| label | {' | '.join(_COLUMNS)} |",
        "|---" + "|---:" * len(_COLUMNS) + "|",
    ]
    lines += [f"| {_escaped(_shortened(row.name))} | {' | '.join(_cells(row))} |" for row in _label_rows(scores)]
    lines += [f"| **{row.name}** | {' | '.join(_cells(row))} |" for row in _summary_rows(scores)]
    return "\n".join(lines) + "\n"


def published_table(evaluation: Evaluation, *, measure: Metric = "text") -> str:
    """Lay scores out as the table published for CLUENER is, to the character; ends with a line break.

    Label, precision, recall, F1, to the right; the labels last in the alphabet first; then micro, and of macro the F1
    alone, which is the mean of the labels'. It is what pandas 2 prints of rounded numbers (`DataFrame.to_string`): the
    macro's dashes make precision and recall columns of single values, so 0.7820 is 0.782 there, and F1 one of equal length.
    """
    scores = _scores(evaluation, measure)
    rows = [(row.name, row.score) for row in reversed(_label_rows(scores))]
    rows += [("Micro Avg.", scores.micro), ("Macro Avg.", scores.macro)]
    digits = max(len(_short(score.f1).partition(".")[2]) for _, score in rows)
    columns = [
        ["Label", *(name for name, _ in rows)],
        ["Precision", *(f" {_short(score.precision)}" for _, score in rows[:-1]), " -"],
        ["Recall", *(f" {_short(score.recall)}" for _, score in rows[:-1]), " -"],
        ["F1", *(f"{score.f1:.{digits}f}" for _, score in rows)],
    ]
    filled = [[" " * (max(map(cell_len, column)) - cell_len(cell)) + cell for cell in column] for column in columns]
    return "".join(" ".join(line) + "\n" for line in zip(*filled, strict=True))


def semeval_table(evaluation: Evaluation) -> Table:
    """The four SemEval-2013 schemes over all labels: their counts, then precision, recall and F1."""
    table = empty_table(
        "Predictions against gold, SemEval-2013 schemes, micro",
        "strict: label and place; exact: place; partial: place, a half for an overlap; type: label of what overlaps. "
        "One mention answers one. Correct, incorrect, partial, missed, spurious.",
        [*_OUTCOMES, "P", "R", "F1"],
        first="scheme",
        narrow=True,
    )
    for scheme, scores in evaluation.semeval.items():
        table.add_row(Text(scheme), *_outcome_cells(scores.micro))
    return table


def scheme_table(evaluation: Evaluation, *, scheme: Scheme) -> Table:
    """One SemEval-2013 scheme by label, then micro and macro: counts, precision, recall, F1, support; a mean has no counts.

    Raises InputError when the evaluation lacks the scheme.
    """
    known_measure(scheme, evaluation.semeval)
    scores = evaluation.semeval[scheme]
    table = empty_table(
        f"Predictions against gold, SemEval-2013 scheme: {scheme}",
        "A label's mentions are matched among themselves, all mentions together in the micro row.",
        [*_OUTCOMES, "P", "R", "F1", "support"],
        narrow=True,
    )
    _add_labels(
        table, ((row.name, row.support, [*_outcome_cells(row.score), str(row.support)]) for row in _label_rows(scores))
    )
    table.add_section()
    for row in _summary_rows(scores):
        table.add_row(Text(row.name, style="bold"), *_outcome_cells(row.score), str(row.support))
    return table


def _short(value: float) -> str:
    """A share with as many of four decimals as it needs, at least one."""
    return str(round(value, 4))


def _scores(evaluation: Evaluation, measure: Metric) -> Scores:
    known_measure(measure, evaluation.metrics)
    return evaluation.metrics[measure]


def empty_table(
    title: str, caption: str, columns: Sequence[str], *, first: str = "label", narrow: bool = False
) -> Table:
    """A table without rows: `first`, then columns of numbers; a `narrow` one has few lines between them."""
    # Text, not str: a bracket in a label or title is no markup.
    table = Table(title=Text(title), caption=Text(caption), caption_justify="left")
    if narrow:
        table.box, table.collapse_padding, table.pad_edge = SIMPLE_HEAD, True, False
    # Of what is too wide for the terminal, labels give way and never numbers.
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _add_labels(table: Table, rows: Iterable[tuple[str, int, Sequence[str]]]) -> None:
    """A row for each label, by name, support and cells; of very many labels those with the largest support."""
    rows = list(rows)
    shown = set(sorted(range(len(rows)), key=lambda place: (-rows[place][1], place))[:_MOST_LABELS])
    for place, (name, _, cells) in enumerate(rows):
        if place in shown:
            table.add_row(Text(_shortened(name)), *cells)
    if len(rows) > len(shown):
        table.add_row(Text(f"and {len(rows) - len(shown):,} labels with less support: --json", style="dim"))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"


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
    names = [_shortened(name) for name in sorted({name for scores in sides for name in scores.labels} - gold)]
    more = f" and {len(names) - _MOST_LABELS:,} more" if len(names) > _MOST_LABELS else ""
    return f" Not labels of the gold, only predicted: {', '.join(names[:_MOST_LABELS])}{more}." if names else ""


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


def _cells(row: _Row) -> list[str]:
    """What `_values` gives, and the interval of the F1 after it."""
    *figures, support = _values(row)
    interval = _ABSENT if row.score.ci95 is None else "{:.4f} to {:.4f}".format(*row.score.ci95)
    return [*figures, interval, support]


def _outcome_cells(score: Score) -> list[str]:
    counts = [""] * len(_OUTCOMES) if score.outcomes is None else [f"{count}" for count in score.outcomes]
    return [*counts, *(f"{value:.4f}" for value in (score.precision, score.recall, score.f1))]


def _change(old: _Row | None, new: _Row | None) -> list[str]:
    before = _ABSENT if old is None else f"{old.score.f1:.4f}"
    if new is None:
        return [before, *[_ABSENT] * 5]
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    change = _ABSENT if old is None else f"{round(new.score.f1 - old.score.f1, 4) + 0.0:+.4f}"
    precision, recall, f1, support = _values(new)
    return [before, f1, change, precision, recall, support]


def _escaped(name: str) -> str:
    return visible(" ".join(name.replace("\\", "\\\\").replace("|", "\\|").splitlines()))
