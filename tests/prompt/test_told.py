"""Answers as annotations: read only as they stand, their keys and their sentence for nothing told from themselves."""

from __future__ import annotations

import pytest

from nertune.prompt import ANSWER_FORMATS, KNOWN_ANSWERS, answer_format, likely_options, strict
from nertune.schema import Document, Mention

DOCUMENT = Document.of("方鹏去杭州", [("人名", 0, 2), ("地点", 3, 5)])
MENTIONS = (Mention("人名", "方鹏"), Mention("地点", "杭州"))


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_an_answer_is_read_by_its_own_format_alone(name):
    written = answer_format(name).write(DOCUMENT)
    read = {other: strict(answer_format(other)).read(written) for other in ANSWER_FORMATS}
    assert read.pop(name) == (DOCUMENT if name in ("inline", "xml") else MENTIONS)
    # Marks of the other kind are text like any other.
    assert all(said is None or (isinstance(said, Document) and not said.entities) for said in read.values())


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("json", '[{"label": "a", "text": "甲"}, {"label": "a"}]'),
        ("json", '```json\n[{"label": "a", "text": "甲"}]\n```'),
        ("json", '[{"label": "a", "text": "甲"}'),
        ("jsonl", "Sure: nothing"),
        ("grouped", '{"a": "甲"}'),
        ("inline", "[甲 | a"),
        ("inline", "甲 [笑]"),
        ("xml", "<a>甲"),
        ("xml", "a & b"),
        ("inline", "  "),
    ],
)
def test_what_would_need_a_repair_is_not_read(name, answer):
    form = strict(answer_format(name))
    assert form.read(answer) is None
    assert form.problem(answer).startswith(f"is not sound in the {name} format: ")


def test_keys_and_the_sentence_are_told():
    form = answer_format("jsonl", {"label_key": "类", "text_key": "名", "nothing": "无"})
    answers = [form.write(DOCUMENT), "无。", "无", "[1"]
    names = [reader.name for reader in KNOWN_ANSWERS.readers(answers)]
    assert "jsonl label_key='类' text_key='名' nothing='无'" in names
    assert "json label_key='名' text_key='类'" in names
    options = likely_options(answers)
    assert {"format": "jsonl", "label_key": "类", "text_key": "名", "distinct": False, "nothing": "无"} in options
    assert all(answer_format(option.pop("format"), option) for option in options)
    once = [reader.name for reader in KNOWN_ANSWERS.readers([form.write(DOCUMENT), "Sorry"])]
    assert not any("Sorry" in name for name in once)
    never = [reader.name for reader in KNOWN_ANSWERS.readers(["positive", "negative", "positive"])]
    assert not any("positive" in name for name in never)


def test_labels_that_cannot_be_written_are_known():
    xml, inline = (strict(answer_format(name)) for name in ("xml", "inline"))
    assert (xml.holds("地点"), xml.holds("地 点")) == (True, False)
    assert inline.holds("地 点")
