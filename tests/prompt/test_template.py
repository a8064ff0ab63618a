"""Prompt templates: placeholders filled, everything else literal, files read or refused with a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from nertune.errors import InputError, MissingFileError
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format, builtin_templates, load_template
from nertune.schema import LabelSet

LABELS = LabelSet(("地点", "人名"))


@pytest.mark.parametrize(
    ("user", "filled"),
    [
        ("{labels}|{text}", "地点, 人名|{text}"),
        ("{labels:; }|{text}", "地点; 人名|{text}"),
        ("{labels:、}{labels:\n}|{text}", "地点、人名地点\n人名|{text}"),
        ("{labels:}|{text}", "地点, 人名|{text}"),
        ("{answer_format}|{text}|{answer_format}", "A|{text}|A"),
        ('{"a": {b}} {} {{labels}} {Labels} { text } |{text}', '{"a": {b}} {} {地点, 人名} {Labels} { text } |{text}'),
    ],
)
def test_placeholders(user: str, filled: str) -> None:
    assert PromptTemplate(user, user.replace("{text}", "")).fill(LABELS, "A") == PromptTemplate(
        filled, filled.replace("{text}", "")
    )


def test_around_text() -> None:
    assert PromptTemplate("前{x}{text}后{y}").around_text() == ("前{x}", "后{y}")


@pytest.mark.parametrize(("user", "found"), [("", 0), ("{ text }", 0), ("{text}{text}", 2)])
def test_the_user_part_needs_the_text_once(user: str, found: int) -> None:
    with pytest.raises(InputError, match=rf"needs {{text}} exactly once, found {found} times"):
        PromptTemplate(user)


def test_the_system_part_has_no_text() -> None:
    with pytest.raises(InputError, match="not in its system part"):
        PromptTemplate("{text}", "判断 {text}")


@pytest.mark.parametrize(
    "text", ["{labels}", "{text}", "{text}{labels:; }{answer_format}", "{}{{x}}", "{{ bos_token }}"]
)
def test_placeholders_in_a_text_are_text(family_of: Any, text: str) -> None:
    renderer = Renderer(
        family_of("phi-4").tokenizer,
        PromptSpec(PromptTemplate("{labels}句：{text}完", "S"), LABELS, answer_format("inline")),
    )
    assert renderer.prompt_text(text) == (
        "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>地点, 人名句："
        f"{text}完<|im_end|><|im_start|>assistant<|im_sep|>"
    )
    assert renderer.tokenizer.decode(renderer.prompt_ids(text)) == renderer.prompt_text(text)


def test_builtin_templates_can_be_used() -> None:
    assert builtin_templates() == ("ccfbdci", "cluener", "cmeee", "ner")
    for name in builtin_templates():
        filled = load_template(name).fill(LABELS, "ANSWER")
        assert "地点" in filled.user + filled.system
        assert ("ANSWER" in filled.user) == (name == "ner")
        assert filled.user.endswith("{text}")


# SHA-256 of system and user part: of runs that were trained on them before labels had descriptions.
UNDESCRIBED = {
    "ccfbdci": "3bc80c051d542ca756219fed8c73549437a9dddb1a2709438883ae907660989e",
    "cluener": "5111526228e002a487c769f5f6f5c50c9eda30a522f6ccb48976d90b35a4e727",
    "cmeee": "7af9b9aaa436d55c0a0b8652355d21dc711b1cef410bc1d5e8d0cdeaba83d62e",
    "ner": "cd1a9a0207a3ddd73aef2d0fa1123c92df70f647719eed32e0a0b0a086d1e864",
}


@pytest.mark.parametrize("name", builtin_templates())
def test_builtin_templates_show_descriptions_and_are_as_they_were_without(name: str) -> None:
    template = load_template(name)
    assert template.has_descriptions
    plain = template.fill(LABELS, "A")
    assert hashlib.sha256(f"{plain.system}\0{plain.user}".encode()).hexdigest() == UNDESCRIBED[name]
    described = template.fill(LabelSet(LABELS.names, {}, {"人名": "人的姓名"}), "A")
    both = f"{described.system}\0{described.user}"
    assert both.count("\n人名：人的姓名") == 1
    assert both.replace("\n人名：人的姓名", "") == f"{plain.system}\0{plain.user}"


def test_a_template_says_whether_descriptions_have_a_place() -> None:
    assert PromptTemplate("{text}{descriptions:=}").has_descriptions
    assert PromptTemplate("{text}", "{descriptions}").has_descriptions
    assert not PromptTemplate("{text}{labels}{ descriptions }").has_descriptions


def test_the_ccfbdci_prompt_is_the_tutorials() -> None:
    filled = load_template("ccfbdci").fill(LabelSet(("地点", "人名", "地理实体", "组织")), "")
    assert filled.user == "文本:{text}"
    assert filled.system == (
        "你是一个文本实体识别领域的专家，你需要从给定的句子中提取 地点; 人名; 地理实体; 组织 实体. 以 json 格式输出, "
        '如 {"entity_text": "南京", "entity_label": "地理实体"} 注意: 1. 输出的每一行都必须是正确的 json 字符串. '
        '2. 找不到任何实体时, 输出"没有找到任何实体".'
    )


def test_templates_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "user.txt").write_bytes("问：{text}\n答：\n".encode())
    assert load_template(str(tmp_path)) == PromptTemplate("问：{text}\n答：")
    (tmp_path / "system.txt").write_bytes("系统\n\n".encode())
    assert load_template(str(tmp_path)) == PromptTemplate("问：{text}\n答：", "系统\n")


def test_unknown_templates_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"'cluner' is neither built in \(ccfbdci, cluener, cmeee, ner\)"):
        load_template("cluner")
    with pytest.raises(MissingFileError, match=r"needs a file user\.txt"):
        load_template(str(tmp_path))


def test_a_template_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "user.txt").write_bytes("请识别：{text}".encode("gb18030"))
    with pytest.raises(InputError, match=r"user\.txt: not UTF-8 .*at byte"):
        load_template(str(tmp_path))
