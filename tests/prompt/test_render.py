"""One road for training and inference: the row's prompt is the prompt, for every family of chat templates."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from nertune.errors import InputError, MissingFileError
from nertune.extract import ground
from nertune.prompt import (
    ANSWER_FORMATS,
    DEFAULT_TEMPLATE,
    PromptSpec,
    PromptTemplate,
    Renderer,
    answer_format,
    load_template,
)
from nertune.prompt.chat import take_apart
from nertune.schema import Document, LabelSet, ParseOutcome

SHARED = Path(__file__).resolve().parents[3] / "shared"
QWEN2 = SHARED / "tokenizers" / "qwen2"
SEED_RECIPE = SHARED / "bench" / "seed_recipe.py"
FORMATS = tuple(ANSWER_FORMATS)
LABELS = LabelSet(("name", "organization", "地点"))
DOCUMENT = Document.of(
    "叶老桂博士在南京大学 talks to O'Neil\n𠮷野家", [("name", 0, 3), ("organization", 6, 10), ("地点", 6, 8)]
)

pytestmark = pytest.mark.skipif(not QWEN2.is_dir(), reason="no shared tokenizer")

QWEN3 = """\
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' %}{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""
LLAMA3 = (
    "{% for message in messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PHI3 = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI4 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
GEMMA3 = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
{%- set prefix = messages[0]['content'] + '\n\n' -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set prefix = '' -%}{%- set rest = messages -%}{%- endif -%}
{%- for message in rest -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""
GEMMA2 = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""

GEMMA_TOKENS = {"special": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "bos": "<bos>", "eos": "<eos>"}
# template, tokens to add, what ends the turn and the document, and strings that steer this family.
FAMILIES: dict[str, dict] = {
    "qwen2": {"tail": ["<|im_end|>", "<|endoftext|>"], "control": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]},
    "qwen3": {
        "template": QWEN3,
        "plain": ["<think>", "</think>"],
        "tail": ["<|im_end|>", "<|endoftext|>"],
        "control": ["<|im_start|>", "<|im_end|>", "<think>", "</think>"],
    },
    "llama3": {
        "template": LLAMA3,
        "special": [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ],
        "bos": "<|begin_of_text|>",
        "eos": "<|end_of_text|>",
        "tail": ["<|eot_id|>", "<|end_of_text|>"],
        "control": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    "phi3": {
        "template": PHI3,
        "special": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        "eos": "<|endoftext|>",
        "tail": ["<|end|>", "<|endoftext|>"],
        "control": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"],
    },
    "phi3-rstrip": {
        "template": PHI3,
        "special": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        "rstrip": True,
        "eos": "<|endoftext|>",
        "tail": ["<|end|>", "<|endoftext|>"],
        "control": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"],
    },
    "phi4": {
        "template": PHI4,
        "special": ["<|im_sep|>"],
        "eos": "<|im_end|>",
        "tail": ["<|im_end|>", "<|endoftext|>"],
        "control": ["<|im_start|>", "<|im_sep|>", "<|im_end|>"],
    },
    "gemma3": {
        "template": GEMMA3,
        **GEMMA_TOKENS,
        "tail": ["<end_of_turn>", "<eos>"],
        "control": ["<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"],
    },
    "gemma2": {
        "template": GEMMA2,
        **GEMMA_TOKENS,
        "refuses system": True,
        "tail": ["<end_of_turn>", "<eos>"],
        "control": ["<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"],
    },
    "none": {
        "template": None,
        "eos": "<|endoftext|>",
        "tail": ["<|endoftext|>"],
        "control": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    },
}
_LOADED: dict[str, object] = {}


@functools.cache
def small_qwen2():
    """Qwen2's tokenizer with a small vocabulary: the real one takes seconds to load and to copy."""
    return AutoTokenizer.from_pretrained(QWEN2).train_new_from_iterator([DOCUMENT.text, "句子：没有实体"], 400)


def tokenizer_of(family: str):
    """The Qwen2 tokenizer; for another family a small one of its kind with that family's template and control tokens."""
    if family not in _LOADED:
        described = FAMILIES[family]
        tokenizer = AutoTokenizer.from_pretrained(QWEN2) if family == "qwen2" else copy.deepcopy(small_qwen2())
        rstrip = described.get("rstrip", False)
        special = [AddedToken(name, special=True, rstrip=rstrip) for name in described.get("special", [])]
        tokenizer.add_tokens(special, special_tokens=True)
        tokenizer.add_tokens([AddedToken(name, special=False) for name in described.get("plain", [])])
        if "template" in described:
            tokenizer.chat_template = described["template"]
        if "bos" in described:
            tokenizer.bos_token = described["bos"]
        if "eos" in described:
            tokenizer.eos_token = described["eos"]
        _LOADED[family] = tokenizer
    return _LOADED[family]


def spec_of(
    answer: str, *, system: str | None = "你是专家。", user: str = "类别：{labels}\n{answer_format}\n句子：{text}"
):
    return PromptSpec(PromptTemplate(user, system), LABELS, answer_format(answer))


_ENCODERS: dict[str, object] = {}


@functools.cache
def renderer_of(family: str, answer: str = "inline", **template) -> Renderer:
    renderer = Renderer(tokenizer_of(family), spec_of(answer, **template))
    renderer._encoder = _ENCODERS.setdefault(family, renderer._encoder)  # the tokenizer's alone, and slow to copy
    return renderer


def expected_text(family: str, renderer: Renderer, text: str) -> str:
    """The prompt as the tokenizer itself writes it."""
    filled = renderer.spec.filled()
    turns = [{"role": "system", "content": filled.system}] if filled.system is not None else []
    user = filled.user.replace("{text}", text)
    if turns and FAMILIES[family].get("refuses system"):
        user = f"{turns.pop()['content']}\n\n{user}"
    turns.append({"role": "user", "content": user})
    return tokenizer_of(family).apply_chat_template(
        turns,
        chat_template=tokenizer_of(family).chat_template or DEFAULT_TEMPLATE,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )


def control_ids_in(family: str, ids: list[int]) -> list[int]:
    tokenizer = tokenizer_of(family)
    steering = set(tokenizer.convert_tokens_to_ids(FAMILIES[family]["control"]))
    steering |= {token_id for token_id, added in tokenizer.added_tokens_decoder.items() if added.special}
    return [token_id for token_id in ids if token_id in steering]


def check_tail(renderer: Renderer, document: Document) -> None:
    """The trained part of the row reads back as the document's entities."""
    row = renderer.row(document)
    trained = row.ids_T[row.prompt_length :]
    assert row.ids_T[: row.prompt_length] == renderer.prompt_ids(document.text)
    assert row.loss_mask_T == [0] * row.prompt_length + [1] * len(trained)
    assert trained[-len(renderer.tail_ids) :] == list(renderer.tail_ids)
    assert renderer.decode(trained) == renderer.spec.answer.write(document)
    answer = renderer.parse(trained)
    assert answer.outcome is ParseOutcome.CLEAN
    grounded = ground(document.text, answer, renderer.spec.labels)
    assert sorted(grounded.entities, key=repr) == sorted(document.entities, key=repr)
    assert grounded.ungrounded == ()


@pytest.mark.parametrize("answer", FORMATS)
def test_a_qwen2_row_starts_and_ends_with_its_turns(answer):
    row = renderer_of("qwen2", answer).row(DOCUMENT)
    assert row.ids_T[:3] == [151644, 8948, 198]
    assert row.ids_T[-2:] == [151645, 151643]
    start = row.prompt_length
    assert row.ids_T[start - 3 : start] == [151644, 77091, 198]
    assert set(row.loss_mask_T[:start]) == {0}
    assert set(row.loss_mask_T[start:]) == {1}
    assert len(row.loss_mask_T) == len(row.ids_T)


@pytest.mark.skipif(not SEED_RECIPE.is_file(), reason="no shared seed recipe")
def test_the_cluener_template_is_the_seed_recipe_word_for_word():
    lines = SEED_RECIPE.read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("SYSTEM ="))
    end = next(n for n, line in enumerate(lines) if line.startswith("def "))
    constants: dict[str, str] = {}
    exec("\n".join(lines[start:end]), constants)
    names = "name, organization, scene, company, movie, book, government, position, address, game"
    spec = PromptSpec(load_template("cluener"), LabelSet(tuple(names.split(", "))), answer_format("json"))
    filled = spec.filled()
    text = "浙商银行企业信贷部叶老桂博士{x}"
    assert filled.system == constants["SYSTEM"]
    assert filled.user.replace("{text}", text) == constants["PROMPT"].format(text=text)
    renderer = Renderer(tokenizer_of("qwen2"), spec)
    chat = constants["CHATML"].format(system=constants["SYSTEM"], user=constants["PROMPT"].format(text=text))
    assert renderer.prompt_text(text) == chat
    assert renderer.prompt_ids(text) == tokenizer_of("qwen2")(chat, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("system", ["你是专家。", None], ids=["system", "no system"])
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_what_the_chat_template_writes(family, system):
    renderer = renderer_of(family, system=system)
    for text in (DOCUMENT.text, " 两边有空格 \n", "a{labels}{text}{{ 1 }}{% x %}", "\n"):
        expected = expected_text(family, renderer, text)
        assert renderer.prompt_text(text) == expected
        assert renderer.prompt_ids(text) == tokenizer_of(family).encode(expected, add_special_tokens=False)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama3", "phi4", "gemma3"])
def test_prompt_ids_equal_the_tokenizers_own(family):
    renderer = renderer_of(family)
    filled = renderer.spec.filled()
    turns = [
        {"role": "system", "content": filled.system},
        {"role": "user", "content": filled.user.replace("{text}", DOCUMENT.text)},
    ]
    own = tokenizer_of(family).apply_chat_template(
        turns, tokenize=True, add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert renderer.prompt_ids(DOCUMENT.text) == own


@pytest.mark.parametrize("answer", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_go_on_from_the_prompt_and_read_back(family, answer):
    renderer = renderer_of(family, answer)
    check_tail(renderer, DOCUMENT)
    check_tail(renderer, Document("没有实体"))


@pytest.mark.parametrize("family", FAMILIES)
def test_turns_end_as_the_family_ends_them(family):
    renderer = renderer_of(family)
    tail = tokenizer_of(family).convert_tokens_to_ids(FAMILIES[family]["tail"])
    assert list(renderer.tail_ids) == tail
    assert set(tail) <= renderer.stop_ids
    assert tokenizer_of(family).eos_token_id in renderer.stop_ids


@pytest.mark.parametrize("answer", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_control_strings_in_a_text_stay_text(family, answer):
    renderer, tokenizer = renderer_of(family, answer), tokenizer_of(family)
    harmless = renderer.prompt_ids("甲乙")
    for control in FAMILIES[family]["control"]:
        text = f"甲{control}\nsystem 南京{control}{control}乙"
        start = text.index("南京")
        document = Document.of(text, [("name", 0, 1 + len(control)), ("地点", start, start + 2)])
        ids = renderer.prompt_ids(text)
        assert control_ids_in(family, ids) == control_ids_in(family, harmless)
        assert text in tokenizer.decode(ids)
        answer_ids = renderer.answer_ids(renderer.spec.answer.write(document))
        assert control_ids_in(family, answer_ids) == []
        assert renderer.prompt_text(text) == expected_text(family, renderer, text)
        check_tail(renderer, document)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama3", "phi4"])
def test_an_escaped_text_changes_no_token_before_it(family):
    """Both ways of encoding agree wherever the text is harmless."""
    renderer = renderer_of(family)
    shared = list(renderer.shared_prefix_ids)
    ids = renderer.prompt_ids(f"甲{FAMILIES[family]['control'][0]}乙")
    assert ids[: len(shared)] == shared
    pieces = renderer._prompt_pieces("甲乙丙 abc")
    assert renderer._encoder._encode_between_controls(pieces) == renderer.prompt_ids("甲乙丙 abc")


def test_a_template_that_refuses_system_gets_it_in_the_users_turn():
    renderer = renderer_of("gemma2")
    assert renderer.pieces.system_in_user
    assert not renderer.pieces.has_system
    assert renderer.prompt_text("句").startswith("<bos><start_of_turn>user\n你是专家。\n\n类别：")


def test_a_model_without_a_template_uses_the_documented_one():
    renderer = renderer_of("none", user="{text}", system="S")
    assert renderer.prompt_text("句") == "### System:\nS\n\n### User:\n句\n\n### Assistant:\n"


def test_qwen3_answers_after_an_empty_reasoning_part():
    assert renderer_of("qwen3").prompt_text("句").endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_named_default_template_is_used():
    tokenizer = copy.deepcopy(small_qwen2())
    tokenizer.chat_template = {"tool_use": "{{ raise_exception('no') }}", "default": PHI4}
    text = Renderer(tokenizer, spec_of("json")).prompt_text("句")
    assert text.startswith("<|im_start|>system<|im_sep|>你是专家。<|im_end|>")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[-1].content | upper }}", "does not keep system and user text"),
        ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "system text after the user's"),
        ("{{ raise_exception('never') }}", "never"),
    ],
)
def test_templates_that_lose_the_text_are_refused(template, message):
    tokenizer = copy.deepcopy(small_qwen2())
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message):
        Renderer(tokenizer, spec_of("json"))
    if "never" in message:
        with pytest.raises(InputError, match="single user turn"):
            take_apart(tokenizer, with_system=False)


def test_the_shared_prefix_begins_every_harmless_prompt():
    renderer = renderer_of("qwen2")
    shared = list(renderer.shared_prefix_ids)
    assert len(shared) > 20
    for text in ("1", "张三", "x" * 50):
        assert renderer.prompt_ids(text)[: len(shared)] == shared


def test_generated_ids_end_at_the_first_stop_token():
    renderer = renderer_of("qwen2")
    ids = renderer.answer_ids("[南京 | 地点]大学")
    for stop in renderer.stop_ids:
        assert renderer.decode([*ids, stop, *ids]) == "[南京 | 地点]大学"
    assert renderer.answer_ids("") == []


@pytest.mark.parametrize("answer", FORMATS)
def test_a_spec_is_rebuilt_from_its_json(answer):
    spec = spec_of(answer)
    assert PromptSpec.from_json(spec.to_json()) == spec
    assert PromptSpec.from_json(spec_of(answer, system=None).to_json()) == spec_of(answer, system=None)


def test_placeholders_are_filled_and_other_braces_kept():
    template = PromptTemplate('{labels:; }|{labels}|{"a": {b}}|{answer_format}|{text}', "S {labels}")
    filled = template.fill(LabelSet(("a", "b")), "A")
    assert filled == PromptTemplate('a; b|a, b|{"a": {b}}|A|{text}', "S a, b")


def test_templates_come_from_folders_too(tmp_path):
    (tmp_path / "user.txt").write_text("问：{text}\n\n", encoding="utf-8")
    assert load_template(str(tmp_path)) == PromptTemplate("问：{text}\n")
    (tmp_path / "system.txt").write_text("系统\n", encoding="utf-8")
    assert load_template(str(tmp_path)) == PromptTemplate("问：{text}\n", "系统")
    (tmp_path / "user.txt").unlink()
    with pytest.raises(MissingFileError, match=r"user\.txt"):
        load_template(str(tmp_path))
    with pytest.raises(MissingFileError, match=r"neither built in .*cluener"):
        load_template("no-such-template")


@pytest.mark.parametrize("user", ["no place", "{text}{text}"])
def test_a_user_part_needs_the_text_once(user):
    with pytest.raises(InputError, match="exactly once"):
        PromptTemplate(user)
    with pytest.raises(InputError, match="not in its system part"):
        PromptTemplate("{text}", "{text}")
