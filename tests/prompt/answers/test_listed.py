"""The json and jsonl formats: what is written comes back, what is not JSON is said, and nothing breaks the reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nertune.errors import InputError
from nertune.extract import ground
from nertune.prompt import AnswerFormat, answer_format
from nertune.schema import Document, Mention, ParseOutcome

JSON, LINES = answer_format("json"), answer_format("jsonl")
CLEAN, REPAIRED, INVALID = ParseOutcome.CLEAN, ParseOutcome.REPAIRED, ParseOutcome.INVALID
NOTHING = "没有找到任何实体"


def occurrences(text: str, surface: str) -> list[int]:
    """Where a surface stands, left to right, without overlaps."""
    starts, start = [], text.find(surface)
    while start >= 0:
        starts.append(start)
        start = text.find(surface, start + len(surface))
    return starts


@st.composite
def lossless_documents(draw: st.DrawFn) -> Document:
    """Documents that a list of mentions can hold: of every surface the *first* occurrences are annotated, once each;
    a surface that occurs once may have several labels. Overlap, nesting and crossing are no matter.
    """
    text = draw(st.text(min_size=1, max_size=20) | st.text('甲乙 "\\\n😀{}[]', min_size=1, max_size=20))
    labels = st.sampled_from(["name", "地点", '"'])
    spans: set[tuple[str, int, int]] = set()
    done: set[str] = set()
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(text) - 1))
        surface = text[start : draw(st.integers(start + 1, len(text)))]
        starts = occurrences(text, surface)
        if surface in done:
            continue
        done.add(surface)
        if len(starts) == 1:
            chosen = draw(st.sets(labels, min_size=1))
            spans |= {(label, starts[0], starts[0] + len(surface)) for label in chosen}
        else:
            count = draw(st.integers(1, len(starts)))
            spans |= {(draw(labels), start, start + len(surface)) for start in starts[:count]}
    return Document.of(text, spans)


@pytest.mark.parametrize("form", [answer_format("json", {"distinct": False}), LINES], ids=["json", "jsonl"])
@settings(max_examples=200, deadline=None)
@given(document=lossless_documents())
def test_documents_come_back(form: AnswerFormat, document: Document) -> None:
    parsed = form.parse(form.write(document))
    assert parsed.outcome is CLEAN
    assert ground(document.text, parsed) == (document.entities, ())


def test_distinct_lists_each_pair_once() -> None:
    document = Document.of("桂桂叶桂", [("n", 0, 1), ("n", 1, 2), ("p", 1, 2), ("n", 2, 3)])
    expected = [Mention("n", "桂"), Mention("p", "桂"), Mention("n", "叶")]
    assert list(JSON.parse(JSON.write(document)).mentions) == expected
    assert list(answer_format("jsonl", {"distinct": True}).parse(LINES.write(document)).mentions) == [
        Mention("n", "桂"),
        Mention("n", "桂"),
        Mention("p", "桂"),
        Mention("n", "叶"),
    ]
    assert answer_format("jsonl", {"distinct": True}).write(document).count("\n") == 2


def test_json_is_written_as_the_recipes_do() -> None:
    document = Document.of("叶老桂", [("name", 0, 3)])
    assert JSON.write(document) == '[{"label": "name", "text": "叶老桂"}]'
    assert JSON.write(Document("无")) == "[]"
    assert LINES.write(document) == '{"entity_text": "叶老桂", "entity_label": "name"}'
    assert LINES.write(Document("无")) == NOTHING


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_keys_are_configurable(name: str) -> None:
    form = answer_format(name, {"label_key": "类别", "text_key": "名称"})
    answer = form.write(Document.of("桂", [("n", 0, 1)]))
    assert set(json.loads(answer)[0] if name == "json" else json.loads(answer)) == {"类别", "名称"}
    assert form.parse(answer).mentions == (Mention("n", "桂"),)
    assert "类别" in form.instruction
    assert answer_format(name, form.options()) == form


ROW = '{"label": "n", "text": "桂"}'


@pytest.mark.parametrize(
    ("answer", "outcome", "count"),
    [
        (f"[{ROW}]", CLEAN, 1),
        (f" [{ROW}, {ROW}]\n", CLEAN, 2),
        ("[]", CLEAN, 0),
        (ROW, REPAIRED, 1),
        (f"```json\n[{ROW}]\n```", REPAIRED, 1),
        (f"```\n[{ROW}]\n```\n", REPAIRED, 1),
        (f"[{ROW}, {ROW}", REPAIRED, 2),
        (f'[{ROW}, {{"label": "n", "te', REPAIRED, 1),
        (f"[{ROW},]", REPAIRED, 1),
        ("[{'label': 'n', 'text': '桂'}]", REPAIRED, 1),
        (f"[{ROW}]\n以上是全部实体。", REPAIRED, 1),
        (f"[{ROW}, 3, null, [], {{}}]", REPAIRED, 1),
        (f'[{ROW}, {{"label": "n"}}]', REPAIRED, 1),
        (f'[{ROW}, {{"label": ["n"], "text": "桂"}}]', REPAIRED, 1),
        (f'[{ROW}, {{"label": "n", "text": ""}}]', REPAIRED, 1),
        (f'[{ROW}, {{"label": "n", "text": "\\ud83d"}}]', REPAIRED, 1),
        ('[{"label": "n"}]', INVALID, 0),
        ('[{"标签": "n", "text": "桂"}]', INVALID, 0),
        ("[1, 2]", INVALID, 0),
        ('"桂"', INVALID, 0),
        ("3", INVALID, 0),
        ("null", INVALID, 0),
        ("", INVALID, 0),
        ("没有实体。", INVALID, 0),
    ],
)
def test_json_outcomes(answer: str, outcome: ParseOutcome, count: int) -> None:
    parsed = JSON.parse(answer)
    assert parsed.outcome is outcome
    assert parsed.mentions == (Mention("n", "桂"),) * count


LINE = '{"entity_text": "桂", "entity_label": "n"}'


@pytest.mark.parametrize(
    ("answer", "outcome", "count"),
    [
        (NOTHING, CLEAN, 0),
        (f" {NOTHING}。\n", CLEAN, 0),
        (LINE, CLEAN, 1),
        (f"{LINE}\n{LINE}\n", CLEAN, 2),
        (f"{LINE}{LINE} {LINE}", CLEAN, 3),
        (f"{LINE}\n\n{LINE}", CLEAN, 2),
        (f'{LINE}\n{{"entity_text": "桂", "ent', REPAIRED, 1),
        (f"实体如下：\n{LINE}\n{LINE}", REPAIRED, 2),
        (f"```json\n{LINE}\n```", REPAIRED, 1),
        (f"{LINE}\n{NOTHING}", REPAIRED, 1),
        (f'{LINE}\n{{"entity_text": 3, "entity_label": "n"}}', REPAIRED, 1),
        (f"[{LINE}]", INVALID, 0),
        ('{"label": "n", "text": "桂"}', INVALID, 0),
        ("", INVALID, 0),
        ("\n \n", INVALID, 0),
        ("抱歉", INVALID, 0),
    ],
)
def test_jsonl_outcomes(answer: str, outcome: ParseOutcome, count: int) -> None:
    parsed = LINES.parse(answer)
    assert parsed.outcome is outcome
    assert parsed.mentions == (Mention("n", "桂"),) * count


@pytest.mark.parametrize("form", [JSON, LINES], ids=["json", "jsonl"])
@settings(max_examples=150, deadline=None)
@given(answer=st.text(max_size=80) | st.text('[]{}",:\\ a1\n`', max_size=80))
def test_any_answer_can_be_read(form: AnswerFormat, answer: str) -> None:
    parsed = form.parse(answer)
    assert parsed.outcome is not INVALID or parsed.mentions == ()
    assert all(mention.label and mention.text for mention in parsed.mentions)
    assert (parsed.copy, parsed.placed) == (None, ())


@pytest.mark.parametrize("form", [JSON, LINES], ids=["json", "jsonl"])
@pytest.mark.parametrize(
    "answer",
    [
        "[" * 10_000,
        "[" * 10_000 + "]" * 10_000,
        '{"a": ' * 10_000,
        "[ " * 10_000,
        '[{"text": ' * 300,
        '[{"label": "n", "text": "桂"}, ' * 7_000,
        "[" + "9" * 5_000 + "]",
        '["' + "桂" * 200_000,
        "桂" * 200_000,
        "\n" * 200_000 + "x",
        '{"entity_text": "桂\n' * 10_000,
        "```json\n" * 20_000,
        "```json\n" + "\n " * 100_000 + "x",
        "```json" + "\n" * 200_000 + "```",
        "[" + "\\" * 3_990,
        "{" + '"' * 3_990,
    ],
    ids=lambda answer: answer[:12],
)
def test_monstrous_answers_are_not_read(form: AnswerFormat, answer: str) -> None:
    parsed = form.parse(answer)
    assert parsed.outcome is not CLEAN
    assert all(mention.text for mention in parsed.mentions)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("inlin", {}, "unknown answer format 'inlin'; did you mean 'inline'.*Known: inline, xml, json, jsonl, grouped"),
        ("xyz", {}, "unknown answer format 'xyz'. Known"),
        ("inline", {"distinct": True}, "'inline' has no option 'distinct'. Options: depth"),
        ("json", {"nothing": "x"}, "'json' has no option 'nothing'. Options: label_key, text_key, distinct"),
        ("json", {"name": "x"}, "no option 'name'"),
        ("jsonl", {"nothing": ""}, "'nothing' of answer format 'jsonl' must be a str, found ''"),
        ("jsonl", {"distinct": "no"}, "must be a bool, found 'no'"),
        ("json", {"label_key": "text"}, "label_key and text_key are both 'text'"),
        ("inline", {"depth": True}, "'depth' of answer format 'inline' must be a int, found True"),
        ("xml", {"depth": 0}, "it must be from 1 to 16"),
    ],
)
def test_unknown_formats_and_options(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        answer_format(name, options)
