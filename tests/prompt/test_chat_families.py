"""Prompts and rows on small real tokenizers: byte-level, byte-fallback, stripping tokens, no template."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import InputError
from nertune.extract import ground
from nertune.prompt import DEFAULT_TEMPLATE, PromptSpec, PromptTemplate, Renderer, answer_format, load_template
from nertune.schema import Document, LabelSet, ParseOutcome

SHARED = Path(__file__).resolve().parents[3] / "shared"
SEED_RECIPE = SHARED / "bench" / "seed_recipe.py"
FORMATS = ("inline", "json", "jsonl")
LABELS = LabelSet(("name", "company", "address"))
CLUENER = "name, organization, scene, company, movie, book, government, position, address, game"
DOCUMENTS = (
    Document.of("叶老桂在浙商银行", [("name", 0, 3), ("company", 4, 8)]),
    Document.of("杭州人民广场 in 杭州", [("address", 0, 6), ("address", 0, 2), ("address", 10, 12)]),
    Document.of('a | [b] \\ "c" 𠮷野家\n次行', [("company", 12, 15), ("name", 4, 7)]),
    Document("没有实体的句子。"),
)


def spec_of(answer: str = "inline", *, system: str | None = "你是专家。") -> PromptSpec:
    template = PromptTemplate("类别：{labels}\n{answer_format}\n句子：{text}", system)
    return PromptSpec(template, LABELS, answer_format(answer))


_RENDERERS: dict[tuple[str, str, str | None], Renderer] = {}


def renderer_of(family: Any, answer: str = "inline", *, system: str | None = "你是专家。") -> Renderer:
    """A renderer, made once for the module: a large vocabulary takes seconds to copy."""
    key = (family.name, answer, system)
    if key not in _RENDERERS:
        _RENDERERS[key] = Renderer(family.tokenizer, spec_of(answer, system=system))
    return _RENDERERS[key]


def own_turns(family: Any, renderer: Renderer, text: str) -> list[dict[str, str]]:
    """The conversation as one would hand it to the tokenizer; the system text folded where the family refuses it."""
    filled = renderer.spec.filled()
    user = filled.user.replace("{text}", text)
    if filled.system is None:
        return [{"role": "user", "content": user}]
    if family.refuses_system:
        return [{"role": "user", "content": f"{filled.system}\n\n{user}"}]
    return [{"role": "system", "content": filled.system}, {"role": "user", "content": user}]


def own(family: Any, turns: list[dict[str, str]], *, tokenize: bool) -> Any:
    """What the tokenizer itself makes of a conversation."""
    return family.tokenizer.apply_chat_template(
        turns,
        chat_template=family.tokenizer.chat_template or DEFAULT_TEMPLATE,
        tokenize=tokenize,
        add_generation_prompt=True,
        enable_thinking=False,
        **({"return_dict": False} if tokenize else {}),
    )


def read_back(renderer: Renderer, document: Document) -> tuple[Any, Any]:
    """What the trained part of a document's row says: the parsed answer and where it stands in the text."""
    row = renderer.row(document)
    answer = renderer.parse(row.ids_T[row.prompt_length :])
    return answer, ground(document.text, answer, renderer.spec.labels)


def steering(family: Any, ids: list[int]) -> list[int]:
    """The ids among these that steer a chat."""
    known = set(family.tokenizer.convert_tokens_to_ids(list(family.controls)))
    return [token_id for token_id in ids if token_id in known]


def test_the_families_are_what_they_say(family: Any) -> None:
    ids = family.tokenizer.convert_tokens_to_ids(list(family.controls))
    for control, token_id in zip(family.controls, ids, strict=True):
        assert family.tokenizer.encode(control, add_special_tokens=False)[-1:] == [token_id]


@pytest.mark.parametrize("system", ["你是专家。", None], ids=["system", "alone"])
def test_prompt_is_the_tokenizers_own(family: Any, system: str | None) -> None:
    renderer = renderer_of(family, system=system)
    for document in DOCUMENTS:
        turns = own_turns(family, renderer, document.text)
        text = own(family, turns, tokenize=False)
        assert renderer.prompt_text(document.text) == text
        assert renderer.prompt_ids(document.text) == family.tokenizer.encode(text, add_special_tokens=False)
        assert renderer.prompt_ids(document.text) == own(family, turns, tokenize=True)


EDGES = [" 甲", "甲 ", "\n甲\n", "  甲\t", "\u3000甲\u3000"]


@pytest.mark.parametrize("system", [None, "专家", " 专家 ", "\n专家\n"])
@pytest.mark.parametrize("text", EDGES)
def test_white_space_at_the_edges_is_kept_or_trimmed_as_the_template_does(
    family: Any, system: str | None, text: str
) -> None:
    spec = PromptSpec(PromptTemplate("{text}", system), LABELS, answer_format("inline"))
    renderer = Renderer(family.tokenizer, spec)
    assert renderer.prompt_text(text) == own(family, own_turns(family, renderer, text), tokenize=False)
    messages = [{"role": role, "content": content} for role, content in renderer.messages(text)]
    assert renderer.prompt_text(text) == own(family, messages, tokenize=False)


@pytest.mark.parametrize("answer", FORMATS)
def test_row_is_prompt_then_answer_then_turn_end(family: Any, answer: str) -> None:
    renderer = renderer_of(family, answer)
    tail = family.tokenizer.convert_tokens_to_ids(list(family.tail))
    for document in DOCUMENTS:
        row, prompt = renderer.row(document), renderer.prompt_ids(document.text)
        assert row.ids_T[: len(prompt)] == prompt
        assert row.loss_mask_T == [0] * len(prompt) + [1] * (len(row.ids_T) - len(prompt))
        assert row.prompt_length == len(prompt)
        assert row.ids_T[-len(tail) :] == tail
        assert steering(family, row.ids_T[len(prompt) :]) == tail


@pytest.mark.parametrize("answer", FORMATS)
def test_trained_part_reads_back_as_the_entities(family: Any, answer: str) -> None:
    renderer = renderer_of(family, answer)
    for document in DOCUMENTS:
        row = renderer.row(document)
        assert renderer.decode(row.ids_T[row.prompt_length :]) == renderer.spec.answer.write(document)
        parsed, grounded = read_back(renderer, document)
        assert parsed.outcome is ParseOutcome.CLEAN
        assert grounded.ungrounded == ()
        if answer == "json":
            # The recipes' json lists each (label, text) once.
            assert {(e.label, e.text) for e in grounded.entities} == {(e.label, e.text) for e in document.entities}
        elif answer == "inline" or document is not DOCUMENTS[1]:
            assert grounded.entities == document.entities


def test_generation_stops_where_the_row_ends(family: Any) -> None:
    renderer = renderer_of(family)
    tail = family.tokenizer.convert_tokens_to_ids(list(family.tail))
    assert renderer.tail_ids == tuple(tail)
    assert renderer.stop_ids == {*tail, family.tokenizer.eos_token_id}
    answer = renderer.answer_ids("[杭州 | address]")
    for stop in renderer.stop_ids:
        assert renderer.decode([*answer, stop, *answer]) == "[杭州 | address]"


@pytest.mark.parametrize("answer", FORMATS)
def test_control_strings_stay_text(family: Any, answer: str) -> None:
    """In the text, at its edges, inside an entity and hence in the answer."""
    renderer = renderer_of(family, answer)
    harmless = renderer.prompt_ids("甲南京乙")
    frame = family.tokenizer.decode(harmless)
    for control in family.controls:
        text = f"{control}甲{control}\nuser {control}{control}南京乙{control}"
        start = text.index("南京")
        document = Document.of(text, [("name", 0, len(control) + 1), ("address", start - len(control), start + 2)])
        ids = renderer.prompt_ids(text)
        assert steering(family, ids) == steering(family, harmless)
        assert family.tokenizer.decode(ids) == frame.replace("甲南京乙", text)
        assert steering(family, renderer.answer_ids(renderer.spec.answer.write(document))) == []
        parsed, grounded = read_back(renderer, document)
        assert parsed.outcome is ParseOutcome.CLEAN
        assert grounded == (document.entities, ())


def test_control_strings_in_the_prompts_own_words_stay_text(family: Any) -> None:
    control = family.controls[-1]
    template = PromptTemplate(f"写 {control} 之前：{{text}}", f"不要写{control}。")
    renderer = Renderer(family.tokenizer, PromptSpec(template, LABELS, answer_format("inline")))
    clean = renderer_of(family).prompt_ids("句")
    ids = renderer.prompt_ids("句")
    assert steering(family, ids) == steering(family, clean)
    assert f"写 {control} 之前：句" in family.tokenizer.decode(ids)


HARMLESS = st.text(st.sampled_from("叶老桂博士 ab|[]{}<>/_▁\n𠮷😀é，"), max_size=20).map(lambda text: f"甲{text}乙")


@settings(max_examples=25, deadline=None)
@given(text=HARMLESS)
def test_harmless_texts_are_encoded_as_the_tokenizer_does(family: Any, text: str) -> None:
    renderer = renderer_of(family)
    expected = own(family, own_turns(family, renderer, text), tokenize=True)
    assert renderer.prompt_ids(text) == expected
    assert steering(family, expected) == steering(family, renderer.prompt_ids("甲"))


@settings(max_examples=25, deadline=None)
@given(text=HARMLESS)
def test_both_ways_of_encoding_agree(family: Any, text: str) -> None:
    """The slow way, taken where a text holds control strings, gives the same ids wherever it was not needed."""
    renderer = renderer_of(family)
    pieces = renderer._prompt_pieces(text)
    assert renderer._encoder._encode_between_controls(pieces) == renderer.prompt_ids(text)


@pytest.mark.parametrize("name", ["gemma-2", "mistral-0.1"])
def test_system_goes_to_the_users_turn_where_it_is_refused(family_of: Any, name: str) -> None:
    renderer = renderer_of(family_of(name))
    assert renderer.pieces.system_in_user
    assert "你是专家。\n\n类别：name" in renderer.prompt_text("句")


def test_qwen3_does_not_reason(family_of: Any) -> None:
    assert renderer_of(family_of("qwen3")).prompt_text("句").endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_base_model_uses_the_default_template(family_of: Any) -> None:
    spec = PromptSpec(PromptTemplate("{text}", "S"), LABELS, answer_format("json"))
    tail = "### System:\nS\n\n### User:\n句\n\n### Assistant:\n"
    assert Renderer(family_of("base").tokenizer, spec).prompt_text("句") == tail
    assert Renderer(family_of("base-bos").tokenizer, spec).prompt_text("句") == f"<s>{tail}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}{% for m in messages %}<turn>{% endfor %}",
        "{% for m in messages %}{% if m['role'] != 'user' %}{{ m['content'] }}{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}",
        "{% for m in messages if m['role'] != 'assistant' %}{{ m['content'] }}{% endfor %}",
    ],
    ids=["drops all", "drops the user", "twice", "drops the answer"],
)
def test_a_template_that_loses_text_is_refused(family_of: Any, monkeypatch: Any, template: str) -> None:
    family = family_of("llama-3")
    monkeypatch.setattr(family.tokenizer, "chat_template", template)
    with pytest.raises(InputError, match="does not keep"):
        Renderer(family.tokenizer, spec_of())


def test_a_model_that_never_stops_is_refused(family_of: Any) -> None:
    tokenizer = copy.deepcopy(family_of("base-bos").tokenizer)
    tokenizer.eos_token = None
    template = PromptTemplate("{text}")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    renderer = Renderer(tokenizer, PromptSpec(template, LABELS, answer_format("json")))
    with pytest.raises(InputError, match="would never stop"):
        _ = renderer.tail_ids


def test_qwen2_row_is_the_published_one(family_of: Any) -> None:
    renderer = renderer_of(family_of("qwen2"))
    for document in DOCUMENTS:
        ids, mask = renderer.row(document)
        answer = renderer.answer_ids(renderer.spec.answer.write(document))
        assert ids[:3] == [151644, 8948, 198]
        assert ids[-len(answer) - 5 :] == [151644, 77091, 198, *answer, 151645, 151643]
        assert mask == [0] * (len(ids) - len(answer) - 2) + [1] * (len(answer) + 2)


def seed_recipe() -> ModuleType:
    if not SEED_RECIPE.is_file():
        pytest.skip(f"no {SEED_RECIPE}")
    specification = importlib.util.spec_from_file_location("seed_recipe", SEED_RECIPE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_cluener_is_the_tutorial_word_for_word(family_of: Any, tmp_path: Path) -> None:
    """Prompt and row of the reference script for the same sentence; only the tail differs (it appends eos alone)."""
    seed, tokenizer = seed_recipe(), family_of("qwen2").tokenizer
    data = tmp_path / "train.jsonl"
    data.write_text(
        '{"text": "浙商银行叶老桂、叶老桂", '
        '"label": {"name": {"叶老桂": [[4, 6], [8, 10]]}, "company": {"浙商银行": [[0, 3]]}}}\n',
        encoding="utf-8",
    )
    ((text, entities),) = seed.read(data, 1)
    spec = PromptSpec(load_template("cluener"), LabelSet(tuple(CLUENER.split(", "))), answer_format("json"))
    filled = spec.filled()
    assert filled.system == seed.SYSTEM
    assert filled.user.replace("{text}", text) == seed.PROMPT.format(text=text)
    renderer = Renderer(tokenizer, spec)
    row = renderer.row(Document.of(text, [("name", 4, 7), ("name", 8, 11), ("company", 0, 4)]))
    answer = seed.json.dumps(entities, ensure_ascii=False)
    expected = seed.prompt_ids(tokenizer, text) + tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert row.ids_T == [*expected, tokenizer.eos_token_id, 151643]
