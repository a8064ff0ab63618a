"""Prompt templates: placeholders filled, everything else literal, files read or refused with a reason."""

from __future__ import annotations

import hashlib
import json
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
    assert builtin_templates() == ("ccfbdci", "cluener", "cluener-alpaca", "cluener-llamafactory", "cmeee", "ner")
    for name in builtin_templates():
        filled = load_template(name).fill(LABELS, "ANSWER")
        assert "地点" in filled.user + (filled.system or "")
        assert ("ANSWER" in filled.user) == (name == "ner")
        assert filled.user.endswith("{text}")


# SHA-256 of system and user part: of runs that were trained on them before labels had descriptions.
UNDESCRIBED = {
    "ccfbdci": "3bc80c051d542ca756219fed8c73549437a9dddb1a2709438883ae907660989e",
    "cluener": "5111526228e002a487c769f5f6f5c50c9eda30a522f6ccb48976d90b35a4e727",
    "cmeee": "5ada8abe806d2e1a477e65f849bffeb74033830a26e9374655426d35d57989cf",
    "ner": "cd1a9a0207a3ddd73aef2d0fa1123c92df70f647719eed32e0a0b0a086d1e864",
}


@pytest.mark.parametrize("name", builtin_templates())
def test_builtin_templates_show_descriptions_and_are_as_they_were_without(name: str) -> None:
    template = load_template(name)
    assert template.has_descriptions
    plain = template.fill(LABELS, "A")
    if name in UNDESCRIBED:
        assert hashlib.sha256(f"{plain.system}\0{plain.user}".encode()).hexdigest() == UNDESCRIBED[name]
    described = template.fill(LabelSet(LABELS.names, {}, {"人名": "人的姓名"}), "A")
    both = f"{described.system}\0{described.user}"
    assert both.count("\n人名：人的姓名") == 1
    assert both.replace("\n人名：人的姓名", "") == f"{plain.system}\0{plain.user}"


def test_a_template_says_whether_descriptions_have_a_place() -> None:
    assert PromptTemplate("{text}{descriptions:=}").has_descriptions
    assert PromptTemplate("{text}", "{descriptions}").has_descriptions
    assert not PromptTemplate("{text}{labels}{ descriptions }").has_descriptions


TUTORIALS = Path(__file__).parents[3] / "shared" / "tutorials"
TEN = "name, organization, scene, company, movie, book, government, position, address, game"
CLUENER = LabelSet(tuple(TEN.split(", ")))
CCFBDCI = LabelSet(("地点", "人名", "地理实体", "组织"))
CMEEE = LabelSet(("mic", "dru", "pro", "ite", "dis", "sym", "equ", "bod", "dep"))


def _published(name: str) -> str:
    path = TUTORIALS / name
    if not path.is_file():
        pytest.skip(f"no published text at {path}")
    return path.read_text(encoding="utf-8")


def _published_row(name: str) -> dict[str, str]:
    (row,) = json.loads(_published(name))
    return row


@pytest.mark.parametrize(
    ("template", "labels", "user"), [("ccfbdci", CCFBDCI, "文本:{text}"), ("cmeee", CMEEE, "{text}")]
)
def test_the_published_system_texts_byte_for_byte(template: str, labels: LabelSet, user: str) -> None:
    filled = load_template(template).fill(labels, "")
    if template == "ccfbdci":  # the same words stand in the rows that the script writes, with a space after them
        assert _published("ccfbdci-instruction.txt") == f"{filled.system} "
    assert filled.system == _published(f"{template}-system.txt")
    assert filled.user == user


def test_the_published_prompts_of_cluener_byte_for_byte() -> None:
    """What each script writes around the sentence; `str.format` fills the first, the third keeps its doubled braces."""
    ours = load_template("cluener").fill(CLUENER, "")
    assert ours.user.replace("{text}", "句") == _published("clue_prompt.txt").format(text="句").removesuffix("\n")
    row = _published_row("alpaca-system-in-instruction.json")
    assert ours.system == row["instruction"]
    assert ours.around_text()[0] + row["input"].rpartition("\n")[2] == row["input"]

    one = load_template("cluener-alpaca").fill(CLUENER, "")
    assert one == PromptTemplate(
        _published_row("alpaca-prompt-in-instruction.json")["instruction"].replace("北京城.", "{text}")
    )
    two = load_template("cluener-llamafactory").fill(CLUENER, "")
    assert two == PromptTemplate(_published_row("alpaca-sentence-in-input.json")["instruction"] + "\n{text}")


def test_a_published_prompt_file_is_a_template_as_it_is() -> None:
    _published("clue_prompt.txt")
    notes: list[str] = []
    template = load_template(str(TUTORIALS / "clue_prompt.txt"), notes)
    assert template == PromptTemplate(load_template("cluener").fill(CLUENER, "").user)
    assert not notes


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('[{{"label": "x"}}]\n{text}\n', '[{"label": "x"}]\n{text}'),
        ('{{"a": {labels:; }}} {text}', '{"a": {labels:; }} {text}'),
        ('[{"label": "x"}]\n{text}', '[{"label": "x"}]\n{text}'),  # no format string: its field has no known name
        ("{{ open {text}", "{ open {text}"),
        ("}} {text}", "}} {text}"),
        ("{{a}} } {text}", "{{a}} } {text}"),  # no format string: a single brace
    ],
)
def test_a_file_is_read_as_the_format_string_that_it_is(tmp_path: Path, written: str, read: str) -> None:
    (tmp_path / "prompt.txt").write_text(written, encoding="utf-8")
    assert load_template(str(tmp_path / "prompt.txt")).user == read


def test_a_placeholder_in_doubled_braces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("{{labels}} {text}", encoding="utf-8")
    with pytest.raises(InputError, match=r"prompt\.txt: holds a placeholder in doubled braces"):
        load_template(str(tmp_path / "prompt.txt"))


def test_doubled_braces_in_a_folder_stay_and_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "user.txt").write_text('如\n[{{"label": "x"}}]\n{text}', encoding="utf-8")
    notes: list[str] = []
    assert load_template(str(tmp_path), notes).user == '如\n[{{"label": "x"}}]\n{text}'
    (note,) = notes
    assert note.startswith(f"{tmp_path / 'user.txt'}: line 2 holds {{{{, which the model will see as it is: ")


def test_templates_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "user.txt").write_bytes("问：{text}\n答：\n".encode())
    assert load_template(str(tmp_path)) == PromptTemplate("问：{text}\n答：")
    (tmp_path / "system.txt").write_bytes("系统\n\n".encode())
    assert load_template(str(tmp_path)) == PromptTemplate("问：{text}\n答：", "系统\n")


def test_unknown_templates_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"'cluner' is neither built in \(ccfbdci, cluener, .*cmeee, ner\)"):
        load_template("cluner")
    with pytest.raises(MissingFileError, match=r"needs a file user\.txt"):
        load_template(str(tmp_path))


def test_a_template_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "user.txt").write_bytes("请识别：{text}".encode("gb18030"))
    with pytest.raises(InputError, match=r"user\.txt:1: is not UTF-8 .*iconv"):
        load_template(str(tmp_path))
