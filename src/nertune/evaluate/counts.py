"""What every measure counts, by unit of resampling and label; and the F1 of it all in each resample.

Stands between the columns of `columns.py` and the `Evaluation` that scoring makes, or the comparison of two of them.

Shapes: U units, L + 1 columns of labels (the last one of all together), 5 outcomes, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.evaluate.bootstrap import f1, resampled
from nertune.evaluate.columns import Columns, Integers
from nertune.evaluate.semeval import scheme_counts

__all__ = ["Counts", "ResampledF1", "count", "gains", "resampled_f1"]

Floats: TypeAlias = NDArray[np.float64]

CORRECT, INCORRECT, PARTIAL, MISSED, SPURIOUS = range(5)


class Counts(NamedTuple):
    """`by_measure`: for text, span and each SemEval scheme, counts of shape (U, L + 1, 5): correct, incorrect, partial,
    missed, spurious.
    """

    labels: tuple[str, ...]
    by_measure: Mapping[str, Integers]


class ResampledF1(NamedTuple):
    """F1 in each resample. `labels_RL` and `macro_R` are NaN where a resample holds nothing of a label, or of any."""

    micro_R: Floats
    macro_R: Floats
    labels_RL: Floats


def count(found: Columns, unit_D: Integers, units: int) -> Counts:
    """The counts of documents, of which `unit_D` says into which of the `units` each goes."""
    schemes = scheme_counts(found, unit_D, units)
    # Identical mentions are the only correct ones under both, so span is strict, where what is wrong is missed and spurious.
    strict = schemes["strict"]
    span = strict.copy()
    span[..., INCORRECT] = 0
    span[..., MISSED] += strict[..., INCORRECT]
    span[..., SPURIOUS] += strict[..., INCORRECT]
    return Counts(found.labels, {"text": _text(found, unit_D, units), "span": span, **schemes})


def gains(counts: Integers) -> Integers:
    """From outcomes to what F1 is made of: twice the credit, and what was predicted and gold together; shape (…, 2).

    F1 = 2 PR / (P + R) with P = credit / predicted and R = credit / gold is 2 credit / (predicted + gold).
    """
    twice = 2 * counts[..., CORRECT] + counts[..., PARTIAL]
    claimed = 2 * counts[..., :MISSED].sum(axis=-1) + counts[..., MISSED] + counts[..., SPURIOUS]
    return np.stack([twice, claimed], axis=-1)


def resampled_f1(counts: Sequence[Integers], *, seed: int, resamples: int) -> list[ResampledF1]:
    """F1 of each of `counts` in the same resamples: every one of them draws the same documents for all."""
    if not counts or not len(counts[0]):
        return []
    tables = []
    for outcomes in counts:
        support = outcomes[..., CORRECT] + outcomes[..., INCORRECT] + outcomes[..., PARTIAL] + outcomes[..., MISSED]
        tables.append(np.concatenate([gains(outcomes), support[..., None]], axis=-1))
    width = [table.shape[1] for table in tables]
    flat = np.concatenate([table.reshape(len(table), -1) for table in tables], axis=1)
    # Many columns are alike: what is gold and what is predicted is the same by all measures of places.
    numbers: dict[bytes, int] = {}
    place = [numbers.setdefault(column.tobytes(), len(numbers)) for column in flat.T]
    _, first = np.unique(place, return_index=True)
    totals = resampled(flat[:, first], seed=seed, resamples=resamples)[:, place]
    found, begin = [], 0
    for columns_ in width:
        part = totals[:, begin : begin + 3 * columns_].reshape(resamples, columns_, 3)
        begin += 3 * columns_
        found.append(_f1_of(part))
    return found


def _f1_of(totals: Floats) -> ResampledF1:
    micro_R = f1(totals[:, -1, 0], totals[:, -1, 1])
    labels_RL = f1(totals[:, :-1, 0], totals[:, :-1, 1], empty=np.nan)
    # The macro of a resample is over the labels of its gold.
    there_RL = totals[:, :-1, 2] > 0
    macro_R = f1(np.where(there_RL, labels_RL, 0.0).sum(axis=1), there_RL.sum(axis=1).astype(np.float64))
    return ResampledF1(micro_R, macro_R, labels_RL)


def _text(found: Columns, unit_D: Integers, units: int) -> Integers:
    names, labels = found.names, len(found.labels)
    size = units * (labels + 1)
    place_K = unit_D[names.document_K] * (labels + 1) + names.label_K
    kinds = {
        CORRECT: names.gold_K & names.predicted_K,
        MISSED: names.gold_K & ~names.predicted_K,
        SPURIOUS: names.predicted_K & ~names.gold_K,
    }
    counts = np.zeros((units, labels + 1, 5), dtype=np.int64)
    for kind, there_K in kinds.items():
        counts[..., kind] = np.bincount(place_K[there_K], minlength=size).reshape(units, labels + 1)
    counts[:, labels] = counts[:, :labels].sum(axis=1)
    return counts
