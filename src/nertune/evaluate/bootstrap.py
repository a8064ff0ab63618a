"""The interval of the micro F1: how far it would move on other documents of the same kind.

Takes the per-document counts that scoring has made; documents are the unit of resampling because the entities of one
document are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["RESAMPLES", "f1_interval"]

RESAMPLES = 1_000


def f1_interval(
    rows: Sequence[tuple[int, int, int]], *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """The 95% percentile interval of the micro F1 under the bootstrap over documents; None without documents.

    `rows` holds (hits, predicted, gold) of each document. A resample draws as many documents as there are, with
    replacement; its F1 is 2 * hits / (predicted + gold), and 0 where that is 0/0. The interval runs from the 2.5th to
    the 97.5th percentile over the resamples (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13).

    Documents with equal rows are interchangeable, so it is enough to draw how often each *distinct* row occurs, which
    is multinomial: shapes are (resamples, distinct) @ (distinct, 3). The order of documents does not matter, and
    equal seeds give equal intervals.
    """
    if not rows:
        return None
    distinct, copies = np.unique(np.asarray(rows, dtype=np.int64), axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(rows), copies / len(rows), size=resamples)
    totals = drawn.astype(np.float64) @ distinct.astype(np.float64)
    hits, claimed = totals[:, 0], totals[:, 1] + totals[:, 2]
    f1 = np.divide(2 * hits, claimed, out=np.zeros(resamples), where=claimed > 0)
    low, high = np.percentile(f1, [2.5, 97.5])
    return float(low), float(high)
