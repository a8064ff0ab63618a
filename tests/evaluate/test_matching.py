"""The matching against all matchings there are, and what it does with nested, repeated and doubled entities."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.evaluate.matching import Matching, match
from nertune.schema import Document, Entity

TEXT = "甲乙丙丁戊己庚辛壬癸"
Spans = list[tuple[str, int, int]]
SPANS = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 6), st.integers(1, 4)).map(lambda s: (s[0], s[1], s[1] + s[2])),
    max_size=5,
)


def entities(spans: Spans) -> tuple[Entity, ...]:
    return Document.of(TEXT, spans).entities


def matched(gold: Spans, predicted: Spans) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    def named(entity: Entity) -> str:
        return f"{entity.label}{entity.start}-{entity.end}"

    found = match(entities(gold), entities(predicted))
    pairs = [(named(a), named(b)) for a, b in found.pairs]
    return pairs, [named(e) for e in found.missed], [named(e) for e in found.spurious]


def rank(pairs: list[tuple[Entity, Entity]]) -> tuple[int, ...]:
    """What is compared of two matchings, first things first."""
    common = [min(a.end, b.end) - max(a.start, b.start) for a, b in pairs]
    assert all(shared > 0 for shared in common)
    return (
        sum(a == b for a, b in pairs),
        sum((a.start, a.end) == (b.start, b.end) for a, b in pairs),
        sum(a.label == b.label for a, b in pairs),
        len(pairs),
        sum(common),
    )


def best_of_all(gold: list[Entity], predicted: list[Entity]) -> tuple[int, ...]:
    padded = predicted + [None] * len(gold)
    best: tuple[int, ...] = (0,) * 5
    for order in set(permutations(padded, len(gold))):
        pairs = [(a, b) for a, b in zip(gold, order, strict=True) if b is not None]
        pairs = [(a, b) for a, b in pairs if min(a.end, b.end) > max(a.start, b.start)]
        best = max(best, rank(pairs))
    return best


def test_equal_entities_are_paired_and_the_rest_is_missed_or_spurious() -> None:
    assert matched([("A", 0, 2), ("B", 4, 6)], [("A", 0, 2), ("B", 7, 9)]) == ([("A0-2", "A0-2")], ["B4-6"], ["B7-9"])


def test_nothing_on_one_side_or_both() -> None:
    assert matched([("A", 0, 2)], []) == ([], ["A0-2"], [])
    assert matched([], [("A", 0, 2)]) == ([], [], ["A0-2"])
    assert match([], []) == Matching((), (), ())


def test_entities_that_only_touch_are_no_pair() -> None:
    assert matched([("A", 0, 2)], [("A", 2, 4)]) == ([], ["A0-2"], ["A2-4"])


def test_the_same_place_goes_before_the_same_label() -> None:
    assert matched([("A", 0, 4)], [("B", 0, 4), ("A", 1, 4)])[0] == [("A0-4", "B0-4")]


def test_the_same_label_goes_before_more_in_common() -> None:
    assert matched([("A", 0, 4)], [("B", 0, 3), ("A", 3, 5)])[0] == [("A0-4", "A3-5")]


def test_one_long_prediction_over_two_gold_entities_takes_the_one_it_covers_more_of() -> None:
    assert matched([("A", 0, 2), ("A", 2, 5)], [("A", 0, 5)]) == ([("A2-5", "A0-5")], ["A0-2"], [])


def test_a_greedy_choice_that_costs_a_pair_is_not_made() -> None:
    # The prediction 2-5 overlaps both gold entities, 0-1 only the first: the first must be left to it.
    assert matched([("A", 0, 4), ("A", 4, 6)], [("A", 0, 1), ("A", 2, 5)])[0] == [("A0-4", "A0-1"), ("A4-6", "A2-5")]


def test_nested_entities_find_each_other() -> None:
    gold = [("A", 0, 8), ("B", 0, 3), ("A", 5, 8)]
    found = matched(gold, [("A", 0, 7), ("B", 0, 2), ("A", 6, 8)])
    assert found == ([("A0-8", "A0-7"), ("B0-3", "B0-2"), ("A5-8", "A6-8")], [], [])


def test_an_entity_given_twice_counts_once_and_keeps_its_better_score() -> None:
    twice = (Entity("A", 0, 2, "甲乙", 0.2), Entity("A", 0, 2, "甲乙", 0.9))
    found = match(twice, twice)
    assert (len(found.pairs), found.missed, found.spurious) == (1, (), ())
    assert [entity.score for entity in found.pairs[0]] == [0.9, 0.9]


@settings(max_examples=200, deadline=None)
@given(SPANS, SPANS, st.randoms(use_true_random=False))
def test_no_matching_is_better_and_order_does_not_matter(gold: Spans, predicted: Spans, random: object) -> None:
    left, right = list(set(entities(gold))), list(set(entities(predicted)))
    found = match(left, right)
    assert rank(list(found.pairs)) == best_of_all(left, right)
    assert sorted(map(str, [*(a for a, _ in found.pairs), *found.missed])) == sorted(map(str, left))
    assert sorted(map(str, [*(b for _, b in found.pairs), *found.spurious])) == sorted(map(str, right))
    random.shuffle(left)
    random.shuffle(right)
    assert match(left, right) == found


def test_thousands_of_entities_under_one_that_covers_all() -> None:
    text = "甲乙丙" * 3_000
    gold = Document.of(text, [("A", 0, 9_000), *(("B", n, n + 2) for n in range(0, 9_000, 3))])
    predicted = Document.of(text, [("A", 0, 8_999), *(("B", n, n + 2 - n % 2) for n in range(0, 9_000, 3))])
    found = match(gold.entities, predicted.entities)
    assert (len(found.pairs), found.missed, found.spurious) == (3_001, (), ())
