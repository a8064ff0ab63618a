"""`evaluate` against hand-computed cases and against an independent brute-force computation."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nertune.evaluate
from nertune.errors import InputError
from nertune.evaluate import Evaluation, Scores, evaluate
from nertune.schema import Document, Entity, Mention, ParseOutcome, Prediction

Spans = list[tuple[str, int, int]]


def found(text: str, spans: Spans, *ungrounded: tuple[str, str]) -> Prediction:
    entities = tuple(Entity(label, start, end, text[start:end]) for label, start, end in spans)
    return Prediction(text, entities, tuple(Mention(label, name) for label, name in ungrounded))


def test_exported_names_are_all() -> None:
    names = ["CalibrationReport", "ErrorReport", "Evaluation", "Scores", "analyse", "calibrate", "evaluate"]
    assert nertune.evaluate.__all__ == names
    found = {name: value for name, value in vars(nertune.evaluate).items() if not name.startswith("_")}
    public = {name for name, value in found.items() if not isinstance(value, ModuleType)} - {"annotations"}
    assert public == set(names)


def test_the_two_measures_by_hand() -> None:
    # Gold: 张三 at both places, 北京. Predicted: 张三 at the second place, 北京 wrongly labelled, an invented 李四.
    text = "张三到北京找张三"
    gold = [Document.of(text, [("name", 0, 2), ("name", 6, 8), ("address", 3, 5)])]
    result = evaluate(gold, [found(text, [("name", 6, 8), ("organization", 3, 5)], ("name", "李四"))])

    by_text, by_span = result.metrics["text"], result.metrics["span"]
    # text: gold {name 张三, address 北京}; predicted {name 张三, organization 北京, name 李四}; one hit.
    assert (by_text.micro.precision, by_text.micro.recall, by_text.micro.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert by_text.labels["name"].f1 == pytest.approx(2 / 3)
    assert by_text.macro.f1 == pytest.approx((2 / 3 + 0) / 2)  # organization is not a label of the gold
    # span: gold 3, predicted 3, one hit.
    assert (by_span.micro.precision, by_span.micro.recall, by_span.micro.f1) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert {label: s.support for label, s in by_span.labels.items()} == {"address": 1, "name": 2, "organization": 0}
    assert result.ungrounded == 1


def test_micro_and_macro_as_the_published_tables_compute_them() -> None:
    """A table as CLUENER's is published: label, P, R, F1; the macro F1 is the mean of the F1 column."""
    # Each document is one character; counts by label: (hits, spurious, missed).
    counts = {"address": (6, 4, 2), "book": (3, 0, 1), "name": (1, 0, 9)}
    gold, predicted = [], []
    for label, (hits, spurious, missed) in counts.items():
        entity = [(label, 0, 1)]
        sides: list[tuple[Spans, Spans]] = [(entity, entity)] * hits + [([], entity)] * spurious
        for gold_spans, predicted_spans in sides + [(entity, [])] * missed:
            gold.append(Document.of("字", gold_spans))
            predicted.append(found("字", predicted_spans))
    scores = evaluate(gold, predicted).metrics["text"]

    table = {n: tuple(f"{v:.4f}" for v in (s.precision, s.recall, s.f1)) for n, s in scores.labels.items()}
    assert table == {
        "address": ("0.6000", "0.7500", "0.6667"),
        "book": ("1.0000", "0.7500", "0.8571"),
        "name": ("1.0000", "0.1000", "0.1818"),
    }
    # Micro: 10 hits of 14 predicted and 22 gold.
    micro, macro = scores.micro, scores.macro
    assert [f"{v:.4f}" for v in (micro.precision, micro.recall, micro.f1)] == ["0.7143", "0.4545", "0.5556"]
    assert [f"{v:.4f}" for v in (macro.precision, macro.recall, macro.f1)] == ["0.8667", "0.5333", "0.5685"]
    # Not the F1 of the macro precision and recall, which would be 0.6603.
    assert 2 * macro.precision * macro.recall / (macro.precision + macro.recall) == pytest.approx(0.6603, abs=1e-4)


def values(scores: Scores) -> tuple[float, ...]:
    micro, macro = scores.micro, scores.macro
    return (micro.precision, micro.recall, micro.f1, macro.precision, macro.recall, macro.f1)


@pytest.mark.parametrize("measure", ["text", "span"])
@pytest.mark.parametrize(
    ("gold", "predicted", "support"),
    [([("name", 0, 1)], [], 1), ([], [("name", 0, 1)], 0), ([], [], 0)],
)
def test_nothing_over_nothing_is_zero(measure: str, gold: Spans, predicted: Spans, support: int) -> None:
    scores = evaluate([Document.of("甲乙", gold)] * 2, [found("甲乙", predicted)] * 2).metrics[measure]
    assert values(scores) == (0,) * 6
    assert scores.support == 2 * support
    assert scores.micro.ci95 == (0.0, 0.0)


def test_one_document_has_no_interval() -> None:
    """Nothing can be drawn from it but itself: an interval without width would promise what nobody knows."""
    result = evaluate([Document.of("甲乙", [("name", 0, 1)])], [found("甲乙", [("name", 0, 1)])])
    for scores in (*result.metrics.values(), *result.semeval.values()):
        assert scores.micro.f1 == 1.0
        assert scores.micro.ci95 is scores.macro.ci95 is scores.labels["name"].ci95 is None


def test_no_documents() -> None:
    result = evaluate([], [], seconds=1.0)
    assert (result.documents, result.sentences_per_second) == (0, 0.0)
    for scores in result.metrics.values():
        assert values(scores) == (0,) * 6
        assert scores.micro.ci95 is None


def test_documents_without_entities_count() -> None:
    gold = [Document.of("甲", [("name", 0, 1)]), Document("乙")]
    result = evaluate(gold, [found("甲", [("name", 0, 1)]), found("乙", [("name", 0, 1)])])
    assert result.documents == 2
    assert result.metrics["span"].micro.precision == 0.5


def test_answers_that_went_wrong_are_counted_and_scored() -> None:
    gold = [Document.of("甲", [("name", 0, 1)])] * 4
    entity = (Entity("name", 0, 1, "甲"),)
    predicted = [
        Prediction("甲", outcome=ParseOutcome.INVALID, stop="length"),
        Prediction("甲", entity, stop="length", outcome=ParseOutcome.REPAIRED),
        Prediction("甲", entity, (Mention("name", "乙"), Mention("name", "乙"))),
        Prediction("甲", entity),
    ]
    result = evaluate(gold, predicted, seconds=8.0)
    assert (result.invalid_answers, result.truncated, result.ungrounded) == (1, 2, 2)
    assert result.sentences_per_second == 0.5
    assert result.metrics["text"].micro.recall == 0.75
    assert evaluate(gold, predicted).sentences_per_second is None


def test_texts_that_differ_are_refused_where_they_first_do() -> None:
    gold = [Document("一样"), Document("甲" * 300 + "尾一" + "乙" * 300)]
    with pytest.raises(InputError) as caught:
        evaluate(gold, [found("一样", []), found("甲" * 300 + "尾二" + "乙" * 300, [])])
    message = str(caught.value)
    assert message.startswith("document 2:")
    assert "尾一" in message
    assert "尾二" in message
    assert len(message) < 400


def test_a_missing_prediction_is_refused() -> None:
    with pytest.raises(InputError, match=r"document 2: .*Gold: '乙'; predicted: nothing \(2 gold, 1 predicted\)"):
        evaluate([Document("甲"), Document("乙")], [found("甲", [])])
    with pytest.raises(InputError, match=r"document 1: .*Gold: nothing; predicted: '甲'"):
        evaluate([], [found("甲", [])])
    # A prediction lost in the middle is named, not the end of the list.
    with pytest.raises(InputError, match=r"document 2: .*Gold: '乙'; predicted: '丙'"):
        evaluate([Document("甲"), Document("乙"), Document("丙")], [found("甲", []), found("丙", [])])


@pytest.mark.parametrize("options", [{"seconds": 0.0}, {"seconds": float("nan")}, {"seed": -1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        evaluate([], [], **options)


# --- an independent computation: lists and loops, no sets of keys, no pooled counters

TEXT = "甲乙甲乙丙"
SPANS = st.tuples(st.sampled_from("AB"), st.integers(0, 3), st.integers(1, 2)).map(lambda s: (s[0], s[1], s[1] + s[2]))
NAMED = st.tuples(st.sampled_from("ABC"), st.sampled_from(["甲", "甲乙", "丁"]))
PAIRS = st.lists(st.tuples(st.lists(SPANS, max_size=4), st.lists(SPANS, max_size=4), st.lists(NAMED, max_size=3)))


def claims(spans: Spans, named: list[tuple[str, str]], *, measure: str) -> list[tuple[object, ...]]:
    """Distinct claims as a list, label first."""
    kept: list[tuple[object, ...]] = []
    surfaces = [(label, TEXT[start:end]) for label, start, end in spans]
    for claim in surfaces if measure == "text" else spans:
        if claim not in kept:
            kept.append(claim)
    for mention in named:
        if mention not in surfaces and mention not in kept:
            kept.append(mention)
    return kept


def brute(pairs: list[tuple[Spans, Spans, list[tuple[str, str]]]], measure: str, label: str | None) -> list[float]:
    hits = spurious = missed = 0
    for gold_spans, spans, named in pairs:
        wanted = [c for c in claims(gold_spans, [], measure=measure) if label in (None, c[0])]
        given_ = [c for c in claims(spans, named, measure=measure) if label in (None, c[0])]
        hits += sum(c in wanted for c in given_)
        spurious += sum(c not in wanted for c in given_)
        missed += sum(c not in given_ for c in wanted)
    precision = hits / (hits + spurious) if hits + spurious else 0.0
    recall = hits / (hits + missed) if hits + missed else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return [precision, recall, f1, hits + missed]


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_agrees_with_brute_force(pairs: list[tuple[Spans, Spans, list[tuple[str, str]]]]) -> None:
    result: Evaluation = evaluate(
        [Document.of(TEXT, gold) for gold, _, _ in pairs], [found(TEXT, spans, *named) for _, spans, named in pairs]
    )
    for measure in ("text", "span"):
        scores = result.metrics[measure]
        micro = scores.micro
        assert [micro.precision, micro.recall, micro.f1, scores.support] == pytest.approx(brute(pairs, measure, None))
        occurring = {c[0] for gold, spans, named in pairs for c in [*gold, *spans, *named]}
        # A named pair that only repeats a grounded one adds no label, because the grounded one has it already.
        assert set(scores.labels) == occurring
        rows = {label: brute(pairs, measure, label) for label in sorted(occurring)}
        for label, row in rows.items():
            score = scores.labels[label]
            assert [score.precision, score.recall, score.f1, score.support] == pytest.approx(row)
        in_gold = [row for row in rows.values() if row[3]]
        means = [sum(row[i] for row in in_gold) / (len(in_gold) or 1) for i in range(3)]
        assert [scores.macro.precision, scores.macro.recall, scores.macro.f1] == pytest.approx(means)
        assert (micro.ci95 is not None) == (len(pairs) > 1)
        if micro.ci95:
            assert 0 <= micro.ci95[0] <= micro.ci95[1] <= 1
