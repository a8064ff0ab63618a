"""A calibration as tables for a terminal and as a reliability plot: scores against the share of right entities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from nertune.evaluate.calibrating import CalibrationReport, Quality
from nertune.evaluate.calibration import BINS
from nertune.evaluate.evaluation import Score
from nertune.evaluate.measures import describe
from nertune.evaluate.table import empty_table

__all__ = ["draw_reliability", "label_table", "quality_line", "threshold_table"]

_ABSENT = "—"


def quality_line(report: CalibrationReport) -> str:
    """One paragraph: on what it was fitted, the temperature, the calibration error before and after."""
    unscored = f", {report.unscored} more had no score" if report.unscored else ""
    return (
        f"{report.scored} scored entities in {report.documents} documents, {report.right / report.scored:.1%} right by "
        f"label and place{unscored}. Temperature {report.calibration.temperature:.3f}: ECE ({BINS} bins of equal width) "
        f"{report.raw.ece:.4f} before, {report.calibrated.ece:.4f} after; NLL {report.raw.nll:.4f} before, "
        f"{report.calibrated.nll:.4f} after"
    )


def threshold_table(report: CalibrationReport) -> Table:
    """Micro precision, recall and F1 at thresholds from 0 to 0.9 and at the labels' own."""
    table = empty_table(
        f"What a threshold does, measure: {report.measure}",
        f"Thresholds on calibrated scores. Measure {report.measure}: {describe(report.measure)}",
        ["precision", "recall", "F1"],
        first="--min-score",
    )
    for least, scores in report.micro.items():
        table.add_row(f"{least:.1f}", *_values(scores.micro))
    table.add_row(f"{report.calibration.threshold:.4f}, the best for all", *_values(report.at_best.micro))
    table.add_section()
    table.add_row(Text("calibrated", style="bold"), *_values(report.at_thresholds.micro))
    return table


def label_table(report: CalibrationReport) -> Table:
    """By label its threshold, and precision, recall and F1 without any and at it."""
    table = empty_table(
        f"Precision, recall and F1 by label, without a threshold and at its own, measure: {report.measure}",
        "* too few scored predictions for a threshold of its own: the one that is best for all labels",
        ["P", "R", "F1", "at", "P", "R", "F1"],
    )
    for label, before in report.everything.labels.items():
        after = report.at_thresholds.labels.get(label)
        threshold = f"{report.calibration.threshold_of(label):.4f}{'' if label in report.own else '*'}"
        kept = _values(after) if after else [_ABSENT] * 3
        table.add_row(Text(label), *_values(before), threshold, *kept)
    return table


def draw_reliability(report: CalibrationReport, picture: Path) -> None:
    """The share of right entities over the mean score of each bin, before and after, and below how many lie there."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), dpi=120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), "--", color="grey", linewidth=1, label="perfectly calibrated")
    for quality, name, style in ((report.raw, "model", "o-"), (report.calibrated, "calibrated", "s-")):
        _draw(upper, lower, quality, name, style)
    upper.set(ylabel="share of right entities", xlim=(0, 1), ylim=(0, 1))
    lower.set(xlabel="score", ylabel="entities", yscale="log", ylim=(0.5, None))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    upper.legend()
    # Beside its place, then onto it: a reader never sees half a picture.
    unfinished = picture.with_name(f".{picture.name}.tmp")
    try:
        figure.savefig(unfinished, format="png")
        unfinished.replace(picture)
    finally:
        unfinished.unlink(missing_ok=True)


def _draw(upper: Any, lower: Any, quality: Quality, name: str, style: str) -> None:
    filled = [b for b in quality.bins if b.size]
    label = f"{name}, ECE {quality.ece:.3f}"
    upper.plot([b.score for b in filled], [b.right for b in filled], style, label=label, linewidth=1.5, markersize=4)
    edges = [quality.bins[0].low, *(b.high for b in quality.bins)]
    lower.stairs([b.size for b in quality.bins], edges, linewidth=1.5)


def _values(score: Score) -> list[str]:
    return [f"{score.precision:.4f}", f"{score.recall:.4f}", f"{score.f1:.4f}"]
