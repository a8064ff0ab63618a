"""What formats.py has measured, as Markdown: the table, the differences to the first format, and their place in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nertune.evaluate import Evaluation
from nertune.evaluate.measures import MEASURES

__all__ = ["BEGIN", "END", "Row", "between_marks", "difference", "differences", "table"]

BEGIN = "<!-- python benchmarks/formats.py --docs writes what follows -->"
END = "<!-- to here -->"

_ABSENT = "—"


class Row(NamedTuple):
    """One format. `held`, `free`: scores of answers under the grammar and without it; `tokens`: of an answer under it, mean.

    `counts`: by measure, (hits, predicted, gold) of each document under the grammar. Speeds are None where none was measured.
    """

    name: str
    held: Evaluation
    free: Evaluation
    tokens: float
    counts: Mapping[str, Sequence[tuple[int, int, int]]]
    sentences_per_second: float | None = None
    samples_per_second: float | None = None


def table(rows: Sequence[Row]) -> str:
    """One line a format, the columns of speed only where there is one; ends with a line break."""
    heads = ["answer", *(f"F1 `{measure}` (95%)" for measure in MEASURES), "ungrounded", "cut off"]
    heads += [*(f"free: F1 `{measure}`" for measure in MEASURES), "free: ungrounded", "free: unreadable", "tokens"]
    timed = any(row.sentences_per_second or row.samples_per_second for row in rows)
    heads += ["sentences/s", "training samples/s"] if timed else []
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        cells = [f"`{row.name}`", *(_with_interval(row.held, measure) for measure in MEASURES)]
        cells += [str(row.held.ungrounded), str(row.held.truncated)]
        cells += [f"{row.free.metrics[measure].micro.f1:.3f}" for measure in MEASURES]
        cells += [str(row.free.ungrounded), str(row.free.invalid_answers), f"{row.tokens:.1f}"]
        cells += [_speed(row.sentences_per_second), _speed(row.samples_per_second)] if timed else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def differences(rows: Sequence[Row], *, measure: str = "span") -> str:
    """A sentence on how far each format's F1 lies from the first one's; empty where there is nothing to compare."""
    if len(rows) < 2:
        return ""
    first, *others = rows
    parts = []
    for row in others:
        middle, low, high = difference(row.counts[measure], first.counts[measure])
        parts.append(f"`{row.name}` {middle:+.3f} ({low:+.3f} to {high:+.3f})")
    return f"F1 `{measure}` less that of `{first.name}`, with the paired 95% interval: {', '.join(parts)}.\n"


def difference(
    counts: Sequence[tuple[int, int, int]], others: Sequence[tuple[int, int, int]], *, resamples: int = 1_000
) -> tuple[float, float, float]:
    """The micro F1 of `counts` less that of `others`, and its 95% percentile interval over the same documents.

    Each is (hits, predicted, gold) by document, in one order. A resample draws documents, with replacement, for both
    (paired bootstrap: Berg-Kirkpatrick et al. 2012, An Empirical Investigation of Statistical Significance in NLP).
    """
    both = np.concatenate([np.asarray(counts, dtype=np.float64), np.asarray(others, dtype=np.float64)], axis=1)
    documents = len(both)
    drawn = np.random.default_rng(0).multinomial(documents, np.full(documents, 1 / documents), size=resamples)
    totals = np.concatenate([both.sum(axis=0, keepdims=True), drawn @ both])
    apart = _f1(totals[:, :3]) - _f1(totals[:, 3:])
    low, high = np.percentile(apart[1:], [2.5, 97.5])
    return float(apart[0]), float(low), float(high)


def between_marks(page: str, content: str) -> str:
    """The page with `content` in place of what stands between its two marks. Raises ValueError where it lacks one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}, in this order")
    return f"{before}{BEGIN}\n\n{content.strip()}\n\n{END}{after}"


def _f1(totals: Any) -> Any:
    claimed = totals[:, 1] + totals[:, 2]
    return np.divide(2 * totals[:, 0], claimed, out=np.zeros(len(totals)), where=claimed > 0)


def _with_interval(evaluation: Evaluation, measure: str) -> str:
    micro = evaluation.metrics[measure].micro
    return f"{micro.f1:.3f}" + ("" if micro.ci95 is None else f" ({micro.ci95[0]:.3f}–{micro.ci95[1]:.3f})")


def _speed(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.2f}"
