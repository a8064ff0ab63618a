"""The SemEval'13 family: how much of each gold mention a prediction has right, in four schemes.

Segura-Bedmar et al. 2013 (SemEval-2013 Task 9), after MUC-5 (Chinchor & Sundheim 1993). A pair of a gold and a predicted
mention that have a character in common is

    scheme    correct                  otherwise
    strict    label and place equal    incorrect
    exact     place equal              incorrect
    partial   place equal              partial, worth a half
    type      label equal              incorrect

A gold mention without a pair is missed, a predicted one spurious. Each scheme has a one-to-one matching of its own: the one
with the most correct pairs, and of these the most pairs. The counts follow from that, whichever of several such matchings
is taken, so they depend on no order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from nertune.evaluate.columns import Bools, Columns, Integers
from nertune.evaluate.matching import assigned

__all__ = ["SCHEMES", "Scheme", "scheme_counts"]

Scheme = Literal["strict", "exact", "partial", "type"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

# What a pair that overlaps has in common.
_PLACE, _LABEL = 1, 2
_Relation: TypeAlias = tuple[tuple[int | None, ...], ...]
_Counts: TypeAlias = tuple[int, int, int, int, int, int]  # correct, then paired: strict, place, label
_LARGE = 400


class _Ordered(NamedTuple):
    """Mentions in the order of group and start; a group is what may be paired at all."""

    group_K: Integers
    label_K: Integers
    start_K: Integers
    end_K: Integers
    gold_K: Bools
    predicted_K: Bools


def scheme_counts(found: Columns, cell_D: Integers, cells: int) -> dict[str, Integers]:
    """Correct, incorrect, partial, missed, spurious by scheme, each of shape (cells, labels + 1, 5).

    `cell_D`: which of the `cells` each document is counted in. A label's counts are those of its own mentions matched among
    themselves; the last column is of all mentions together, which also pair across labels.
    """
    spans, labels = found.spans, len(found.labels)
    size = cells * (labels + 1)
    together = _Ordered(spans.document_K, spans.label_K, spans.start_K, spans.end_K, spans.gold_K, spans.predicted_K)
    by_label = np.argsort(spans.label_K, kind="stable")
    apart = _Ordered(
        spans.document_K[by_label] + found.documents * spans.label_K[by_label],
        spans.label_K[by_label],
        spans.start_K[by_label],
        spans.end_K[by_label],
        spans.gold_K[by_label],
        spans.predicted_K[by_label],
    )
    totals = _totals(together, cell_D[together.group_K] * (labels + 1) + labels, size)
    totals += _totals(apart, cell_D[spans.document_K[by_label]] * (labels + 1) + apart.label_K, size)
    correct, paired = totals[:, 2:5], totals[:, 5:8]
    lost_N = cell_D[found.lost_document_N] * (labels + 1)
    lost = np.bincount(lost_N + found.lost_label_N, minlength=size) + np.bincount(lost_N + labels, minlength=size)
    counts: dict[str, Integers] = {}
    for scheme, way in (("strict", 0), ("exact", 1), ("partial", 1), ("type", 2)):
        wrong = paired[:, way] - correct[:, way]
        nothing = np.zeros_like(wrong)
        incorrect, partial = (nothing, wrong) if scheme == "partial" else (wrong, nothing)
        missed, spurious = totals[:, 0] - paired[:, way], totals[:, 1] - paired[:, way] + lost
        outcomes = np.stack([correct[:, way], incorrect, partial, missed, spurious], axis=1)
        counts[scheme] = outcomes.reshape(cells, labels + 1, 5)
    return counts


def _totals(mentions: _Ordered, place_K: Integers, size: int) -> Integers:
    """Gold, predicted, correct strict, by place, by label, paired likewise: shape (size, 8)."""
    if not len(place_K):
        return np.zeros((size, 8), dtype=np.int64)
    first_C = _components(mentions)
    gold_C = np.add.reduceat(mentions.gold_K, first_C, dtype=np.int64)
    predicted_C = np.add.reduceat(mentions.predicted_K, first_C, dtype=np.int64)
    same_C = np.add.reduceat(mentions.gold_K & mentions.predicted_K, first_C, dtype=np.int64)
    size_C = np.diff(first_C, append=len(place_K))
    counts_C6 = np.zeros((len(first_C), 6), dtype=np.int64)
    # All alike; or nothing to pair.
    plain_C = (same_C == size_C) | (gold_C == 0) | (predicted_C == 0)
    counts_C6[plain_C] = same_C[plain_C, None]
    # One of each: they overlap, or they would not stand together.
    two_C = ~plain_C & (gold_C == 1) & (predicted_C == 1)
    one_P = first_C[two_C]
    counts_C6[two_C, 1] = (mentions.start_K[one_P] == mentions.start_K[one_P + 1]) & (
        mentions.end_K[one_P] == mentions.end_K[one_P + 1]
    )
    counts_C6[two_C, 2] = mentions.label_K[one_P] == mentions.label_K[one_P + 1]
    counts_C6[two_C, 3:] = 1
    several = np.flatnonzero(~plain_C & ~two_C)
    if len(several):
        counts_C6[several] = _solved(mentions, first_C[several], size_C[several])
    place_C = place_K[first_C]
    by_kind = [gold_C, predicted_C, *counts_C6.T]
    return np.stack(
        [np.bincount(place_C, weights=kind_C, minlength=size).astype(np.int64) for kind_C in by_kind], axis=1
    )


def _components(mentions: _Ordered) -> Integers:
    """Where each stretch of mentions begins that overlap, directly or over others; labels and sides are not looked at."""
    stride = int(mentions.end_K.max()) + 1
    begin_K, reach_K = mentions.group_K * stride + mentions.start_K, mentions.group_K * stride + mentions.end_K
    before_K = np.maximum.accumulate(reach_K)
    return np.flatnonzero(np.concatenate([[True], begin_K[1:] >= before_K[:-1]]))


def _solved(mentions: _Ordered, first_S: Integers, size_S: Integers) -> Integers:
    """The counts of components that have several mentions on a side: shape (S, 6)."""
    inside = np.repeat(first_S - np.concatenate([[0], np.cumsum(size_S)[:-1]]), size_S) + np.arange(size_S.sum())
    rows = list(
        zip(
            *(column_K[inside].tolist() for column_K in mentions[1:]),
            strict=True,
        )
    )
    counts, begin = [], 0
    for size in size_S.tolist():
        part = rows[begin : begin + size]
        begin += size
        gold = [row[:3] for row in part if row[3]]
        predicted = [row[:3] for row in part if row[4]]
        relation = tuple(tuple([_in_common(a, b) for b in predicted]) for a in gold)
        counts.append(_kept(relation) if len(part) <= _LARGE else _best(relation))
    return np.array(counts, dtype=np.int64)


def _in_common(a: tuple[int, int, int], b: tuple[int, int, int]) -> int | None:
    if a[1] >= b[2] or b[1] >= a[2]:
        return None
    return (_PLACE if a[1] == b[1] and a[2] == b[2] else 0) | (_LABEL if a[0] == b[0] else 0)


def _best(relation: _Relation) -> _Counts:
    """The counts of the best matchings of gold and predicted mentions, given what each two have in common."""
    base = min(len(relation), len(relation[0])) + 1
    correct, paired = [], []
    for right in (_PLACE | _LABEL, _PLACE, _LABEL):
        edges = {
            i: {j: 1.0 + base * (common & right == right) for j, common in enumerate(row) if common is not None}
            for i, row in enumerate(relation)
        }
        pairs = assigned({i: row for i, row in edges.items() if row})
        correct.append(sum(edges[i][j] > 1 for i, j in pairs))
        paired.append(len(pairs))
    return (correct[0], correct[1], correct[2], paired[0], paired[1], paired[2])


_kept = lru_cache(maxsize=100_000)(_best)
