"""Where an answer is a choice: the places at which its grammar allows several tokens, and no others."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nertune.errors import InputError
from nertune.models.grammar import Vocabulary, ids_of, is_mask
from nertune.prompt import PromptSpec, Renderer, answer_format, load_template
from nertune.schema import Document, LabelSet

LABELS = LabelSet(("name", "company", "地点"))
FORMATS = ["inline", "xml", "json", "jsonl", "grouped"]
DOCUMENTS = [
    Document.of("叶老桂博士在浙商银行工作。", [("name", 0, 3), ("company", 6, 10)]),
    Document.of("杭州", [("地点", 0, 2)]),
    Document('a "quoted" [bracket] | bar \\ and <tag> & {"label": "name"}'),
    Document.of("他来自杭州", [("地点", 3, 5)]),
    Document.of("] ] ]\\", [("name", 0, 3)]),
]
VARIED = "".join(
    chr(0x4E00 + 7 * number) for number in range(2500)
)  # a text in which little comes twice is the hard one


def _renderer(tokenizer, name: str) -> Renderer:
    return Renderer(tokenizer, PromptSpec(load_template("ner"), LABELS, answer_format(name)))


def _constraint(renderer: Renderer, text: str):
    tokenizer = renderer.tokenizer
    return Vocabulary(tokenizer, len(tokenizer)).constraint(renderer.grammar(text), renderer.stop_ids)


def _choices(renderer: Renderer, text: str, ids: list[int]) -> list[bool]:
    """Token by token, whether the allowed set, with every token that ends the answer taken as one, is of several."""
    constraint = _constraint(renderer, text)
    found = []
    for token in [*ids, None]:
        allowed = {-1 if token_id in renderer.stop_ids else token_id for token_id in constraint.allowed().tolist()}
        found.append(len(allowed) > 1)
        if token is not None:
            constraint.advance(token)
    return found


@pytest.mark.parametrize("kind", ["qwen3", "gemma-3", "llama-3"])
@pytest.mark.parametrize("name", FORMATS)
def test_free_are_exactly_the_tokens_whose_allowed_set_is_not_a_single_one(family_of, name, kind):
    renderer = _renderer(family_of(kind).tokenizer, name)
    for document in DOCUMENTS:
        ids = renderer.answer_ids(renderer.spec.answer.write(document))
        followed = _constraint(renderer, document.text).follow(ids)
        assert (followed.parted, followed.allowed) == (0, len(ids))
        assert followed.free_E == _choices(renderer, document.text, ids)
        assert any(followed.free_E)


@pytest.mark.parametrize("name", FORMATS)
def test_the_end_is_free_where_the_answer_may_go_on(family_of, name):
    """Rows of jsonl may always be followed by another; the other formats' answers say themselves where they end."""
    renderer = _renderer(family_of("gemma-3").tokenizer, name)
    for document in DOCUMENTS:
        ids = renderer.answer_ids(renderer.spec.answer.write(document))
        ends_in_a_choice = _constraint(renderer, document.text).follow(ids).free_E[-1]
        assert ends_in_a_choice == (name == "jsonl" and bool(document.entities))


def test_what_generation_would_write_with_other_tokens_stays_free(family_of):
    """Spelled with a token a character, the keys are not what the grammar's forced tokens are."""
    renderer = _renderer(family_of("qwen3").tokenizer, "json")
    document = DOCUMENTS[0]
    answer = renderer.spec.answer.write(document)
    spelled = [token for character in answer for token in renderer.answer_ids(character)]
    usual = _constraint(renderer, document.text).follow(renderer.answer_ids(answer))
    followed = _constraint(renderer, document.text).follow(spelled)
    assert followed.allowed == len(spelled) > len(usual.free_E)
    assert followed.parted > 0
    assert sum(followed.free_E) >= sum(usual.free_E) + followed.parted


def test_from_a_token_that_is_not_in_the_grammar_on_everything_is_free(family_of):
    """Here the answer copies another text from some place on."""
    renderer = _renderer(family_of("qwen3").tokenizer, "inline")
    before, text = "杭州的咖啡", "杭州的咖啡很好"
    ids = renderer.answer_ids("杭州的咖啡 cafe 很好")
    followed = _constraint(renderer, text).follow(ids)
    assert len(renderer.answer_ids(before)) <= followed.allowed < len(ids)
    assert len(followed.free_E) == len(ids) + 1
    assert all(followed.free_E[followed.allowed :])


def test_a_tokenizer_without_bytes_is_refused_at_once():
    class Slow:
        def __len__(self) -> int:
            return 10

    with pytest.raises(InputError, match=r"cannot be used with a grammar.*loss_tokens: answer"):
        Vocabulary(Slow(), 10).prepare()


def test_allowed_tokens_are_ascending_and_stop_tokens_stand_where_the_answer_may_end(family_of):
    renderer = _renderer(family_of("qwen3").tokenizer, "json")
    constraint = _constraint(renderer, "杭州")
    for token in renderer.answer_ids("[]"):
        allowed = constraint.allowed()
        assert (np.diff(allowed) > 0).all()
        assert renderer.stop_ids.isdisjoint(allowed.tolist())
        constraint.advance(token)
    assert constraint.allowed().tolist() == sorted(renderer.stop_ids)
    assert constraint.finished


@pytest.mark.parametrize(("name", "depth"), [("inline", 3), ("xml", 3), ("json", 0), ("jsonl", 0), ("grouped", 0)])
def test_a_long_text_has_a_grammar_that_can_be_followed(family_of, name, depth):
    """Beyond llguidance's own limits, which some formats meet at a thousand characters."""
    tokenizer = family_of("qwen2").tokenizer
    spec = PromptSpec(load_template("ner"), LABELS, answer_format(name, {"depth": depth} if depth else {}))
    renderer = Renderer(tokenizer, spec)
    document = Document.of(VARIED, [("name", start, start + 3) for start in range(0, len(VARIED), 400)])
    ids = renderer.answer_ids(spec.answer.write(document))
    constraint = _constraint(renderer, VARIED)
    for token in ids[:60]:
        assert token in constraint.allowed()
        constraint.advance(token)


def test_the_grammars_of_others_are_held_to_the_usual_limits_and_refused_in_a_line(family_of):
    renderer = _renderer(family_of("qwen2").tokenizer, "json")
    vocabulary = Vocabulary(renderer.tokenizer, len(renderer.tokenizer))
    constraint = vocabulary.constraint(renderer.grammar(VARIED), renderer.stop_ids, foreign=True)
    for token in renderer.answer_ids('[{"label": "name", "text": "'):
        constraint.advance(token)
    with pytest.raises(InputError, match="cannot be followed") as refused:
        constraint.allowed()
    assert "\n" not in str(refused.value)


GRAMMARS = {
    "any text": r"start: /(.|\n)*/",
    "short text": 'start: /[^x]{1,40}/ "."',
    "json": 'start: %json {"type": "object", "x-guidance": {"whitespace_pattern": "[ \\n\\t]{0,20}"}}',
    "narrow": 'start: "[" /[一-龥]{1,5}/ "]"',
}


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_a_mask_holds_what_a_list_does_wherever_an_answer_stands(family_of, grammar, foreign):
    """Whatever share of the vocabulary is wide, and with the slices that others' grammars have or without."""
    tokenizer = family_of("qwen3").tokenizer
    size = len(tokenizer) + 50  # columns of the output layer that are no tokens
    stops = frozenset([tokenizer.convert_tokens_to_ids("<|im_end|>")])
    listed = Vocabulary(tokenizer, size, wide=1.0).constraint(grammar, stops)
    others = [Vocabulary(tokenizer, size, wide=w).constraint(grammar, stops, foreign=foreign) for w in (0.0, 0.02, 0.3)]
    draw = random.Random(3)
    masks = 0
    for _ in range(25):
        expected = listed.allowed()
        assert not is_mask(expected)
        for constraint in others:
            found = constraint.allowed()
            masks += is_mask(found)
            assert is_mask(found) <= (len(found) == size)
            assert ids_of(found).tolist() == expected.tolist()
            assert constraint.is_free() == listed.is_free()
        choices = [token for token in expected.tolist() if token not in stops]
        if not choices:
            break
        token = draw.choice(choices)
        for constraint in (listed, *others):
            constraint.advance(token)
    assert masks
