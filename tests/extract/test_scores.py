"""An entity's probability is the product of those of the tokens that write it, and no token counts twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.confidence import Calibration
from nertune.errors import InputError, NertuneError
from nertune.extract import Recognizer, ground
from nertune.extract.scores import MentionScore, mention_scores
from nertune.generate import Completion, ScriptedEngine
from nertune.prompt import ANSWER_FORMATS, ParsedAnswer, Placed, PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.prompt.answers.base import Written
from nertune.schema import Document, Entity, LabelSet, Mention, ParseOutcome

LABELS = LabelSet(("name", "address", "org"))
CLEAN = ParseOutcome.CLEAN


def tokens(*pieces: str) -> list[tuple[int, int]]:
    """Places of tokens that hold whole characters."""
    places, end = [], 0
    for piece in pieces:
        places.append((end, end + len(piece)))
        end += len(piece)
    return places


def answer(*written: tuple[str, tuple[int, int], tuple[int, int]]) -> ParsedAnswer:
    return ParsedAnswer(
        CLEAN,
        copy="",
        placed=tuple(Placed(label, 0, 1) for label, _, _ in written),
        written=tuple(Written(span, label) for _, span, label in written),
    )


def scores(
    places: Sequence[tuple[int, int]], probabilities: Sequence[float], parsed: ParsedAnswer, labels: LabelSet = LABELS
) -> list[tuple[float, float]]:
    found = mention_scores(places, [math.log(p) for p in probabilities], parsed, labels)
    return [(pytest.approx(score.span), pytest.approx(score.label)) for score in found]


def test_open_continue_close_and_label_multiply() -> None:
    """[叶老 | name]来: P(open) P(叶) P(老) P(close) and P(name); what stands after it changes nothing."""
    places = tokens("[", "叶", "老", " | ", "name", "]", "来")
    parsed = answer(("name", (0, 6), (6, 10)))
    probabilities = [0.9, 1.0, 0.8, 0.7, 0.6, 0.1, 0.1]
    assert scores(places, probabilities, parsed) == [(0.9 * 1.0 * 0.8 * 0.7, 0.6)]
    (found,) = mention_scores(places, [math.log(p) for p in probabilities], parsed, LABELS)
    assert found.both == pytest.approx(0.9 * 0.8 * 0.7 * 0.6)


def test_a_token_of_both_counts_for_the_label_alone() -> None:
    """` name` begins with the last character of the closing mark."""
    places = tokens("[", "叶", " |", " name", "]")
    assert scores(places, [0.9, 0.8, 0.7, 0.6, 0.5], answer(("name", (0, 5), (5, 9)))) == [(0.9 * 0.8 * 0.7, 0.6)]


def test_a_token_that_begins_before_the_mark_is_the_decision_to_open() -> None:
    places = tokens("来", "，[", "叶", " | ", "name", "]")
    assert scores(places, [0.5, 0.9, 0.8, 0.7, 0.6, 0.5], answer(("name", (2, 7), (7, 11)))) == [(0.9 * 0.8 * 0.7, 0.6)]


def test_all_tokens_of_a_split_character_count() -> None:
    """The second character of `[𠮷 | name]` is written by four tokens."""
    places = [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 5), (5, 9), (9, 10)]
    probabilities = [0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    assert scores(places, probabilities, answer(("name", (0, 5), (5, 9)))) == [(0.9 * 0.9 * 0.8 * 0.7 * 0.6 * 0.5, 0.4)]


def test_a_nested_entity_has_its_tokens_for_itself() -> None:
    """[[南京 | address]大学 | org]: the outer one is given the inner one, whose opening `[[` shares."""
    pieces = ["[[", "南京", " | ", "address", "]", "大学", " | ", "org", "]"]
    probabilities = [0.9, 0.8, 0.7, 0.6, 0.95, 0.5, 0.4, 0.3, 0.2]
    parsed = answer(("address", (1, 7), (7, 14)), ("org", (0, 20), (20, 23)))
    assert "".join(pieces)[7:14] == "address"
    assert "".join(pieces)[20:23] == "org"
    assert scores(tokens(*pieces), probabilities, parsed) == [(0.9 * 0.8 * 0.7, 0.6), (0.9 * 0.95 * 0.5 * 0.4, 0.3)]


def test_a_label_written_first_and_within_the_span() -> None:
    """<org>南京</org>: the span is all of it, the label a part."""
    places = tokens("<", "org", ">", "南京", "</", "org", ">")
    parsed = answer(("org", (0, 13), (1, 4)))
    assert scores(places, [0.9, 0.8, 1, 0.7, 0.6, 1, 1], parsed) == [(0.9 * 0.7 * 0.6, 0.8)]


def listed(*written: tuple[str, tuple[int, int], tuple[int, int]]) -> ParsedAnswer:
    return ParsedAnswer(
        CLEAN,
        mentions=tuple(Mention(label, "x") for label, _, _ in written),
        written=tuple(Written(span, label) for _, span, label in written),
    )


def test_a_label_that_several_share() -> None:
    """{"org": ["南京", "杭州"]}: the label counts for both, the decision to name a second for the second."""
    places = tokens('{"', "org", '": ["', "南京", '"', ", ", '"', "杭州", '"', "]}")
    parsed = listed(("org", (10, 13), (2, 5)), ("org", (16, 19), (2, 5)))
    probabilities = [0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5]
    expected = [(0.95 * 0.85 * 0.8 * 0.75, 0.9), (0.7 * 0.65 * 0.6 * 0.55, 0.9)]
    assert scores(places, probabilities, parsed) == expected


def test_the_decision_to_list_one_more() -> None:
    """[{"name": "桂"}, {"org": "叶"}], label first: the second score begins after the first mention's end."""
    places = tokens('[{"', "name", '": "', "桂", '"', "}", ', {"', "org", '": "', "叶", '"', "}]")
    probabilities = [0.95, 0.9, 1, 0.8, 0.75, 1, 0.65, 0.6, 1, 0.5, 0.45, 0.4]
    parsed = listed(("name", (11, 13), (3, 7)), ("org", (25, 27), (18, 21)))
    assert "".join(['[{"', "name", '": "', "桂", '"', "}", ', {"', "org"])[18:21] == "org"
    expected = [(0.95 * 0.8 * 0.75, 0.9), (0.65 * 0.5 * 0.45, 0.6)]
    assert scores(places, probabilities, parsed) == expected


def test_the_end_of_a_label_counts_where_another_goes_on() -> None:
    places = tokens("[", "桂", " | ", "组织", "]")
    parsed = answer(("组织", (0, 5), (5, 7)))
    probabilities = [1, 1, 1, 0.9, 0.4]
    assert scores(places, probabilities, parsed, LabelSet(("组织", "人名"))) == [(1, 0.9)]
    assert scores(places, probabilities, parsed, LabelSet(("组织", "组织机构"))) == [(1, 0.9 * 0.4)]


def test_endless_and_rounded_logarithms_stay_probabilities() -> None:
    places = tokens("[", "叶", " | ", "name", "]", "[", "叶", " | ", "name", "]")
    parsed = answer(("name", (0, 5), (5, 9)), ("name", (10, 15), (15, 19)))
    logprobs = [0.0, -math.inf, 0.0, 0.0, 0.0, 1e-9, math.log(0.5), 0.0, -1e-9, 0.0, -3.0]
    first, second = mention_scores(places, logprobs, parsed, LABELS)
    assert first == MentionScore(0.0, 1.0)
    assert (second.span, second.label) == (pytest.approx(0.5), pytest.approx(1.0))
    assert second.label <= 1


def test_an_answer_that_does_not_say_where_has_no_scores() -> None:
    assert mention_scores(tokens("a"), [0.0], ParsedAnswer(CLEAN, (Mention("name", "a"),)), LABELS) == ()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_token_counts_twice(data: st.DataObject) -> None:
    """Span and label of flat mentions by the definition: sets of tokens, each in at most one of the two."""
    pieces = data.draw(
        st.lists(st.sampled_from(["[", "桂", "桂叶", " | name]", "|", " name", "]来[", "name][", ""]), min_size=1)
    )
    places = tokens(*pieces)
    length = places[-1][1]
    cuts = sorted(data.draw(st.lists(st.integers(0, length), min_size=3, max_size=3)))
    if cuts[0] == cuts[1] or cuts[1] == cuts[2]:
        return
    probabilities = [data.draw(st.floats(0.05, 1)) for _ in pieces]
    span, label = (cuts[0], cuts[1]), (cuts[1], cuts[2])
    in_label = {n for n, (s, e) in enumerate(places) if s < label[1] and e > label[0]}
    in_span = {n for n, (s, e) in enumerate(places) if s < span[1] and e > span[0]} - in_label
    expected = tuple(math.prod(probabilities[n] for n in chosen) for chosen in (in_span, in_label))
    assert scores(places, probabilities, answer(("org", span, label)), LabelSet(("org",))) == [expected]


def test_scores_reach_the_entities_by_their_mention() -> None:
    given_scores = [MentionScore(0.9, 0.5), MentionScore(0.8, 1.0), MentionScore(0.7, 1.0)]
    listed = ParsedAnswer(CLEAN, (Mention("org", "无"), Mention("name", "桂"), Mention("name", "叶")))
    entities, ungrounded = ground("叶和桂", listed, LABELS, given_scores)
    assert [(e.text, e.score, e.span_score, e.label_score) for e in entities] == [
        ("叶", 0.7, 0.7, 1.0),
        ("桂", 0.8, 0.8, 1.0),
    ]
    assert ungrounded == (Mention("org", "无"),)


@pytest.mark.parametrize("copy", ["叶和桂", " 叶和桂\n", "叶, 和桂"])
def test_scores_reach_the_entities_of_a_copy(copy: str) -> None:
    place = copy.index("桂")
    parsed = ParsedAnswer(CLEAN, copy=copy, placed=(Placed("name", place, place + 1),))
    (entity,) = ground("叶和桂", parsed, LABELS, [MentionScore(0.5, 0.5)]).entities
    assert (entity.start, entity.score) == (2, 0.25)


def test_scores_survive_composed_characters() -> None:
    parsed = ParsedAnswer(CLEAN, (Mention("name", "é"),))
    (entity,) = ground("xe\u0301", parsed, LABELS, [MentionScore(0.5, 0.5)]).entities
    assert (entity.text, entity.score, entity.label_score) == ("e\u0301", 0.25, 0.5)


def test_of_one_place_given_twice_the_higher_score_is_kept() -> None:
    parsed = ParsedAnswer(CLEAN, copy="桂", placed=(Placed("name", 0, 1),) * 3)
    given_scores = [MentionScore(0.5, 1.0), MentionScore(0.75, 1.0), MentionScore(0.25, 1.0)]
    (entity,) = ground("桂", parsed, LABELS, given_scores).entities
    assert (entity, entity.score) == (Entity("name", 0, 1, "桂"), 0.75)


def recognizer(
    family: Any, written: str, logprobs: Sequence[float] | None = None, *, answer: str = "inline", **settings: Any
) -> Recognizer:
    renderer = Renderer(family.tokenizer, PromptSpec(PromptTemplate("{text}"), LABELS, answer_format(answer)))
    ids = tuple(renderer.answer_ids(written))
    if logprobs is None:
        logprobs = [math.log(0.99)] * (len(ids) + 1)
    return Recognizer(renderer, ScriptedEngine([Completion(ids, "end", tuple(logprobs))]), **settings)


def test_every_familys_tokens_give_scores(family: Any) -> None:
    """With 0.99 for each token, a score is 0.99 to the number of tokens that touch the entity."""
    if family.refuses_system:
        pytest.skip("the prompt makes no difference here")
    written = "在[叶𠮷桂 | name]和[杭州 | address]"
    found = recognizer(family, written).extract("在叶𠮷桂和杭州")
    assert [e.text for e in found.entities] == ["叶𠮷桂", "杭州"]
    for entity in found.entities:
        count = math.log(entity.score) / math.log(0.99)
        assert count == pytest.approx(round(count))
        assert entity.score == pytest.approx(entity.span_score * entity.label_score)
        assert round(count) >= 4


@pytest.mark.parametrize("name", sorted(ANSWER_FORMATS))
def test_every_format_gives_scores(family_of: Any, name: str) -> None:
    """What is doubted lowers the scores of the entities that it decides, and of no other."""
    family, text = family_of("phi-4"), "在叶桂和杭州"
    document = Document.of(text, [("name", 1, 3), ("address", 4, 6)])
    written = answer_format(name).write(document)
    certain = recognizer(family, written, [0.0] * 200, answer=name)
    assert [(e.text, e.score) for e in certain.extract(text).entities] == [("叶桂", 1.0), ("杭州", 1.0)]
    places = certain.renderer.token_places(certain.renderer.answer_ids(written))
    doubted = {"桂": (0.5, 0.5, 1.0, 1.0), "州": (1.0, 1.0, 0.5, 1.0), "dress": (1.0, 1.0, 0.5, 0.5)}
    for part, (first, first_span, second, second_label) in doubted.items():
        place = written.rindex(part) if part == "dress" and name != "xml" else written.index(part)
        token = next(n for n, (start, end) in enumerate(places) if start <= place < end)
        logprobs = [math.log(0.5) if n == token else 0.0 for n in range(len(places))]
        one, two = recognizer(family, written, logprobs, answer=name).extract(text).entities
        assert (one.score, one.span_score) == (pytest.approx(first), pytest.approx(first_span))
        assert (two.score, two.label_score) == (pytest.approx(second), pytest.approx(second_label))


def test_without_logprobs_there_are_no_scores(family_of: Any) -> None:
    family = family_of("gemma-3")
    (entity,) = recognizer(family, "[桂 | name]", ()).extract("桂").entities
    assert (entity.score, entity.span_score, entity.label_score) == (None, None, None)
    with pytest.raises(NertuneError, match="no probabilities"):
        recognizer(family, "[桂 | name]", (), min_score=0.5).extract("桂")
    assert recognizer(family, "桂", (), min_score=0.5).extract("桂").entities == ()


def test_low_scores_are_left_out(family_of: Any) -> None:
    family = family_of("gemma-3")
    (entity,) = recognizer(family, "[桂 | name]").extract("桂").entities
    assert recognizer(family, "[桂 | name]", min_score=entity.score).extract("桂").entities == (entity,)
    above = entity.score + 1e-6
    assert recognizer(family, "[桂 | name]", min_score=above).extract("桂").entities == ()


def test_a_calibration_changes_the_score_and_not_its_parts(family_of: Any) -> None:
    family = family_of("gemma-3")
    (raw,) = recognizer(family, "[桂 | name]").extract("桂").entities
    calibration = Calibration(2.0, 0.5, {"name": 0.999})
    (entity,) = recognizer(family, "[桂 | name]", calibration=calibration).extract("桂").entities
    odds = math.sqrt(raw.score / (1 - raw.score))
    assert entity.score == pytest.approx(odds / (1 + odds))
    assert (entity.span_score, entity.label_score) == (raw.span_score, raw.label_score)
    strict = recognizer(family, "[桂 | name]", calibration=calibration, min_score="calibrated")
    assert strict.extract("桂").entities == ()


@pytest.mark.parametrize("min_score", ["calibrated", -0.1, 1.5, math.nan, "high", True])
def test_impossible_least_scores(family_of: Any, min_score: Any) -> None:
    with pytest.raises(InputError, match="min_score is"):
        recognizer(family_of("gemma-3"), "", min_score=min_score)
