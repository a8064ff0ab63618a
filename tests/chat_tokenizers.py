"""Small real tokenizers of every family that the prompt room knows: trained here, with the family's own chat template.

The vocabularies are tiny; the machinery (byte-level or byte-fallback BPE, normalizers, added tokens and their flags) and the
templates are those of the published models. Loaded by `conftest.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

QWEN2 = Path(__file__).resolve().parents[2] / "shared" / "tokenizers" / "qwen2"

SENTENCES = [
    "叶老桂博士在浙商银行工作，他来自杭州。",
    "你是一个文本实体识别领域的专家，擅长从自然语言中提取不同类别的实体名称。",
    "请从给定的句子中识别并提取出以下指定类别的实体。\n\n<输入文本>\n现在的阿森纳恐怕不能再给人以强队的信心。\n\n",
    '[{"label": "name", "text": "叶老桂"}, {"label": "company", "text": "浙商银行"}]',
    '{"entity_text": "杭州", "entity_label": "address"}\n没有找到任何实体',
    "[叶老桂 | name]博士在[浙商银行 | company]工作。",
    "The user asks the system, the assistant answers the model; tokens are read from the text. ### User: system",
]
WORDS = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""

QWEN3 = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_query_index=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == "user" %}{%- set ns.last_query_index = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set reasoning_content = message.content.split('</think>')[0].split('<think>')[-1] %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
            {{- content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}" + ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

MISTRAL1 = (
    "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

MISTRAL3 = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token}}
    {%- endif %}
{%- endfor %}
"""

PHI3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

PHI4 = (
    "{% for message in messages %}{% if (message['role'] == 'system') %}"
    "{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}"
    "{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}"
    "{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)

GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

GEMMA3 = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""


class Family(NamedTuple):
    """A tokenizer; the strings that steer its chat; the tokens that end a trained row; whether it refuses system turns."""

    name: str
    tokenizer: Any
    controls: tuple[str, ...]
    tail: tuple[str, ...]
    refuses_system: bool = False


def byte_level(
    *, special: Sequence[str], plain: Sequence[str] = (), stripping: bool = False, nfc: bool = False, **settings: Any
) -> Any:
    """A byte-level BPE as of Qwen, Llama 3 and Phi-4. `stripping`: added tokens swallow the white space around them."""
    backend = Tokenizer(models.BPE())
    if nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    )
    return _finished(backend, special, plain, lstrip=stripping, rstrip=stripping, **settings)


def byte_fallback(
    *, spaces: str, control: Sequence[str], special: Sequence[str], plain: Sequence[str] = (), **settings: Any
) -> Any:
    """A sentencepiece-like BPE with byte fallback, as of Llama 2, Mistral, Phi-3 and Gemma.

    `spaces`: "prepend" (a normalizer puts ▁ before every stretch), "first" (Metaspace, before the first only) or "none"
    (Gemma). `control`: tokens that are in the base vocabulary as well as added.
    """
    backend = Tokenizer(_byte_fallback_model(control))
    decoding = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if spaces == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif spaces == "first":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        decoding if spaces == "none" else [*decoding, decoders.Strip(content=" ", left=1, right=0)]
    )
    return _finished(backend, [*control, *special], plain, **settings)


def _byte_fallback_model(control: Sequence[str]) -> models.BPE:
    scratch = Tokenizer(models.BPE())
    scratch.normalizer = normalizers.Replace(" ", "▁")
    scratch.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    trained = json.loads(scratch.to_str())["model"]
    tokens = [
        *control,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *sorted(trained["vocab"], key=trained["vocab"].get),
    ]
    return models.BPE(
        vocab={token: number for number, token in enumerate(dict.fromkeys(tokens))},
        merges=[tuple(pair) for pair in trained["merges"]],
        byte_fallback=True,
        fuse_unk=True,
        unk_token="<unk>",
    )


def _finished(
    backend: Tokenizer,
    special: Sequence[str],
    plain: Sequence[str],
    *,
    template: str | None,
    lstrip: bool = False,
    rstrip: bool = False,
    **names: Any,
) -> Any:
    base = backend.get_vocab_size()
    for content in special:
        # Flags are the chat tokens' own: those of the base vocabulary never strip.
        own = backend.token_to_id(content) is None or backend.token_to_id(content) >= base
        flags = {"lstrip": lstrip and own, "rstrip": rstrip and own, "normalized": False, "special": True}
        backend.add_special_tokens([AddedToken(content, **flags)])
    backend.add_tokens([AddedToken(content, normalized=False, special=False) for content in plain])
    if bos := names.get("bos_token"):
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0",
            pair=f"{bos}:0 $A:0 {bos}:1 $B:1",
            special_tokens=[(bos, backend.token_to_id(bos))],
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    tokenizer.chat_template = template
    return tokenizer


def _qwen2() -> Family:
    if not QWEN2.is_dir():
        pytest.skip(f"no Qwen2 tokenizer at {QWEN2}")
    controls = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>")
    return Family("qwen2", AutoTokenizer.from_pretrained(QWEN2), controls, ("<|im_end|>", "<|endoftext|>"))


def _qwen3() -> Family:
    special, thinking = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), ("<think>", "</think>")
    tokenizer = byte_level(
        special=special, plain=thinking, nfc=True, template=QWEN3, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    return Family("qwen3", tokenizer, (*special, *thinking), ("<|im_end|>", "<|endoftext|>"))


def _phi4() -> Family:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>")
    tokenizer = byte_level(
        special=special, stripping=True, template=PHI4, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    return Family("phi-4", tokenizer, special, ("<|im_end|>", "<|endoftext|>"))


def _llama3() -> Family:
    special = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer = byte_level(special=special, template=LLAMA3, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")
    return Family("llama-3", tokenizer, special, ("<|eot_id|>", "<|end_of_text|>"))


SENTENCEPIECE = ("<unk>", "<s>", "</s>")


def _phi3() -> Family:
    special = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    tokenizer = byte_fallback(
        spaces="prepend",
        control=SENTENCEPIECE,
        special=special,
        rstrip=True,
        template=PHI3,
        bos_token="<s>",
        eos_token="<|endoftext|>",
        unk_token="<unk>",
    )
    return Family("phi-3", tokenizer, (*SENTENCEPIECE, *special), ("<|end|>", "<|endoftext|>"))


def _sentencepiece(name: str, template: str | None, *, spaces: str, special: Sequence[str] = (), **own: Any) -> Family:
    tokenizer = byte_fallback(
        spaces=spaces,
        control=(*SENTENCEPIECE, *special),
        special=(),
        template=template,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    return Family(name, tokenizer, (*SENTENCEPIECE, *special), ("</s>",), **own)


def _gemma(name: str, template: str, *, refuses_system: bool) -> Family:
    control = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
    tokenizer = byte_fallback(
        spaces="none",
        control=control,
        special=(),
        plain=("<table>", "▁▁", "\n\n"),
        template=template,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    return Family(name, tokenizer, control, ("<end_of_turn>", "<eos>"), refuses_system)


def _base() -> Family:
    tokenizer = byte_level(special=("<|endoftext|>",), template=None, eos_token="<|endoftext|>")
    return Family("base", tokenizer, ("<|endoftext|>",), ("<|endoftext|>",))


BUILDERS: dict[str, Callable[[], Family]] = {
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "phi-3": _phi3,
    "phi-4": _phi4,
    "llama-3": _llama3,
    "llama-2": lambda: _sentencepiece("llama-2", LLAMA2, spaces="prepend"),
    "llama-2-first": lambda: _sentencepiece("llama-2-first", LLAMA2, spaces="first"),
    "mistral-0.1": lambda: _sentencepiece("mistral-0.1", MISTRAL1, spaces="prepend", refuses_system=True),
    "mistral-0.3": lambda: _sentencepiece("mistral-0.3", MISTRAL3, spaces="first", special=("[INST]", "[/INST]")),
    "gemma-2": lambda: _gemma("gemma-2", GEMMA2, refuses_system=True),
    "gemma-3": lambda: _gemma("gemma-3", GEMMA3, refuses_system=False),
    "base": _base,
    "base-bos": lambda: _sentencepiece("base-bos", None, spaces="first"),
}


@functools.cache
def family(name: str) -> Family:
    """The family of that name, built once a session. Skips the test where the real Qwen2 tokenizer is absent."""
    return BUILDERS[name]()
