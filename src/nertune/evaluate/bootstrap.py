"""How far a number would move on other documents of the same kind: the bootstrap over documents.

Takes the counts of units that scoring has made. A unit is a document, because the entities of one document are not
independent; of very many documents, a random group of them, see `units`.

Shapes: U units, C columns of counts, R resamples.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESAMPLES", "UNITS", "Interval", "distinct_rows", "f1", "interval", "intervals", "resampled", "units"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]

RESAMPLES = 1_000
UNITS = 20_000
"""More documents than this are resampled in as many groups."""

_CHUNK = 2_000_000  # drawn numbers held at a time
_FEW = 16  # a multinomial draw takes about so many times that of a unit


def units(documents: int, labels: int, *, seed: int) -> tuple[Integers, int]:
    """The unit of each document, and how many units there are: each document its own, or random groups of equal size.

    Sums over groups vary from resample to resample as sums over documents do, so an interval is as wide as with single
    documents. There are 20,000 groups, fewer for more than 200 labels, so that memory has an end.
    """
    most = max(100, min(UNITS, 200 * UNITS // (labels + 1)))
    if documents <= most:
        return np.arange(documents), documents
    return np.random.default_rng(seed).permutation(documents) % most, most


def resampled(counts_UC: Integers, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """The sum of each column in each resample, which draws as many units as there are, with replacement; shape (R, C).

    Units with equal rows are interchangeable: where there are few *distinct* rows it is enough to draw how often each
    occurs, which is multinomial. The order of units does not matter, and equal seeds give equal sums.
    """
    size = len(counts_UC)
    rows_KC, copies_K = distinct_rows(counts_UC)
    few = _FEW * len(rows_KC) <= size
    if not few:
        rows_KC = np.repeat(rows_KC, copies_K, axis=0)
    random = np.random.default_rng(seed)
    # No sum is beyond what single precision holds exactly, or double precision is taken.
    small = 2 * size * int(counts_UC.max(initial=0)) < 2**24
    kind: type[np.floating[Any]] = np.float32 if small else np.float64
    weight_KC: NDArray[Any] = rows_KC.astype(kind)
    totals_RC = np.empty((resamples, counts_UC.shape[1]))
    step = max(1, _CHUNK // len(rows_KC))
    for begin in range(0, resamples, step):
        draws = min(step, resamples - begin)
        if few:
            drawn = random.multinomial(size, copies_K / size, size=draws)
        else:
            drawn = np.stack([np.bincount(random.integers(0, size, size), minlength=size) for _ in range(draws)])
        totals_RC[begin : begin + step] = drawn.astype(kind) @ weight_KC
    return totals_RC


def distinct_rows(counts_UC: Integers) -> tuple[Integers, Integers]:
    """The distinct rows, sorted, and how often each occurs."""
    if counts_UC.shape[1] == 0:
        return counts_UC[:1], np.array([len(counts_UC)])
    small = counts_UC.astype(np.min_scalar_type(int(counts_UC.max(initial=0))).newbyteorder(">"))
    # Rows as strings of bytes, which sort as big-endian numbers do: far quicker than by column.
    packed_U = np.ascontiguousarray(small).view(np.dtype((np.void, small.dtype.itemsize * small.shape[1]))).ravel()
    _, first_K, copies_K = np.unique(packed_U, return_index=True, return_counts=True)
    return counts_UC[first_K], copies_K


def f1(twice_right: Floats, claimed: Floats, *, empty: float = 0.0) -> Floats:
    """F1 from twice the credit and what was predicted and gold together; `empty` where that is 0/0."""
    values: Floats = np.divide(twice_right, claimed, out=np.full(twice_right.shape, empty), where=claimed > 0)
    return values


def interval(values_R: Floats) -> Interval | None:
    """The 95% percentile interval: the 2.5th and the 97.5th percentile over the resamples, leaving out NaN; None of nothing.

    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    return intervals(values_R[:, None])[0]


def intervals(values_RC: Floats) -> list[Interval | None]:
    """`interval` of each column: numpy's linear percentiles, of all columns at once."""
    if not len(values_RC):
        return [None] * values_RC.shape[1]
    known_C = (~np.isnan(values_RC)).sum(axis=0)
    sorted_RC = np.sort(values_RC, axis=0)  # NaN last
    bounds = []
    for share in (0.025, 0.975):
        place_C = np.maximum(known_C - 1, 0) * share
        below_C = np.floor(place_C).astype(np.int64)
        above_C = np.minimum(below_C + 1, np.maximum(known_C - 1, 0))
        weight_C = place_C - below_C
        low_C, high_C = (np.take_along_axis(sorted_RC, found_C[None], axis=0)[0] for found_C in (below_C, above_C))
        step_C = high_C - low_C
        # As numpy does it, so that the digits are the same.
        bounds.append(np.where(weight_C >= 0.5, high_C - step_C * (1 - weight_C), low_C + step_C * weight_C))
    return [
        (low, high) if known else None
        for low, high, known in zip(bounds[0].tolist(), bounds[1].tolist(), known_C.tolist(), strict=True)
    ]
