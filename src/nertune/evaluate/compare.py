"""Whether one set of predictions is better than another of the same documents, or only luckier.

Two answers that presume little: the paired bootstrap says how large the difference would be on other documents of the kind,
approximate randomization how often chance alone would make one as large.

Shapes: U units of resampling, C columns of counts, R resamples or shuffles, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nertune.errors import InputError
from nertune.evaluate.bootstrap import RESAMPLES, Interval, f1, interval, units
from nertune.evaluate.columns import Columns, Integers, columns
from nertune.evaluate.counts import ResampledF1, count, gains, resampled_f1
from nertune.evaluate.measures import METRICS, Metric, predicted_keys
from nertune.evaluate.scoring import check_pairs
from nertune.schema import Document, Entity, Prediction

__all__ = ["SHUFFLES", "Comparison", "Difference", "Differing", "Verdicts", "compare"]

Floats: TypeAlias = NDArray[np.float64]

SHUFFLES = 10_000
_CHUNK = 8_000_000  # coins held at a time


class Difference(NamedTuple):
    """F1 of both, what B has more, its 95% interval, and two p-values of no difference; `support`: gold entities.

    The p-values are two-sided and never 0. Interval and `p_bootstrap` are None of fewer than two documents, and for a label
    that no resample holds; `p_randomization` without documents.
    """

    a: float
    b: float
    difference: float
    ci95: Interval | None
    p_bootstrap: float | None
    p_randomization: float | None
    support: int

    def to_json(self) -> dict[str, object]:
        """The fields by their names."""
        return self._asdict() | {"ci95": None if self.ci95 is None else list(self.ci95)}


class Verdicts(NamedTuple):
    """The differences by one measure."""

    micro: Difference
    macro: Difference
    labels: Mapping[str, Difference]

    def to_json(self) -> dict[str, object]:
        """The object with the keys micro, macro, labels."""
        return {
            "micro": self.micro.to_json(),
            "macro": self.macro.to_json(),
            "labels": {name: difference.to_json() for name, difference in self.labels.items()},
        }


class Differing(NamedTuple):
    """A document of which A and B say different things; `number` counts from 1.

    `errors_a`, `errors_b`: what is missed or spurious by the measure `span`.
    """

    number: int
    gold: Document
    a: Prediction
    b: Prediction
    errors_a: int
    errors_b: int

    def to_json(self) -> dict[str, object]:
        """The document with what is gold and what each found, as [label, start, end, text], ungrounded as [label, text]."""
        return {
            "document": self.number,
            "id": self.gold.id,
            "text": self.gold.text,
            "gold": _rows(self.gold.entities),
            "a": _rows(self.a.entities),
            "b": _rows(self.b.entities),
            "ungrounded_a": [[m.label, m.text] for m in self.a.ungrounded],
            "ungrounded_b": [[m.label, m.text] for m in self.b.ungrounded],
            "errors_a": self.errors_a,
            "errors_b": self.errors_b,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What comparing found: `metrics` by measure, and the documents where A and B differ, in order."""

    documents: int
    metrics: Mapping[Metric, Verdicts]
    differing: tuple[Differing, ...]
    seed: int
    resamples: int
    shuffles: int

    def to_json(self) -> dict[str, object]:
        """All of it, ready for `json.dumps`; nothing is rounded."""
        return {
            "documents": self.documents,
            "metrics": {measure: verdicts.to_json() for measure, verdicts in self.metrics.items()},
            "differing": [document.to_json() for document in self.differing],
            "seed": self.seed,
            "resamples": self.resamples,
            "shuffles": self.shuffles,
        }


def compare(
    gold: Sequence[Document],
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    shuffles: int = SHUFFLES,
) -> Comparison:
    """Compares two predictions of the same documents, pair by pair, by F1 of `text`, `span` and `partial`.

    Paired bootstrap (Efron & Tibshirani 1993; for language Koehn 2004): every resample draws the same documents for A and
    B; `p_bootstrap` is twice the share of resamples in which the difference is not on the side where it is. Approximate
    randomization (Noreen 1989; Yeh 2000): were A and B alike, their predictions of a document could be exchanged;
    `p_randomization` is the share of random exchanges with a difference at least as large, in either direction.

    Raises InputError as `evaluate` does, and for fewer than one resample or shuffle.
    """
    if seed < 0 or resamples < 1 or shuffles < 1:
        raise InputError(f"seed is {seed}, resamples {resamples}, shuffles {shuffles}; give 0, 1 and 1 or more")
    check_pairs(gold, a)
    check_pairs(gold, b)
    labels = _labels(a) | _labels(b)
    left, right = (columns(gold, side, labels=labels) for side in (a, b))
    unit_D, size = units(len(gold), len(left.labels), seed=seed)
    sides = [_tables(found, unit_D, size) for found in (left, right)]
    # Drawn in an order of the two that does not depend on which is called A: exchanging them turns the signs, no more.
    turned = _summary(sides[1]) < _summary(sides[0])
    first, second = sides[::-1] if turned else sides
    drawn = resampled_f1(first + second, seed=seed, resamples=resamples) if len(gold) > 1 else []
    p_values = _randomized(first, second, seed=seed, shuffles=shuffles) if size else []
    metrics: dict[Metric, Verdicts] = {}
    for number, measure in enumerate(METRICS):
        moved = None
        if drawn:
            before, after = (_joined(drawn[number + len(METRICS) * side]) for side in (turned, not turned))
            moved = after - before
        totals = [side[number].sum(axis=0) for side in sides]
        metrics[measure] = _verdicts(left.labels, totals, moved, p_values[number] if p_values else None)
    return Comparison(
        documents=len(gold),
        metrics=metrics,
        differing=tuple(_differing(gold, a, b)),
        seed=seed,
        resamples=resamples,
        shuffles=shuffles,
    )


def _labels(predicted: Sequence[Prediction]) -> set[str]:
    return {item.label for p in predicted for items in (p.entities, p.ungrounded) for item in items}


def _tables(found: Columns, unit_D: Integers, size: int) -> list[Integers]:
    by_measure = count(found, unit_D, size).by_measure
    return [by_measure[measure] for measure in METRICS]


def _summary(tables: list[Integers]) -> list[int]:
    return [number for table in tables for number in table.sum(axis=0).ravel().tolist()]


def _joined(found: ResampledF1) -> Floats:
    """The labels, micro and macro side by side: shape (R, L + 2)."""
    return np.concatenate([found.labels_RL, found.micro_R[:, None], found.macro_R[:, None]], axis=1)


def _verdicts(
    labels: Sequence[str], totals: Sequence[Integers], moved: Floats | None, p_values: Floats | None
) -> Verdicts:
    """`totals` of both sides have the shape (L + 1, 5); `moved` (R, L + 2) and `p_values` (L + 2): micro, then macro last."""
    support = totals[0][:, :4].sum(axis=-1)
    values = [_f1s(gains(total)[None], support)[0] for total in totals]
    found = []
    for number in range(len(labels) + 2):
        a, b = float(values[0][number]), float(values[1][number])
        column = None if moved is None else moved[:, number]
        known = None if column is None else column[~np.isnan(column)]
        found.append(
            Difference(
                a,
                b,
                b - a,
                None if known is None else interval(known),
                _sign_p(known),
                None if p_values is None else float(p_values[number]),
                int(support[min(number, len(labels))]),
            )
        )
    return Verdicts(found[-2], found[-1], dict(zip(labels, found, strict=False)))


def _sign_p(moved_R: Floats | None) -> float | None:
    if moved_R is None or not len(moved_R):
        return None
    fewer = min(int((moved_R <= 0).sum()), int((moved_R >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(moved_R) + 1))


def _f1s(gained: NDArray[Any], support: Integers) -> Floats:
    """From (…, L + 1, 2) to the F1 of each label, micro and macro: (…, L + 2)."""
    values = f1(gained[..., 0].astype(np.float64), gained[..., 1].astype(np.float64))
    there = support[:-1] > 0
    macro = values[..., :-1][..., there].mean(axis=-1) if there.any() else np.zeros(values.shape[:-1])
    return np.concatenate([values, macro[..., None]], axis=-1)


def _randomized(left: list[Integers], right: list[Integers], *, seed: int, shuffles: int) -> list[Floats]:
    """By measure, the p-value of each label, micro and macro under exchange of A's and B's units."""
    shape = (len(left), left[0].shape[1], 2)
    a_UC, b_UC = (
        np.stack([gains(table) for table in side], axis=1).reshape(len(side[0]), -1) for side in (left, right)
    )
    supports = [table[..., :4].sum(axis=(0, 2)) for table in left]
    total_a, total_b = a_UC.sum(axis=0), b_UC.sum(axis=0)
    # Units of which both say the same take no part; the others in an order of their own, so that none is needed.
    change_VC = b_UC - a_UC
    change_VC = change_VC[change_VC.any(axis=1)]
    small = np.abs(change_VC).sum() < 2**24
    change: NDArray[Any] = change_VC[np.lexsort(change_VC.T)].astype(np.float32 if small else np.float64)

    def differences(first: NDArray[Any], second: NDArray[Any]) -> list[Floats]:
        pairs = zip(first.reshape(-1, *shape).swapaxes(0, 1), second.reshape(-1, *shape).swapaxes(0, 1), strict=True)
        return [_f1s(y, s) - _f1s(x, s) for (x, y), s in zip(pairs, supports, strict=True)]

    observed = [np.abs(found[0]) for found in differences(total_a[None], total_b[None])]
    as_large = [np.zeros(len(found), dtype=np.int64) for found in observed]
    random = np.random.default_rng(seed)
    size = len(change)
    step = max(1, _CHUNK // max(size, 1))
    for begin in range(0, shuffles, step):
        draws = min(step, shuffles - begin)
        coins = np.frombuffer(random.bytes(draws * -(-size // 8)), dtype=np.uint8).reshape(draws, -1)
        swapped = np.unpackbits(coins, axis=1)[:, :size].astype(change.dtype) @ change
        for number, found in enumerate(differences(total_a + swapped, total_b - swapped)):
            # What is equal but for rounding is as large.
            as_large[number] += (np.abs(found) >= observed[number] - 1e-9).sum(axis=0)
    return [(counted + 1) / (shuffles + 1) for counted in as_large]


def _differing(gold: Sequence[Document], a: Sequence[Prediction], b: Sequence[Prediction]) -> list[Differing]:
    found = []
    for number, (document, before, after) in enumerate(zip(gold, a, b, strict=True), 1):
        if before.entities == after.entities and before.ungrounded == after.ungrounded:
            continue
        keys = {(e.label, (e.start, e.end)) for e in document.entities}
        claims = [predicted_keys(side, measure="span") for side in (before, after)]
        if claims[0] != claims[1]:
            found.append(Differing(number, document, before, after, *(len(keys ^ claim) for claim in claims)))
    return found


def _rows(entities: Sequence[Entity]) -> list[list[object]]:
    return [[e.label, e.start, e.end, e.text] for e in entities]
