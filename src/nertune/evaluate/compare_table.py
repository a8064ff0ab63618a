"""A comparison for people: a table by label, and the documents in which one side does better."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nertune.evaluate.compare import Comparison, Difference, Differing
from nertune.evaluate.measures import Metric, describe
from nertune.evaluate.table import empty_table
from nertune.schema import Document, Prediction

__all__ = ["difference_table", "documents_that_differ"]


def difference_table(comparison: Comparison, *, measure: Metric, names: tuple[str, str] = ("A", "B")) -> Table:
    """F1 of A and B, the difference, its 95% interval and the p-value of randomization; by label, then micro and macro."""
    verdicts = comparison.metrics[measure]
    documents = f"{comparison.documents} document{'' if comparison.documents == 1 else 's'}"
    table = empty_table(
        f"A: {names[0]}, B: {names[1]}; measure: {measure}",
        f"Measure {measure}: {describe(measure)}. {documents}. Interval: paired bootstrap, {comparison.resamples:,} "
        f"resamples. p: how often chance makes as large a difference, by {comparison.shuffles:,} random exchanges; "
        "not corrected for the number of labels. The bootstrap's p is in --json.",
        ("F1 A", "F1 B", "B - A", "95% interval", "p", "support"),
        narrow=True,
    )
    for name, difference in verdicts.labels.items():
        table.add_row(Text(name), *_values(difference))
    table.add_section()
    for name, difference in (("micro", verdicts.micro), ("macro", verdicts.macro)):
        table.add_row(Text(name, style="bold"), *_values(difference))
    return table


def documents_that_differ(comparison: Comparison, *, show: int) -> Text:
    """How many documents differ, and those with the largest change in errors, `show` of each direction."""
    differing = comparison.differing
    better = [d for d in differing if d.errors_b < d.errors_a]
    worse = [d for d in differing if d.errors_b > d.errors_a]
    out = Text(
        f"{len(differing)} of {comparison.documents} documents differ: B has fewer errors in {len(better)}, A in {len(worse)}"
    )
    for head, found in (("B has fewer errors", better), ("A has fewer errors", worse)):
        largest = sorted(found, key=lambda d: -abs(d.errors_b - d.errors_a))[:show]
        if largest:
            out.append(f"\n\n{head}:", style="bold")
        for document in largest:
            out.append(_shown(document))
    return out


def _shown(document: Differing) -> str:
    gold = {(e.label, e.start, e.end) for e in document.gold.entities}
    name = "" if document.gold.id is None else f" (id {document.gold.id})"
    lines = [f"\n{document.number}{name}: {' '.join(document.gold.text.split())}"]
    lines.append(f"  gold: {_listed(document.gold, gold)}")
    lines.append(f"  A:    {_listed(document.a, gold)}")
    lines.append(f"  B:    {_listed(document.b, gold)}")
    return "\n".join(lines)


def _listed(side: Document | Prediction, gold: set[tuple[str, int, int]]) -> str:
    """Entities as `text label`, a mark before what the gold does not hold."""
    named: Sequence[str] = [
        f"{'' if (e.label, e.start, e.end) in gold else '✗ '}{e.text} {e.label}" for e in side.entities
    ]
    lost = [f"✗ {m.text} {m.label} (not in the text)" for m in side.ungrounded] if isinstance(side, Prediction) else []
    return ", ".join([*named, *lost]) or "nothing"


def _values(found: Difference) -> list[str]:
    low, high = found.ci95 or (None, None)
    return [
        f"{found.a:.4f}",
        f"{found.b:.4f}",
        # Adding 0.0 turns a rounded -0.0 into 0.0.
        f"{round(found.difference, 4) + 0.0:+.4f}",
        "—" if low is None or high is None else f"{low:+.4f} to {high:+.4f}",
        _p(found.p_randomization),
        str(found.support),
    ]


def _p(value: float | None) -> str:
    return "—" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
