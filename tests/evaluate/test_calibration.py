"""Calibration error, temperature and thresholds: against hands, independent formulas and brute force."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from nertune.confidence import Calibration, settle
from nertune.errors import InputError
from nertune.evaluate import calibrate, evaluate
from nertune.evaluate.calibration import (
    Sweep,
    calibration_error,
    fit_temperature,
    judged,
    negative_log_likelihood,
    reliability,
    rescaled,
    sweeps,
)
from nertune.evaluate.reliability import draw_reliability, label_table, quality_line, threshold_table
from nertune.schema import Document, Entity, Mention, Prediction


def drawn(true_temperature: float, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose entities are right as often as sigmoid(logit / true_temperature) says."""
    random = np.random.default_rng(0)
    logit = random.normal(1.5, 2.0, count)
    right = random.random(count) < 1 / (1 + np.exp(-logit / true_temperature))
    return 1 / (1 + np.exp(-logit)), right


def arrays(scores: list[float], right: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(scores, dtype=np.float64), np.array(right, dtype=np.bool_)


def test_the_calibration_error_by_hand() -> None:
    """Four bins: {0.1, 0.2} one right, {0.3} right, none, {0.9, 1.0} one right."""
    scores, right = arrays([0.1, 0.2, 0.3, 0.9, 1.0], [0, 1, 1, 1, 0])
    expected = (2 * abs(0.15 - 0.5) + abs(0.3 - 1) + 2 * abs(0.95 - 0.5)) / 5
    assert calibration_error(scores, right, bins=4) == pytest.approx(expected)
    assert [(b.size, pytest.approx(b.right)) for b in reliability(scores, right, bins=4)] == [
        (2, 0.5),
        (1, 1.0),
        (0, 0.0),
        (2, 0.5),
    ]


def test_bins_hold_their_upper_edge() -> None:
    scores, right = arrays([0.0, 0.5, 0.5000001, 1.0], [1, 1, 1, 1])
    assert [b.size for b in reliability(scores, right, bins=2)] == [2, 2]


def test_nothing_at_all_is_no_error() -> None:
    nothing = arrays([], [])
    assert (calibration_error(*nothing), negative_log_likelihood(*nothing), fit_temperature(*nothing)) == (0, 0, 1)


def test_the_likelihood_by_hand() -> None:
    assert negative_log_likelihood(*arrays([0.8, 0.4], [1, 0])) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert negative_log_likelihood(*arrays([0.0, 1.0], [1, 0])) == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_scores_were_made_with_is_found(temperature: float) -> None:
    scores, right = drawn(temperature)
    found = fit_temperature(scores, right)
    assert found == pytest.approx(temperature, rel=0.05)
    assert calibration_error(rescaled(scores, found), right) < 0.01
    assert (calibration_error(scores, right) < 0.01) == (temperature == 1)


def test_the_temperature_is_the_likeliest_of_a_fine_grid() -> None:
    scores, right = drawn(1.7, 300)
    found = fit_temperature(scores, right)
    grid = np.exp(np.linspace(math.log(0.05), math.log(20), 4001))
    losses = [negative_log_likelihood(rescaled(scores, T), right) for T in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)
    assert negative_log_likelihood(rescaled(scores, found), right) <= min(losses) + 1e-12


def test_temperatures_end_at_their_bounds() -> None:
    assert fit_temperature(*arrays([0.9, 0.8, 0.1], [1, 1, 0])) == pytest.approx(0.05)
    assert fit_temperature(*arrays([0.9, 0.8, 0.1], [0, 0, 1])) == pytest.approx(20)


@given(st.floats(0, 1), st.floats(0.05, 20))
def test_what_is_fitted_is_what_is_applied(score: float, temperature: float) -> None:
    fitted = rescaled(np.array([score]), temperature)[0]
    assert Calibration(temperature, 0, {}).score(score) == pytest.approx(fitted, rel=1e-9)


TEXT = "甲乙丙丁"
LABELS = ("n", "p")


@st.composite
def scored(draw: st.DrawFn) -> tuple[Document, Prediction]:
    """A document and a prediction, with repeated texts, entities without scores and ungrounded repetitions."""
    text = draw(st.sampled_from(["甲乙甲乙", TEXT]))
    spans = st.tuples(st.sampled_from(LABELS), st.integers(0, 3), st.integers(1, 4)).filter(lambda s: s[1] < s[2])
    gold = draw(st.lists(spans, max_size=4, unique=True))
    found = draw(st.lists(spans, max_size=5, unique=True))
    score = st.none() | st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
    entities = [Entity(label, s, e, text[s:e], draw(score)) for label, s, e in found]
    ungrounded = draw(
        st.lists(st.builds(Mention, st.sampled_from(LABELS), st.sampled_from(["甲", "乙", "戊"])), max_size=3)
    )
    return Document.of(text, gold), Prediction(text, tuple(entities), tuple(ungrounded))


@settings(max_examples=150, deadline=None)
@given(st.lists(scored(), min_size=1, max_size=4), st.sampled_from(["span", "text"]))
def test_thresholds_equal_brute_force(pairs: list[tuple[Document, Prediction]], measure: str) -> None:
    """The best threshold of all that could make a difference, each tried by filtering and evaluating."""
    gold, predicted = [document for document, _ in pairs], [prediction for _, prediction in pairs]
    known = {entity.score for prediction in predicted for entity in prediction.entities} - {None}
    at = {
        least: evaluate(gold, [settle(p, None, least) for p in predicted], resamples=0).metrics[measure]
        for least in sorted(known | {0.0})
    }
    by_label = sweeps(gold, predicted, measure=measure)
    together = sum(by_label.values(), Sweep())
    # A score that changes no count is no threshold.
    f1 = {least: at[least].micro.f1 for least in {0.0, *(score for score, _, _ in together.changes)}}
    assert together.best() == min(least for least in f1 if f1[least] == max(f1.values()))
    for label, sweep in by_label.items():
        labels = {least: at[least].labels.get(label) for least in {0.0, *(score for score, _, _ in sweep.changes)}}
        own = {least: score.f1 if score else 0.0 for least, score in labels.items()}
        assert sweep.best() == min(least for least in own if own[least] == max(own.values()))


def corpus(count: int = 60) -> tuple[list[Document], list[Prediction]]:
    """`n` is right where it scores 0.9 and wrong where it scores 0.6, a third of the time; of `p` there are too few."""
    gold, predicted = [], []
    for number in range(count):
        right = number % 3 > 0
        entities = [Entity("n", 0, 1, "甲", 0.9 if right else 0.6)]
        if number < 5:
            entities.append(Entity("p", 1, 2, "乙", 0.7))
        gold.append(Document.of(TEXT, ([("n", 0, 1)] if right else []) + ([("p", 1, 2)] if number < 5 else [])))
        predicted.append(Prediction(TEXT, tuple(entities)))
    return gold, predicted


def test_a_calibration_end_to_end() -> None:
    gold, predicted = corpus()
    report = calibrate(gold, predicted, constrained=True)
    assert (report.documents, report.scored, report.right, report.unscored) == (60, 65, 45, 0)
    fitted = report.calibration
    assert fitted.constrained
    assert report.own == {"n"}
    assert fitted.thresholds == {"n": fitted.score(0.9)}
    assert fitted.threshold == fitted.score(0.7)
    assert report.everything.labels["n"].precision == pytest.approx(2 / 3)
    assert report.at_thresholds.labels["n"].f1 == 1
    assert report.at_thresholds.labels["p"].f1 == 1
    assert report.calibrated.nll <= report.raw.nll
    assert list(report.micro) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert report.micro[0.0] == report.everything


def test_the_report_as_json_holds_the_calibration() -> None:
    report = calibrate(*corpus())
    value = report.to_json()
    assert value["thresholds"] == {"n": report.calibration.thresholds["n"]}
    assert value["entities"] == {"scored": 65, "right": 45, "unscored": 0}
    assert value["before"]["ece"] == report.raw.ece
    assert len(value["after"]["bins"]) == 15
    assert [row["min_score"] for row in value["micro"]][-2:] == [report.calibration.threshold, "calibrated"]
    assert value["labels"]["p"]["own"] is False


def test_right_is_label_and_place_whatever_the_measure() -> None:
    gold = [Document.of("桂桂", [("n", 0, 1)])]
    predicted = [
        Prediction("桂桂", (Entity("n", 0, 1, "桂", 0.9), Entity("n", 1, 2, "桂", 0.8), Entity("p", 0, 1, "桂")))
    ]
    scores, right = judged(gold, predicted)
    assert (scores.tolist(), right.tolist()) == ([0.9, 0.8], [True, False])
    for measure in ("span", "text"):
        report = calibrate(gold, predicted, measure=measure)
        assert (report.right, report.unscored) == (1, 1)


def test_nothing_to_calibrate_is_said() -> None:
    with pytest.raises(InputError, match="1 entities were predicted in 1 documents and none has a score"):
        calibrate([Document("桂")], [Prediction("桂", (Entity("n", 0, 1, "桂"),))])


def test_an_unknown_measure_is_said() -> None:
    with pytest.raises(InputError, match="measure 'spam'"):
        calibrate(*corpus(), measure="spam")


def test_tables_and_picture(tmp_path) -> None:
    report = calibrate(*corpus())
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(threshold_table(report))
    console.print(label_table(report))
    text = console.export_text()
    assert "…" not in text
    for part in ("--min-score", "0.9", "calibrated", "the best for all", f"{report.calibration.threshold:.4f}*"):
        assert part in text
    assert "Temperature" in quality_line(report)
    picture = tmp_path / "reliability.png"
    draw_reliability(report, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"reliability.png"}
