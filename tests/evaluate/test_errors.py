"""Error analysis: every mention in exactly one class, and everything that is counted from the classes."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import InputError
from nertune.evaluate.errors import analyse
from nertune.evaluate.findings import GOLD_ONLY, KINDS, PAIRED, PREDICTED_ONLY, findings
from nertune.evaluate.measures import gold_keys, predicted_keys
from nertune.schema import Document, Entity, Mention, ParseOutcome, Prediction

TEXT = "浙商银行企业信贷部叶老桂博士"
LABELS = ("name", "company", "position")


def predicted(*spans: tuple, text: str = TEXT, ungrounded: tuple = (), **more) -> Prediction:
    """A prediction of (label, start, end[, score])."""
    entities = tuple(Entity(label, start, end, text[start:end], *score) for label, start, end, *score in spans)
    return Prediction(text, entities, tuple(Mention(*mention) for mention in ungrounded), **more)


def kinds(gold: list, prediction: Prediction) -> list[str]:
    return [finding.kind for finding in findings(Document.of(prediction.text, gold), prediction)]


@pytest.mark.parametrize(
    ("gold", "found", "kind"),
    [
        (("company", 0, 4), ("company", 0, 4), "correct"),
        (("company", 0, 4), ("company", 0, 9), "longer"),
        (("company", 2, 4), ("company", 0, 5), "longer"),
        (("company", 0, 4), ("company", 2, 4), "shorter"),
        (("company", 0, 4), ("company", 2, 6), "overlapping"),
        (("company", 0, 4), ("name", 0, 4), "type"),
        (("company", 0, 4), ("name", 0, 3), "mixed"),
    ],
)
def test_a_pair_has_the_class_of_its_place_and_label(gold, found, kind):
    assert kinds([gold], predicted(found)) == [kind]


def test_what_has_no_partner_is_missed_or_spurious():
    assert kinds([("company", 0, 4)], predicted(("name", 9, 12))) == ["missed", "spurious"]


def test_a_reason_is_given_for_what_an_unread_answer_leaves_out():
    gold = [("company", 0, 4), ("name", 9, 12)]
    assert kinds(gold, predicted(outcome=ParseOutcome.INVALID)) == ["unparsable"] * 2
    assert kinds(gold, predicted(("company", 0, 4), stop="length")) == ["correct", "truncated"]
    assert kinds(gold, predicted(("company", 0, 4), cut=True)) == ["correct", "truncated"]
    assert kinds(gold, predicted(stop="length", outcome=ParseOutcome.INVALID)) == ["truncated"] * 2


def test_what_stands_nowhere_is_hallucinated_once_and_not_when_it_repeats_an_entity():
    prediction = predicted(("name", 9, 12), ungrounded=(("name", "王五"), ("name", "王五"), ("name", "叶老桂")))
    assert kinds([("name", 9, 12)], prediction) == ["correct", "hallucinated"]


def test_an_exact_match_is_never_given_up_for_a_nearer_pairing():
    gold = [("company", 0, 9), ("company", 0, 4)]
    assert kinds(gold, predicted(("company", 0, 4), ("company", 0, 8))) == ["shorter", "correct"]


@st.composite
def _pairs(draw) -> tuple[list[Document], list[Prediction]]:
    """Documents with nested, crossing and repeated mentions, and predictions that share some of them."""
    documents, predictions = [], []
    for _ in range(draw(st.integers(0, 4))):
        text = draw(st.text("甲乙ab ", min_size=1, max_size=12))
        span = st.tuples(st.sampled_from(LABELS), st.integers(0, len(text) - 1), st.integers(1, len(text))).filter(
            lambda s: s[1] < s[2]
        )
        gold = draw(st.lists(span, max_size=6))
        shared = draw(st.lists(st.sampled_from(gold), max_size=6)) if gold else []
        found = [*shared, *draw(st.lists(span, max_size=6))]
        scores = [draw(st.sampled_from([None, 0.3, 0.95])) for _ in found]
        names = draw(st.lists(st.tuples(st.sampled_from(LABELS), st.text("甲丙", min_size=1, max_size=2)), max_size=3))
        documents.append(Document.of(text, gold))
        predictions.append(
            predicted(
                *((*s, score) for s, score in zip(found, scores, strict=True)),
                text=text,
                ungrounded=tuple(names),
                cut=draw(st.booleans()),
                outcome=draw(st.sampled_from(ParseOutcome)),
            )
        )
    return documents, predictions


@settings(max_examples=150, deadline=None)
@given(_pairs())
def test_every_mention_is_in_one_class_and_all_counts_add_up(pairs):
    documents, predictions = pairs
    report = analyse(documents, predictions, train=documents[:1])
    assert set(KINDS) == PAIRED | GOLD_ONLY | PREDICTED_ONLY
    hits = 0
    for document, prediction, found in zip(documents, predictions, report.found, strict=True):
        gold_side = [(f.gold.label, (f.gold.start, f.gold.end)) for f in found if f.gold]
        other_side = [
            (f.predicted.label, (f.predicted.start, f.predicted.end))
            if isinstance(f.predicted, Entity)
            else (f.predicted.label, f.predicted.text)
            for f in found
            if f.predicted
        ]
        known, claimed = gold_keys(document, measure="span"), predicted_keys(prediction, measure="span")
        assert (len(gold_side), set(gold_side)) == (len(known), known)
        assert (len(other_side), set(other_side)) == (len(claimed), claimed)
        assert sum(f.kind == "correct" for f in found) == len(known & claimed)
        hits += len(known & claimed)
        for finding in found:
            assert (finding.gold is not None) == (finding.kind not in PREDICTED_ONLY)
            assert (finding.predicted is not None) == (finding.kind not in GOLD_ONLY)
    assert report.counts["correct"] == hits
    assert sum(report.confusion.values()) == sum(report.counts.values()) == sum(map(len, report.found))
    for rows in report.breakdowns.values():
        totals = [sum(getattr(part, side) for part in rows.values()) for side in ("gold", "predicted", "hits")]
        assert totals == [report.gold, report.predicted, hits]
    assert sum(m.count for m in report.patterns) == sum(report.counts.values()) - hits
    assert json.dumps(report.to_json()) == json.dumps(analyse(documents, predictions, train=documents[:1]).to_json())


@settings(max_examples=60, deadline=None)
@given(_pairs(), st.randoms(use_true_random=False))
def test_the_order_of_mentions_does_not_matter(pairs, shuffle: random.Random):
    documents, predictions = pairs
    turned = []
    for prediction in predictions:
        entities = list(prediction.entities)
        shuffle.shuffle(entities)
        more = {"cut": prediction.cut, "outcome": prediction.outcome}
        turned.append(Prediction(prediction.text, tuple(entities), prediction.ungrounded, **more))
    assert analyse(documents, turned).counts == analyse(documents, predictions).counts


def test_the_confusion_matrix_has_a_row_and_a_column_for_nothing():
    gold = [Document.of(TEXT, [("company", 0, 4), ("name", 9, 12)])]
    report = analyse(gold, [predicted(("name", 0, 4), ("position", 12, 14))])
    assert report.confusion == {("company", "name"): 1, ("name", None): 1, (None, "position"): 1}


def test_mentions_are_told_apart_by_what_the_training_data_hold():
    gold = [Document.of(TEXT, [("company", 0, 4), ("name", 9, 12), ("position", 12, 14)])]
    train = [Document.of("叶老桂说博士", [("name", 0, 3), ("name", 4, 6)])]
    rows = analyse(gold, [predicted(("name", 9, 12))], train=train).breakdowns["seen in training"]
    assert {name: (part.gold, part.predicted, part.hits) for name, part in rows.items()} == {
        "seen with this label": (1, 1, 1),
        "seen with other labels only": (1, 0, 0),
        "not seen": (1, 0, 0),
    }
    assert "seen in training" not in analyse(gold, [predicted()]).breakdowns


def test_rows_of_breakdowns():
    text = "Ann met 王小明 and 李"
    gold = [Document.of(text, [("name", 0, 3), ("name", 8, 11), ("name", 16, 17)])]
    rows = analyse(gold, [predicted(text=text, ungrounded=(("name", "Bob"),))]).breakdowns
    assert list(rows["entity length"]) == ["1", "3"]
    assert list(rows["sentence length"]) == ["16 to 30"]
    assert list(rows["mentions per sentence"]) == ["3"]
    assert list(rows["position"]) == ["first quarter", "second quarter", "last quarter", "not in the text"]
    assert list(rows["language"]) == ["Chinese and Latin script"]


def test_gold_that_a_sure_model_contradicts_is_suspect_the_surest_first():
    gold = [Document.of(TEXT, [("company", 0, 4), ("name", 9, 12)]), Document("叶老桂")]
    found = [
        predicted(("company", 0, 9, 0.93), ("name", 9, 12, 0.99), ("position", 12, 14, 0.5)),
        predicted(("name", 0, 3, 0.97), text="叶老桂"),
    ]
    report = analyse(gold, found)
    assert [(s.document, s.finding.kind, s.score) for s in report.suspects] == [
        (1, "spurious", 0.97),
        (0, "longer", 0.93),
    ]
    assert report.scored
    assert analyse(gold, found, high_score=0.5).suspects[-1].score == 0.5
    assert not analyse(gold, [predicted(), predicted(text="叶老桂")]).scored


def test_the_most_frequent_mistakes_come_first_with_examples_of_different_documents():
    gold = [Document.of(TEXT, [("company", 0, 4)])] * 5 + [Document.of(TEXT, [("name", 9, 12)])] * 2
    found = [predicted(("name", 0, 4))] * 5 + [predicted()] * 2
    first, second = analyse(gold, found).mistakes
    assert (first.kind, first.gold, first.predicted, first.count) == (
        "type",
        ("company", "浙商银行"),
        ("name", "浙商银行"),
        5,
    )
    assert [place for place, _ in first.examples] == [0, 1, 2]
    assert (second.kind, second.predicted, second.count) == ("missed", None, 2)


def test_an_example_shows_its_surroundings():
    text = "甲" * 50 + "叶老桂" + "乙" * 50
    report = analyse([Document.of(text, [("name", 50, 53)], id="x")], [predicted(text=text)])
    (pattern,) = report.to_json()["patterns"]
    assert pattern["examples"] == [
        {
            "document": 1,
            "id": "x",
            "class": "missed",
            "gold": {"label": "name", "text": "叶老桂", "start": 50, "end": 53, "score": None},
            "predicted": None,
            "context": "…" + "甲" * 20 + "叶老桂" + "乙" * 20 + "…",
        }
    ]


def test_lists_are_bounded():
    texts = [f"叶{number}" for number in range(300)] * 2
    gold = [Document.of(text, [("name", 0, len(text))]) for text in texts]
    found = [predicted(("company", 0, len(text), 0.99), text=text) for text in texts]
    value = analyse(gold, found).to_json()
    assert (len(value["mistakes"]), len(value["suspects"])) == (40, 100)


def test_nothing_at_all():
    assert analyse([], []).gold == 0
    assert analyse([Document("无")], [Prediction("无")]).perfect == 1


def test_pairs_that_are_none_are_refused():
    with pytest.raises(InputError, match="not of the same text"):
        analyse([Document("甲")], [Prediction("乙")])
    with pytest.raises(InputError, match="high_score"):
        analyse([], [], high_score=2)


def test_ten_thousand_documents_take_seconds():
    generator = random.Random(0)
    gold, found = [], []
    for number in range(10_000):
        text = "".join(generator.choices("浙商银行企业信贷部叶老桂博士则从另一个角度", k=40)) + str(number)
        starts = generator.sample(range(36), 6)
        gold.append(Document.of(text, [(generator.choice(LABELS), s, s + 4) for s in starts[:4]]))
        found.append(predicted(*((generator.choice(LABELS), s, s + 3, 0.9) for s in starts[1:5]), text=text))
    begun = time.process_time()
    report = analyse(gold, found, train=gold)
    json.dumps(report.to_json())
    assert time.process_time() - begun < 30
