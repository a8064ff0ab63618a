"""The interval: fixed by its seed, as wide as theory says, and covering the truth as often as it claims."""

from __future__ import annotations

import time

import numpy as np
import pytest

from nertune.evaluate.bootstrap import UNITS, distinct_rows, f1, interval, intervals, resampled, units

RIGHT, WRONG = (1, 1, 1), (0, 1, 1)


def f1_interval(rows: list[tuple[int, int, int]], *, seed: int, resamples: int = 1_000) -> tuple[float, float]:
    """Of the micro F1 of documents with (hits, predicted, gold)."""
    totals = resampled(np.array(rows), seed=seed, resamples=resamples)
    found = interval(f1(2 * totals[:, 0], totals[:, 1] + totals[:, 2]))
    assert found is not None
    return found


def test_nothing_known_no_interval() -> None:
    assert interval(np.array([])) is None
    assert interval(np.array([np.nan, np.nan])) is None
    assert interval(np.array([0.5, np.nan])) == (0.5, 0.5)


def test_distinct_rows_come_sorted_with_their_number() -> None:
    random = np.random.default_rng(0)
    rows = random.integers(0, 300, size=(500, 2)) // 100 * 100
    found, copies = distinct_rows(rows)
    wanted, of_each = np.unique(rows, axis=0, return_counts=True)
    assert (found == wanted).all()
    assert (copies == of_each).all()


def test_very_many_documents_are_resampled_in_groups_of_equal_size() -> None:
    unit, size = units(3 * UNITS + 1, 10, seed=0)
    assert size == UNITS
    assert set(np.bincount(unit)) == {3, 4}
    assert units(50_000, 1_999, seed=0)[1] == 2_000
    assert units(5, 10, seed=0)[0].tolist() == [0, 1, 2, 3, 4]


def test_groups_give_an_interval_as_wide_as_single_documents() -> None:
    right = np.random.default_rng(3).random(200_000) < 0.8
    rows = np.stack([right, np.ones_like(right), np.ones_like(right)], axis=1).astype(np.int64)
    unit, size = units(len(rows), 1, seed=0)
    grouped = np.stack([np.bincount(unit, weights=column, minlength=size) for column in rows.T], axis=1)
    low, high = f1_interval([tuple(row) for row in grouped.astype(np.int64)], seed=0)
    assert high - low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / len(rows)) ** 0.5, rel=0.1)


def test_one_seed_one_interval_whatever_the_order() -> None:
    rows = [RIGHT] * 30 + [WRONG] * 20 + [(2, 3, 4)] * 5
    assert f1_interval(rows, seed=3) == f1_interval(rows, seed=3) == f1_interval(rows[::-1], seed=3)
    assert f1_interval(rows, seed=3) != f1_interval(rows, seed=4)


@pytest.mark.parametrize(("row", "value"), [(RIGHT, 1.0), (WRONG, 0.0), ((0, 0, 0), 0.0), ((1, 2, 2), 0.5)])
def test_equal_documents_leave_no_doubt(row: tuple[int, int, int], value: float) -> None:
    assert f1_interval([row] * 7, seed=0) == (value, value)


def test_width_is_that_of_a_binomial_share() -> None:
    # One gold and one predicted entity a document: F1 is the share of documents that are right.
    interval = f1_interval([RIGHT] * 800 + [WRONG] * 200, seed=0, resamples=10_000)
    assert interval is not None
    half = 1.96 * (0.8 * 0.2 / 1000) ** 0.5
    assert interval == pytest.approx((0.8 - half, 0.8 + half), abs=0.002)


def test_agrees_with_drawing_documents_one_by_one() -> None:
    rows = [(0, 0, 2), (3, 4, 5), (1, 3, 1), (2, 2, 2), (0, 1, 0), (1, 1, 4)] * 5
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(4_000):
        hits, predicted, gold = (sum(column) for column in zip(*random.choice(rows, size=len(rows)), strict=True))
        drawn.append(2 * hits / (predicted + gold))
    interval = f1_interval(rows, seed=0, resamples=10_000)
    assert interval == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.015)


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        right = int(random.binomial(200, 0.8))
        interval = f1_interval([RIGHT] * right + [WRONG] * (200 - right), seed=trial, resamples=400)
        assert interval is not None
        covered += interval[0] <= 0.8 <= interval[1]
    # 95% of 300 is 285; the standard deviation of the count is below 4.
    assert 270 <= covered <= 297


def test_ten_thousand_different_documents_are_quick() -> None:
    random = np.random.default_rng(0)
    rows = [(int(h), int(h + p), int(h + g)) for h, p, g in random.integers(0, 6, size=(10_000, 3))]
    begun = time.process_time()
    f1_interval(rows, seed=0)
    assert time.process_time() - begun < 5


def test_intervals_of_many_columns_are_numpys_percentiles_to_the_digit() -> None:
    draw = np.random.default_rng(7)
    values = draw.random((101, 40))
    values[draw.random(values.shape) < 0.3] = np.nan
    values[:, 3] = np.nan
    for column, found in enumerate(intervals(values)):
        known = values[~np.isnan(values[:, column]), column]
        assert found == (tuple(np.percentile(known, [2.5, 97.5]).tolist()) if len(known) else None)
