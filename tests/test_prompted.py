"""Rows for LLMs: whatever a prompt and an answer format write of documents is read back from the file alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nertune import data
from nertune.cli import main
from nertune.data.loss import Expressed
from nertune.prompt import ANSWER_FORMATS, KNOWN_ANSWERS, PromptSpec, PromptTemplate, answer_format, load_template
from nertune.prompt import strict as strictly
from nertune.prompted import ROWS, PromptedRows
from nertune.schema import Document, LabelSet

LABELS = ("人名", "地点", "x-1")
SIGNS = "甲乙丙ab []|\\<>&\"'{}:,，。\n\t\r😀e\u0301\u200d"
FIRST, LAST = Document.of("方鹏去杭州。", [("人名", 0, 2), ("地点", 3, 5)]), Document.of("邱岳！", [("人名", 0, 2)])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(st.sampled_from(SIGNS) | st.characters(codec="utf-8", exclude_characters="\0"), max_size=12))
    spans = draw(
        st.lists(st.tuples(st.sampled_from(LABELS), st.integers(0, len(text)), st.integers(0, len(text))), max_size=5)
    )
    return Document.of(text, dict.fromkeys((label, a, b) for label, a, b in spans if a < b))


def rows(form: str, answer: str, template: PromptTemplate | None = None) -> PromptedRows:
    chosen = strictly(answer_format(answer)).form
    return PromptedRows(form, PromptSpec(template or load_template("ner"), LabelSet(LABELS), chosen))


def written(target: Path, writer: PromptedRows, given: list[Document]) -> list[Document]:
    """The documents as the format holds them, which were written."""
    expressed = [writer.express(document).document for document in given]
    kept = [document for document in expressed if document is not None]
    writer.write(kept, target)
    return kept


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("answer", ANSWER_FORMATS)
@pytest.mark.parametrize("form", ROWS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(documents(), max_size=4))
def test_whatever_is_written_is_read_back(tmp_path, form, answer, name, given):
    writer = rows(form, answer)
    kept = written(tmp_path / name, writer, [FIRST, *given, LAST])
    found = data.read(tmp_path / name, answers=KNOWN_ANSWERS)
    assert found.format == form
    assert list(found.documents) == kept
    assert all(writer.express(document) == Expressed(document) for document in kept)


@pytest.mark.parametrize("answer", ANSWER_FORMATS)
@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize(
    "template",
    [
        PromptTemplate("文本:{text}"),
        PromptTemplate("{text}", "找出实体"),
        PromptTemplate("Find the entities of “{text}” and list them.", "An expert"),
        PromptTemplate("一\n二：\n{text}\n答："),
        PromptTemplate("例：\n<输入文本>\n甲\n答：[]\n<输入文本>\n{text}"),
        PromptTemplate("{labels}，{answer_format}：{text}"),
    ],
    ids=["name", "nothing", "quoted", "after", "examples", "colon"],
)
def test_the_sentence_is_found_in_any_prompt(tmp_path, form, answer, template):
    given = [
        Document.of(f"{name}去{place}{n}", [("人名", 0, len(name)), ("地点", len(name) + 1, len(name) + 3)])
        for name in ("方鹏", "林屿", "许若彤")
        for n, place in enumerate(("杭州", "青川", "漠北"))
    ]
    kept = written(tmp_path / "a.json", rows(form, answer, template), given)
    with data.open_rows(tmp_path / "a.json", answers=KNOWN_ANSWERS) as reading:
        found = list(reading)
        notes = "\n".join(reading.notes())
    assert [row.document for row in found] == kept == given
    assert f"answers: {'json or jsonl' if 'json' in answer else answer}, read in 9 of 9 rows" in notes
    assert {row.raw.asked.answer for row in found} == {rows(form, answer).spec.answer.write(d) for d in given}
    if template.system is not None:
        assert found[0].raw.asked.system == template.system


@pytest.mark.parametrize("form", ROWS)
def test_other_keys_and_another_sentence_for_nothing_are_told_from_the_answers(tmp_path, form):
    options = {"label_key": "类", "text_key": "名", "nothing": "无实体。"}
    spec = PromptSpec(load_template("ner"), LabelSet(LABELS), answer_format("jsonl", options))
    given = [FIRST, Document("天晴"), LAST, Document("无人出门")]
    kept = written(tmp_path / "a.json", PromptedRows(form, spec), given)
    found = data.read(tmp_path / "a.json", answers=KNOWN_ANSWERS)
    assert list(found.documents) == kept == given
    assert "answers: jsonl label_key='类' text_key='名' nothing='无实体', read in 4 of 4 rows" in found.notes


def test_what_an_answer_does_not_tell_is_named(tmp_path):
    twice = Document.of("甲甲", [("x-1", 1, 2)], id="7")
    document, losses = rows("alpaca", "json").express(twice)
    assert document == Document.of("甲甲", [("x-1", 0, 1)])
    assert [(loss.kind.split()[:2], loss.left_out) for loss in losses] == [(["ids"], False), (["the", "places"], False)]
    both = Document.of("甲甲", [("x-1", 0, 1), ("x-1", 1, 2)])
    document, losses = rows("alpaca", "json").express(both)
    assert document == Document.of("甲甲", [("x-1", 0, 1)])
    assert [(loss.kind.split()[0], loss.left_out) for loss in losses] == [("repeated", False)]
    assert rows("alpaca", "jsonl").express(both) == Expressed(both)
    assert rows("sharegpt", "inline").express(twice).document == Document.of("甲甲", [("x-1", 1, 2)])
    assert rows("alpaca", "json").express(Document(" \n")).document is None
    crossing = Document.of("甲乙丙丁", [("x-1", 0, 3), ("x-1", 2, 4)])
    assert rows("alpaca", "xml").express(crossing).document == Document.of("甲乙丙丁", [("x-1", 0, 3)])
    deep = Document.of("甲" * 40, [("x-1", n, 40 - n) for n in range(18)])
    assert rows("alpaca", "inline").express(deep).document is None


@pytest.mark.parametrize("answer", ANSWER_FORMATS)
@pytest.mark.parametrize("form", ROWS)
def test_conversion_to_rows_and_back(tmp_path, capsys, form, answer):
    source, target, back = (str(tmp_path / name) for name in ("a.jsonl", "b.json", "c.jsonl"))
    data.write([FIRST, Document("天晴"), LAST], source, format="entities")
    assert main(["data", "convert", source, target, "--to", form, "--answer", answer]) == 0
    assert main(["data", "convert", target, back]) == 0
    assert f"{target}: {form}, 3 documents" in " ".join(capsys.readouterr().err.split())
    assert Path(back).read_bytes() == Path(source).read_bytes()
    assert main(["data", "convert", str(tmp_path), back]) == 0  # by dataset_info.json
    assert Path(back).read_bytes() == Path(source).read_bytes()


def test_what_was_not_read_is_listed_with_its_line(tmp_path, capsys):
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    lines = [{"instruction": "找", "input": f"甲{n}", "output": "[]" if n else "Sorry"} for n in range(5)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["data", "convert", str(source), str(target)]) == 3
    said = capsys.readouterr().err
    assert "1 document was not read and left out" in " ".join(said.split())
    (listed,) = [json.loads(line) for line in Path(f"{target}.left-out.jsonl").read_text("utf-8").splitlines()]
    assert listed["line"] == 1
    assert listed["document"].startswith("not read: 'output' is not JSON")
