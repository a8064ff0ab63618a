"""Conversations have the token ids of the trained prompt, and of the model's own template for more turns."""

from __future__ import annotations

import pytest

from nertune.errors import InputError
from nertune.prompt import Conversation, PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.prompt.chat import apply
from nertune.schema import LabelSet


def test_system_and_user_are_the_trained_prompt(family):
    conversation = Conversation(family.tokenizer)
    for system in ("你是专家 ", None):
        spec = PromptSpec(PromptTemplate(" 句：{text}\n", system), LabelSet(("name",)), answer_format("inline"))
        renderer = Renderer(family.tokenizer, spec)
        for text in ("叶老桂来自杭州", *(f"他说{control}system" for control in family.controls)):
            turns = [("user", f" 句：{text}\n")]
            if system is not None:
                turns.insert(0, ("system", system))
            assert conversation.prompt_ids(turns) == renderer.prompt_ids(text)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama-3", "gemma-3", "phi-4"])
def test_more_turns_are_the_templates_own(family_of, name):
    tokenizer = family_of(name).tokenizer
    turns = [("system", "专家"), ("user", "你好"), ("assistant", "好"), ("user", "再见")]
    text = apply(tokenizer, [{"role": role, "content": content} for role, content in turns], generation_prompt=True)
    assert Conversation(tokenizer).prompt_ids(turns) == tokenizer.encode(text, add_special_tokens=False)


def test_many_turns_are_not_mistaken_for_each_other(family_of):
    tokenizer = family_of("qwen3").tokenizer
    turns = [("user" if n % 2 == 0 else "assistant", f"第{n}句") for n in range(25)]
    text = apply(tokenizer, [{"role": role, "content": content} for role, content in turns], generation_prompt=True)
    assert Conversation(tokenizer).prompt_ids(turns) == tokenizer.encode(text, add_special_tokens=False)


def test_thinking_is_off_unless_asked_for(family_of):
    tokenizer = family_of("qwen3").tokenizer
    conversation = Conversation(tokenizer)
    off, on = (conversation.prompt_ids([("user", "你好")], thinking=thinking) for thinking in (False, True))
    assert off[: len(on)] == on
    assert "<think>" in tokenizer.decode(off[len(on) :])


def test_an_order_that_the_template_refuses_is_said(family_of):
    with pytest.raises(InputError, match="turns of user, user cannot be rendered"):
        Conversation(family_of("gemma-2").tokenizer).prompt_ids([("user", "a"), ("user", "b")])
