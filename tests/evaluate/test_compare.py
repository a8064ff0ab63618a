"""Comparison: what is certain comes out certain, p-values are as rare as they say, and order does not matter."""

from __future__ import annotations

import json
from io import StringIO
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from nertune.errors import InputError
from nertune.evaluate import evaluate
from nertune.evaluate.compare import Comparison, compare
from nertune.evaluate.compare_table import difference_table, documents_that_differ
from nertune.schema import Document, Entity, Mention, Prediction

GOLD = Document.of("甲乙丙", [("A", 0, 1), ("B", 2, 3)])


def said(*spans: tuple[str, int, int], ungrounded: tuple[Mention, ...] = ()) -> Prediction:
    return Prediction(GOLD.text, Document.of(GOLD.text, spans).entities, ungrounded)


RIGHT, HALF, NOTHING = said(("A", 0, 1), ("B", 2, 3)), said(("A", 0, 1)), said()


def of(a: list[Prediction], b: list[Prediction], **options: int) -> Comparison:
    return compare([GOLD] * len(a), a, b, **options)


def test_the_f1_values_are_those_of_evaluation() -> None:
    a, b = [RIGHT, HALF, NOTHING, HALF], [HALF, RIGHT, RIGHT, said(("C", 0, 1))]
    found = of(a, b, shuffles=50)
    for measure, verdicts in found.metrics.items():
        scores = [evaluate([GOLD] * 4, side, resamples=0).metrics[measure] for side in (a, b)]
        assert (verdicts.micro.a, verdicts.micro.b) == pytest.approx([s.micro.f1 for s in scores])
        assert (verdicts.macro.a, verdicts.macro.b) == pytest.approx([s.macro.f1 for s in scores])
        assert list(verdicts.labels) == ["A", "B", "C"]
        assert verdicts.labels["B"].difference == pytest.approx(scores[1].labels["B"].f1 - scores[0].labels["B"].f1)
        assert verdicts.labels["B"].support == 4
        assert verdicts.micro.support == verdicts.macro.support == 8


def test_two_that_say_the_same_do_not_differ() -> None:
    found = of([HALF] * 20, [HALF] * 20)
    assert found.metrics["span"].micro[2:6] == (0.0, (0.0, 0.0), 1.0, 1.0)
    assert found.differing == ()


def test_what_is_always_better_is_significantly_better() -> None:
    found = of([HALF] * 30, [RIGHT] * 30)
    micro = found.metrics["span"].micro
    assert micro.difference == pytest.approx(1 / 3)
    assert micro.ci95 == pytest.approx((1 / 3, 1 / 3))
    assert micro.p_bootstrap == pytest.approx(2 / 1_001)
    assert micro.p_randomization == pytest.approx(1 / 10_001)
    assert found.metrics["span"].labels["A"].p_randomization == 1.0


def test_randomization_agrees_with_all_exchanges_there_are() -> None:
    a, b = [HALF, HALF, NOTHING, HALF, RIGHT], [RIGHT, RIGHT, HALF, NOTHING, RIGHT]

    def difference(first: list[Prediction], second: list[Prediction]) -> float:
        one, two = (evaluate([GOLD] * 5, side, resamples=0).metrics["span"].micro.f1 for side in (first, second))
        return abs(one - two)

    observed = difference(a, b)
    as_large = 0
    for swaps in product((False, True), repeat=5):
        first, second = zip(*((y, x) if s else (x, y) for s, x, y in zip(swaps, a, b, strict=True)), strict=True)
        as_large += difference(list(first), list(second)) >= observed - 1e-12
    assert of(a, b).metrics["span"].micro.p_randomization == pytest.approx(as_large / 32, abs=0.02)


def test_p_values_below_a_twentieth_come_a_twentieth_of_the_time_by_chance() -> None:
    random = np.random.default_rng(5)
    small = np.zeros(2)
    for seed in range(200):
        a, b = ([RIGHT if hit else HALF for hit in random.random(60) < 0.6] for _ in range(2))
        micro = of(a, b, seed=seed, resamples=300, shuffles=300).metrics["span"].micro
        assert micro.p_bootstrap is not None
        assert micro.p_randomization is not None
        small += [micro.p_bootstrap < 0.05, micro.p_randomization < 0.05]
    # 10 of 200 by expectation, and a standard deviation of 3.
    assert (small <= 20).all()
    assert (small >= 1).all()


def test_one_seed_one_answer_whatever_the_order_of_documents() -> None:
    a, b = [RIGHT, HALF, NOTHING] * 5, [HALF, RIGHT, RIGHT] * 5
    assert of(a, b).metrics == of(a[::-1], b[::-1]).metrics
    assert of(a, b, seed=1).metrics != of(a, b).metrics


def test_exchanging_a_and_b_turns_the_signs() -> None:
    a, b = [RIGHT, HALF, NOTHING] * 5, [HALF, RIGHT, RIGHT] * 5
    there, back = of(a, b).metrics["text"].micro, of(b, a).metrics["text"].micro
    assert there.ci95 is not None
    assert back.ci95 is not None
    assert back.difference == -there.difference
    assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))
    assert (back.p_bootstrap, back.p_randomization) == (there.p_bootstrap, there.p_randomization)


def test_documents_that_differ_are_listed_with_their_errors() -> None:
    lost = said(("A", 0, 1), ungrounded=(Mention("B", "丁"),))
    found = of([HALF, RIGHT, HALF], [HALF, lost, RIGHT])
    assert [(d.number, d.errors_a, d.errors_b) for d in found.differing] == [(2, 0, 2), (3, 1, 0)]
    row = found.differing[0].to_json()
    assert row["b"] == [["A", 0, 1, "甲"]]
    assert row["ungrounded_b"] == [["B", "丁"]]
    shown = documents_that_differ(found, show=5).plain
    assert shown.startswith("2 of 3 documents differ: B has fewer errors in 1, A in 1")
    assert "✗ 丁 B (not in the text)" in shown


def test_other_scores_alone_are_no_difference() -> None:
    scored = Prediction(GOLD.text, (Entity("A", 0, 1, "甲", 0.3),))
    assert of([HALF], [scored]).differing == ()


def test_the_json_form_is_complete_and_json() -> None:
    value = json.loads(json.dumps(of([HALF] * 3, [RIGHT, HALF, NOTHING]).to_json()))
    assert list(value) == ["documents", "metrics", "differing", "seed", "resamples", "shuffles"]
    fields = ["a", "b", "difference", "ci95", "p_bootstrap", "p_randomization", "support"]
    for verdicts in value["metrics"].values():
        assert list(verdicts["micro"]) == list(verdicts["labels"]["A"]) == fields


def test_tables_show_intervals_and_p_values() -> None:
    out = StringIO()
    Console(file=out, width=200).print(
        difference_table(of([HALF] * 30, [RIGHT] * 30), measure="span", names=("x[1]", "y"))
    )
    shown = out.getvalue()
    assert "A: x[1], B: y; measure: span" in shown
    assert "+0.3333 to +0.3333" in shown
    assert "<0.001" in shown


def test_no_documents_and_wrong_options() -> None:
    assert compare([], [], []).metrics["span"].micro.p_randomization is None
    with pytest.raises(InputError, match="shuffles 0"):
        of([HALF], [HALF], shuffles=0)
    with pytest.raises(InputError, match="document 2"):
        compare([GOLD] * 2, [HALF] * 2, [HALF])
