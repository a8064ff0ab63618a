"""The SemEval family by hand, against every matching there is, and in any order."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.evaluate import Evaluation, evaluate
from nertune.evaluate.evaluation import Outcomes
from nertune.evaluate.semeval import SCHEMES
from nertune.schema import Document, Entity, Mention, Prediction

TEXT = "甲乙丙丁戊己庚辛壬癸"
Span = tuple[str, int, int]
SPANS = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 6), st.integers(1, 4)).map(lambda s: (s[0], s[1], s[1] + s[2])),
    max_size=5,
)


def scored(gold: list[Span], predicted: list[Span], *ungrounded: tuple[str, str]) -> Evaluation:
    entities = tuple(Entity(label, start, end, TEXT[start:end]) for label, start, end in predicted)
    lost = tuple(Mention(label, text) for label, text in ungrounded)
    return evaluate([Document.of(TEXT, gold)], [Prediction(TEXT, entities, lost)], resamples=0)


def micro(result: Evaluation) -> dict[str, tuple[int, ...]]:
    """Correct, incorrect, partial, missed, spurious by scheme."""
    return {scheme: tuple(result.semeval[scheme].micro.outcomes or ()) for scheme in SCHEMES}


@pytest.mark.parametrize(
    ("gold", "predicted", "strict", "exact", "partial", "kind"),
    [
        ([("A", 0, 2)], [("A", 0, 2)], (1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 0, 0, 0)),
        ([("A", 0, 2)], [("B", 0, 2)], (0, 1, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 0, 0, 0)),
        ([("A", 0, 2)], [("A", 0, 3)], (0, 1, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (1, 0, 0, 0, 0)),
        ([("A", 0, 2)], [("B", 1, 3)], (0, 1, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 1, 0, 0, 0)),
        ([("A", 0, 2)], [("A", 2, 4)], (0, 0, 0, 1, 1), (0, 0, 0, 1, 1), (0, 0, 0, 1, 1), (0, 0, 0, 1, 1)),
        ([("A", 0, 2)], [], (0, 0, 0, 1, 0), (0, 0, 0, 1, 0), (0, 0, 0, 1, 0), (0, 0, 0, 1, 0)),
        ([], [("A", 0, 2)], (0, 0, 0, 0, 1), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1)),
        ([], [], (0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ],
)
def test_each_kind_of_pair(
    gold: list[Span], predicted: list[Span], strict: object, exact: object, partial: object, kind: object
) -> None:
    assert micro(scored(gold, predicted)) == {"strict": strict, "exact": exact, "partial": partial, "type": kind}


def test_the_example_in_the_documentation() -> None:
    """docs/evaluation.md: every row of its first table."""
    text = "张三到北京找张三"
    gold = Document.of(text, [("name", 0, 2), ("address", 3, 5), ("name", 6, 8)])
    spans = Document.of(text, [("name", 0, 2), ("address", 2, 5), ("organization", 6, 8)])
    result = evaluate([gold], [Prediction(text, spans.entities, (Mention("name", "李四"),))], resamples=0)
    assert micro(result) == {
        "strict": (1, 2, 0, 0, 1),
        "exact": (2, 1, 0, 0, 1),
        "partial": (2, 0, 1, 0, 1),
        "type": (2, 1, 0, 0, 1),
    }
    values = [result.metrics[m].micro for m in ("text", "span")] + [result.semeval[s].micro for s in SCHEMES]
    assert [f"{v.precision:.4f} {v.recall:.4f} {v.f1:.4f}" for v in values] == [
        "0.2500 0.5000 0.3333",
        "0.2500 0.3333 0.2857",
        "0.2500 0.3333 0.2857",
        "0.5000 0.6667 0.5714",
        "0.6250 0.8333 0.7143",
        "0.5000 0.6667 0.5714",
    ]
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for value in values:
        assert f"| {value.precision:.4f} | {value.recall:.4f} | {value.f1:.4f} |" in page


def test_a_label_is_matched_among_its_own_mentions() -> None:
    labels = scored([("A", 0, 2), ("B", 4, 6)], [("B", 0, 2), ("B", 4, 7)]).semeval["partial"].labels
    assert labels["A"].outcomes == Outcomes(0, 0, 0, 1, 0)
    assert labels["B"].outcomes == Outcomes(0, 0, 1, 0, 1)
    assert (labels["A"].support, labels["B"].support) == (1, 1)


def test_what_stands_nowhere_is_spurious_and_a_repetition_is_not() -> None:
    found = scored([("A", 0, 2)], [("A", 0, 2)], ("A", "甲乙"), ("B", "无"), ("B", "无"))
    assert set(micro(found).values()) == {(1, 0, 0, 0, 1)}
    assert found.semeval["type"].labels["B"].outcomes == Outcomes(0, 0, 0, 0, 1)


def test_duplicates_count_once() -> None:
    assert set(micro(scored([("A", 0, 2)] * 2, [("A", 0, 2)] * 3)).values()) == {(1, 0, 0, 0, 0)}


def test_one_prediction_over_two_gold_mentions_answers_one() -> None:
    assert micro(scored([("A", 0, 2), ("A", 3, 5)], [("A", 0, 5)]))["type"] == (1, 0, 0, 1, 0)


def best(gold: list[Span], predicted: list[Span], scheme: str) -> tuple[int, int]:
    """The most correct, and with so many the most pairs, by trying every matching."""
    found = (0, 0)
    for order in set(permutations([*predicted, *[None] * len(gold)], len(gold))):
        pairs = [(a, b) for a, b in zip(gold, order, strict=True) if b and a[1] < b[2] and b[1] < a[2]]
        place, label = [a[1:] == b[1:] for a, b in pairs], [a[0] == b[0] for a, b in pairs]
        right = {"type": label, "strict": [a == b for a, b in pairs]}.get(scheme, place)
        found = max(found, (sum(right), len(pairs)))
    return found


@settings(max_examples=100, deadline=None)
@given(SPANS, SPANS, st.randoms(use_true_random=False))
def test_no_matching_is_better_and_order_does_not_matter(
    gold: list[Span], predicted: list[Span], random: object
) -> None:
    gold, predicted = list(set(gold)), list(set(predicted))
    result = scored(gold, predicted)
    for scheme, scores in result.semeval.items():
        for label, score in [(None, scores.micro), *scores.labels.items()]:
            wanted = [g for g in gold if label in (None, g[0])]
            claimed = [p for p in predicted if label in (None, p[0])]
            correct, pairs = best(wanted, claimed, scheme)
            wrong = (0, pairs - correct) if scheme == "partial" else (pairs - correct, 0)
            assert score.outcomes == (correct, *wrong, len(wanted) - pairs, len(claimed) - pairs)
    random.shuffle(gold)
    random.shuffle(predicted)
    assert scored(gold, predicted) == result


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(SPANS, SPANS), max_size=6))
def test_documents_are_matched_apart_and_added_up(pairs: list[tuple[list[Span], list[Span]]]) -> None:
    def prediction(spans: list[Span]) -> Prediction:
        return Prediction(TEXT, Document.of(TEXT, spans).entities)

    result = evaluate([Document.of(TEXT, g) for g, _ in pairs], [prediction(p) for _, p in pairs], resamples=0)
    alone = [micro(scored(g, p)) for g, p in pairs]
    for scheme, counts in micro(result).items():
        assert counts == tuple(map(sum, zip(*(one[scheme] for one in alone), strict=True))) or not pairs
    # Identical mentions are what both strict and span call right.
    strict, span = result.semeval["strict"].micro, result.metrics["span"].micro
    assert (strict.precision, strict.recall, strict.f1) == (span.precision, span.recall, span.f1)


def test_a_thousand_mentions_under_one_that_covers_all() -> None:
    text = "甲乙丙" * 500
    gold = Document.of(text, [("A", 0, 1_500), *(("B", n, n + 2) for n in range(0, 1_500, 3))])
    predicted = Document.of(text, [("A", 0, 1_499), *(("B", n, n + 2 - n % 2) for n in range(0, 1_500, 3))])
    result = evaluate([gold], [Prediction(text, predicted.entities)], resamples=0)
    assert micro(result)["partial"] == (250, 0, 251, 0, 0)
