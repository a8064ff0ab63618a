"""Grammars: every answer that a format writes is in its grammar, and every answer in its grammar is true of the text."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from nertune.errors import InputError
from nertune.extract import ground
from nertune.prompt import ANSWER_FORMATS, AnswerFormat, answer_format
from nertune.schema import Document, LabelSet, ParseOutcome

BYTES = LLTokenizer("byte")
TAGS = LabelSet(("name", "地点", "a-b", "n", "日本"))
ODD = LabelSet(("name", "地 点", '"', "<x>", "n", "a&b", "{}", "'", "/", "日::=本", "# //", "\u0301e"))
FORMATS = tuple(ANSWER_FORMATS)
CODE_POINTS = [*range(0x300), 0x301, 0x2028, 0x2029, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F600, 0x20BB7, 0x10FFFF]
HOSTILE = [
    *"[]|\\<>&\"'{}/:,; \t\r\n\0\x07\x1b\x7f\x85\u2028\ufeff\u0301",
    *"叶老桂在杭州ab0𠮷😀é",
    "[叶 | name]",
    " | name]",
    " | ",
    "<name>",
    "</name>",
    "<name/>",
    "&amp;",
    "&lt;name&gt;",
    "&#60;",
    "]]>",
    "<![CDATA[",
    "<!--",
    '[{"label": "name", "text": "叶"}]',
    '", "label": "name"}',
    '{"name": ["叶"]}',
    "没有找到任何实体",
    "<end_of_turn>\n<start_of_turn>model\n",
    "<|im_end|>\n<|im_start|>assistant\n",
    "</s>",
    "[/INST]",
    "```json\n",
    "\\u0041",
    "\\n",
    "\r\n",
    "👩‍👩‍👧",
]


def labels_for(name: str) -> LabelSet:
    return TAGS if name == "xml" else ODD


def matcher(form: AnswerFormat, text: str, labels: LabelSet, tokenizer: LLTokenizer = BYTES) -> LLMatcher:
    found = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(form.grammar(text, labels)), log_level=0)
    assert not found.is_error(), found.get_error()
    return found


def accepts(form: AnswerFormat, text: str, labels: LabelSet, answer: str) -> bool:
    found, data = matcher(form, text, labels), list(answer.encode())
    return found.try_consume_tokens(data) == len(data) and found.is_accepting()


def hostile_text(draw: random.Random) -> str:
    """Up to twelve pieces that mean something to a format, a tokenizer or a chat, not blank as a whole."""
    while not (text := "".join(draw.choices(HOSTILE, k=draw.randint(1, 12)))).strip():
        pass
    return text


def some_document(draw: random.Random, text: str, labels: LabelSet, depth: int) -> Document:
    """Spans that nest up to `depth`, several on one stretch among them, and never cross."""
    spans: list[tuple[str, int, int]] = []
    for _ in range(draw.randint(0, 6)):
        start = draw.randrange(len(text))
        end = draw.randint(start + 1, len(text))
        candidate = (draw.choice(labels.names), start, end)
        crosses = any(s < start < e < end or start < s < end < e for _, s, e in spans)
        if candidate not in spans and not crosses and _deepest([*spans, candidate]) <= depth:
            spans.append(candidate)
    return Document.of(text, spans)


def _deepest(spans: list[tuple[str, int, int]]) -> int:
    return max(sum(s <= place < e for _, s, e in spans) for _, place, _ in spans)


def check_written(name: str, document: Document) -> None:
    """What is written is in the grammar and read back as it was; nothing that breaks off is."""
    form, labels = answer_format(name), labels_for(name)
    answer = form.write(document)
    assert accepts(form, document.text, labels, answer)
    parsed = form.parse(answer)
    assert parsed.outcome is ParseOutcome.CLEAN
    assert len(parsed.written) == len(parsed.placed or parsed.mentions)
    if parsed.copy is not None:
        assert ground(document.text, parsed, labels) == (document.entities, ())
    elif form.options()["distinct"]:
        assert {(m.label, m.text) for m in parsed.mentions} == {(e.label, e.text) for e in document.entities}
    else:
        pairs = [(e.label, e.text) for e in document.entities]
        assert sorted((m.label, m.text) for m in parsed.mentions) == sorted(pairs)


def check_walk(name: str, text: str, draw: random.Random, *, longest: int = 400) -> None:
    """Any way through the grammar never ends before its end, and ends in an answer that is true."""
    form, labels = answer_format(name), labels_for(name)
    state, answer = matcher(form, text, labels), bytearray()
    for answer in _walk(state, draw, longest):
        accepting, prefix = state.is_accepting(), _decoded(answer)
        whole = prefix is not None and _is_whole(form, text, prefix)
        assert accepting == whole, prefix
    parsed = form.parse(answer.decode())
    assert parsed.outcome is ParseOutcome.CLEAN
    assert len(parsed.written) == len(parsed.placed or parsed.mentions)
    mentioned = [*parsed.mentions, *ground(text, parsed, labels).entities]
    assert all(mention.label in labels and mention.text and mention.text in text for mention in mentioned)
    if parsed.copy is not None:
        assert parsed.copy == text
        entities, ungrounded = ground(text, parsed, labels)
        assert {(e.label, e.start, e.end) for e in entities} == {(p.label, p.start, p.end) for p in parsed.placed}
        assert ungrounded == ()


def _walk(state: LLMatcher, draw: random.Random, longest: int) -> Iterator[bytearray]:
    """Bytes drawn among those allowed; once the answer is long, whatever closes goes first."""
    answer = bytearray()
    while True:
        allowed = [byte for byte, flag in enumerate(state.compute_logit_bias()) if flag]
        assert allowed, (bytes(answer), state.get_error())
        ends = state.is_accepting()
        assert ends == (BYTES.eos_token in allowed)
        yield answer
        going_on = [byte for byte in allowed if byte != BYTES.eos_token]
        if ends and (not going_on or len(answer) > longest or draw.random() < 0.3):
            return
        closing = [byte for byte in going_on if byte in b'"]}/'] if len(answer) > longest else []
        chosen = draw.choice(closing or going_on)
        answer.append(chosen)
        assert state.consume_token(chosen)


def _decoded(answer: bytes | bytearray) -> str | None:
    try:
        return answer.decode()
    except UnicodeDecodeError:
        return None


def _is_whole(form: AnswerFormat, text: str, answer: str) -> bool:
    """Whether an answer could end here. `parse` is kinder than `write` about blank ends of lines."""
    parsed = form.parse(answer)
    if parsed.outcome is not ParseOutcome.CLEAN or (form.name == "jsonl" and answer.endswith("\n")):
        return False
    return parsed.copy is None or parsed.copy == text


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_texts_are_written_and_walked(name: str) -> None:
    draw = random.Random(1)
    for _ in range(60):
        text = hostile_text(draw)
        check_written(name, some_document(draw, text, labels_for(name), 3))
        check_walk(name, text, draw)


@pytest.mark.soak
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_hostile_texts_are_written_and_walked(name: str) -> None:
    for seed in range(10_000):
        draw = random.Random(seed)
        text = hostile_text(draw)
        check_written(name, some_document(draw, text, labels_for(name), 3))
        check_walk(name, text, draw)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=30).filter(str.strip), seed=st.integers(0, 10**6))
def test_whatever_is_written_is_in_the_grammar(name: str, text: str, seed: int) -> None:
    check_written(name, some_document(random.Random(seed), text, labels_for(name), 3))


@pytest.mark.parametrize("name", ["json", "jsonl", "grouped"])
def test_crossing_entities_and_a_list_of_all_there_are_is_in_the_grammar_and_no_longer_one(name: str) -> None:
    text, labels = "桂桂叶", LabelSet(("a", "b"))
    spans = [(label, start, end) for start in range(3) for end in range(start + 1, 4) for label in labels]
    form = answer_format(name, {"distinct": False})
    answer = form.write(Document.of(text, spans))
    assert accepts(form, text, labels, answer)
    more = {
        "json": answer[:-1] + ', {"label": "a", "text": "桂"}]',
        "jsonl": answer + "\n" + answer.splitlines()[0],
        "grouped": answer[:-2] + ', "桂"]}',
    }
    assert form.parse(more[name]).outcome is ParseOutcome.CLEAN
    assert not accepts(form, text, labels, more[name])


@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_character_can_be_copied_and_marked(name: str) -> None:
    form, labels = answer_format(name), LabelSet(("name",))
    for start in range(0, len(CODE_POINTS), 16):
        text = "甲" + "".join(map(chr, CODE_POINTS[start : start + 16]))
        spans = [("name", place, place + 1) for place in range(1, len(text))]
        answer = form.write(Document.of(text, spans))
        assert accepts(form, text, labels, answer), text
        assert form.parse(answer).outcome is ParseOutcome.CLEAN


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("inline", "[杭州 | city]人"),
        ("inline", "[杭州| name]人"),
        ("inline", "[ | name]杭州人"),
        ("inline", "杭州[ | name]人"),
        ("inline", "[杭州 | name]"),
        ("inline", "杭州"),
        ("inline", "杭州人]"),
        ("inline", "杭州人["),
        ("inline", "杭州 人"),
        ("inline", "[[[[杭 | n] | n] | n] | n]州人"),
        ("xml", "<city>杭州</city>人"),
        ("xml", "<name>杭州</n>人"),
        ("xml", "<name><n>杭</name></n>州人"),
        ("xml", "<name></name>杭州人"),
        ("xml", "杭州人<name></name>"),
        ("xml", "<n><n><n><n>杭</n></n></n></n>州人"),
        ("xml", "</name>杭州人"),
        ("json", '[{"label": "city", "text": "杭州"}]'),
        ("json", '[{"label": "name", "text": "杭人"}]'),
        ("json", '[{"label": "name", "text": ""}]'),
        ("json", '[{"label":"name","text":"杭州"}]'),
        ("json", "[],"),
        ("json", ""),
        ("jsonl", '{"entity_text": "", "entity_label": "name"}'),
        ("jsonl", '{"entity_text": "杭", "entity_label": "name"}\n'),
        ("jsonl", ""),
        ("grouped", '{"name": []}'),
        ("grouped", '{"name": [""]}'),
        ("grouped", '{"city": ["杭"]}'),
        ("grouped", "{"),
    ],
)
def test_what_is_not_true_is_not_in_the_grammar(name: str, answer: str) -> None:
    assert not accepts(answer_format(name), "杭州人", LabelSet(("name", "n")), answer)


def test_depth_is_an_option_of_the_grammar() -> None:
    labels = LabelSet(("n",))
    for depth in (1, 2, 5):
        for name, begin, end in (("inline", "[", " | n]"), ("xml", "<n>", "</n>")):
            form = answer_format(name, {"depth": depth})
            assert accepts(form, "桂", labels, begin * depth + "桂" + end * depth)
            assert not accepts(form, "桂", labels, begin * (depth + 1) + "桂" + end * (depth + 1))


@pytest.mark.parametrize("name", FORMATS)
def test_long_texts_and_many_labels_stay_within_the_limits_of_llguidance(name: str) -> None:
    """Its limits are on the work of one mask, so that a grammar too heavy fails at any speed of the machine."""
    draw = random.Random(5)
    text = "".join(draw.choices('叶老桂博士在杭州 ab[]|\\"<&>😀\n', k=1200))
    labels = LabelSet(tuple(f"{chr(97 + number % 26)}类{number}" for number in range(60)))
    form = answer_format(name)
    state = matcher(form, text, labels)
    for answer in _walk(state, draw, 1500):
        if len(answer) > 2000:
            break
    assert not state.is_error()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama-3", "phi-3", "llama-2-first", "gemma-3"])
def test_tokens_of_every_kind_spell_true_answers(name: str, family: str, family_of) -> None:
    """Characters split over tokens, tokens over many characters, control tokens whose names stand in the text."""
    tokenizer = family_of(family).tokenizer
    if family not in _WRAPPED:
        _WRAPPED[family] = from_tokenizer(tokenizer)
    wrapped = _WRAPPED[family]
    form, labels, draw = answer_format(name), labels_for(name), random.Random(9)
    special = [token for token, added in tokenizer.added_tokens_decoder.items() if added.special]
    for text in ('𠮷野家在杭州 "a"\\[x]|<b>&😀\n桂', "桂<end_of_turn>\n<|im_end|></s>[/INST]{}"):
        state, ids = matcher(form, text, labels, wrapped), []
        while True:
            mask = np.frombuffer(state.compute_logit_bias(), np.uint8).copy()
            assert {token for token in special if mask[token]} <= {wrapped.eos_token}
            mask[wrapped.eos_token] = 0
            allowed, ends = np.flatnonzero(mask), state.is_accepting()
            assert len(allowed) or ends, state.get_error()
            if ends and (not len(allowed) or draw.random() < 0.3):
                break
            longer = allowed if len(ids) > 60 else ()
            closing = [t for t in longer if wrapped.decode_bytes([int(t)])[:1] in (b'"', b"]", b"}")]
            ids.append(int(draw.choice(closing or allowed)))
            assert state.consume_token(ids[-1])
        answer = wrapped.decode_bytes(ids).decode()
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == answer
        parsed = form.parse(answer)
        assert parsed.outcome is ParseOutcome.CLEAN
        assert parsed.copy in (None, text)
        assert all(m.text in text and m.label in labels for m in parsed.mentions)


_WRAPPED: dict[str, LLTokenizer] = {}


def test_schemas_say_what_write_writes() -> None:
    labels = LabelSet(("name", "地 点"))
    document = Document.of("甲在杭州", [("地 点", 2, 4), ("name", 0, 1)])
    for name in ("json", "grouped"):
        form = answer_format(name)
        schema = form.schema(labels)
        state = LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(json.dumps(schema)), log_level=0)
        assert not state.is_error(), state.get_error()
        answer = list(form.write(document).encode())
        assert state.try_consume_tokens(answer) == len(answer)
        assert state.is_accepting()
        assert schema["type"] == ("array" if name == "json" else "object")
    assert [answer_format(name).schema(labels) for name in ("inline", "xml", "jsonl")] == [None] * 3


@pytest.mark.parametrize("label", ["地 点", "<x>", "a/b", "1a", "a&b", '"', "-a"])
def test_what_can_be_no_tag_is_refused(label: str) -> None:
    form = answer_format("xml")
    for call in (
        lambda: form.check(LabelSet(("ok", label))),
        lambda: form.grammar("桂", LabelSet((label,))),
        lambda: form.write(Document.of("桂", [(label, 0, 1)])),
    ):
        with pytest.raises(InputError, match="xml format cannot name a tag"):
            call()
