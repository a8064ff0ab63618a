"""`nertune data convert` to rows for LLMs: the published layouts, prompts and labels of recipes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune import data
from nertune.cli import main
from nertune.data import AlpacaRow
from nertune.prompt import KNOWN_ANSWERS
from nertune.schema import Document

TUTORIALS = Path(__file__).parents[2] / "shared" / "tutorials"
LABELS = "name,organization,scene,company,movie,book,government,position,address,game"
BANK = "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。叶老桂认为，对目前国内商业银行而言，"
CELTIC = "凯尔特人在苏格兰赛场连胜7场，不过连胜含金量要打折扣。双方首回合交锋奥尔堡客场逼平凯尔特人。"
SOURCES = {
    "prompt-in-instruction": Document.of("北京城.", [("address", 0, 3)]),
    "sentence-in-input": Document.of(BANK, [("name", 9, 12), ("name", 32, 35), ("company", 0, 4)]),
    "system-in-instruction": Document.of(
        CELTIC,
        [("organization", 5, 8), ("organization", 34, 37), ("organization", 41, 45), ("organization", 0, 4)],
    ),
}
TEMPLATES = {
    "prompt-in-instruction": "cluener-alpaca",
    "sentence-in-input": "cluener-llamafactory",
    "system-in-instruction": "cluener",
}


def convert(source: Path, target: Path, *options: str) -> int:
    return main(["data", "convert", str(source), str(target), "--to", "alpaca", *options])


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    data.write(
        [
            Document.of("叶老桂在浙商银行", [("name", 0, 3), ("company", 4, 8)]),
            Document("天晴"),
            Document.of("浙商银行开门", [("company", 0, 4)]),
        ],
        path,
        format="entities",
    )
    return path


def sorted_answers(text: str) -> str:
    """The file with each answer's objects in one order: the scripts list them as CLUENER's file does, nertune as the text."""
    rows = json.loads(text)
    for row in rows:
        row["output"] = json.dumps(sorted(json.loads(row["output"]), key=str), ensure_ascii=False)
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


@pytest.mark.parametrize("layout", SOURCES)
def test_the_published_rows_byte_for_byte(layout, tmp_path, capsys):
    published = TUTORIALS / f"alpaca-{layout}.json"
    if not published.is_file():
        pytest.skip(f"no published rows at {published}")
    expected = published.read_text(encoding="utf-8")
    source, target = tmp_path / "in.jsonl", tmp_path / "rows.json"
    data.write([SOURCES[layout]], source, format="cluener")
    assert convert(source, target, "--layout", layout, "--template", TEMPLATES[layout], "--labels", LABELS) == 0
    written = target.read_text(encoding="utf-8")
    assert sorted_answers(written) == sorted_answers(expected)
    before, after = written.partition('"output"')[0], expected.partition('"output"')[0]
    assert before == after
    if layout == "prompt-in-instruction":
        assert written == expected
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    assert info == {"rows": {"file_name": "rows.json"}}
    # Both are read as the document that they were made of.
    kept = data.read(target, answers=KNOWN_ANSWERS).documents
    assert kept[0].text == SOURCES[layout].text
    mentions = {(e.label, e.text) for e in SOURCES[layout].entities}
    assert {(e.label, e.text) for e in kept[0].entities} == mentions
    read = data.read(published, answers=KNOWN_ANSWERS).documents
    assert {(e.label, e.text) for e in read[0].entities} == mentions


@pytest.mark.parametrize("layout", SOURCES)
@pytest.mark.parametrize("template", ["cluener", "ner", "ccfbdci", "cmeee"])
def test_each_layout_is_read_back(layout, template, annotated, tmp_path):
    target = tmp_path / "rows.jsonl"
    assert convert(annotated, target, "--layout", layout, "--template", template) == 0
    assert data.read(target, answers=KNOWN_ANSWERS).documents == data.read(annotated).documents
    rows = [AlpacaRow(**json.loads(line)) for line in target.read_text(encoding="utf-8").splitlines()]
    assert all((row.system is None) is (layout == "system-in-instruction") for row in rows)
    assert all((row.input == "") is (layout == "prompt-in-instruction") for row in rows)


def test_labels_stand_in_the_order_that_is_given(annotated, tmp_path, capsys):
    target = tmp_path / "rows.json"
    assert convert(annotated, target, "--labels", "scene, name,company") == 0
    assert "\nscene, name, company\n" in json.loads(target.read_text(encoding="utf-8"))[0]["instruction"]
    assert convert(annotated, tmp_path / "other.json", "--labels", "name,scene") == 2
    assert "in.jsonl: labels that are not listed: company. Add them" in capsys.readouterr().err
    assert not (tmp_path / "other.json").exists()


RECIPE = """
model: nowhere
output: runs/x
data: {train: x.jsonl, label_map: {company: 机构}}
labels: [机构, name]
prompt: {system: 专家, user: "找出{labels}\\n{text}"}
answer: {format: jsonl, text_key: t, label_key: l}
"""


def test_prompt_answer_labels_and_map_are_those_of_a_recipe(annotated, tmp_path):
    recipe, target = tmp_path / "recipe.yaml", tmp_path / "rows.json"
    recipe.write_text(RECIPE, encoding="utf-8")
    assert convert(annotated, target, "--recipe", str(recipe)) == 0
    row = json.loads(target.read_text(encoding="utf-8"))[0]
    assert row == {
        "instruction": "找出机构, name",
        "input": "叶老桂在浙商银行",
        "output": '{"t": "叶老桂", "l": "name"}\n{"t": "浙商银行", "l": "机构"}',
        "system": "专家",
    }
    # What is said on the command line goes before the recipe.
    options = ["--recipe", str(recipe), "--answer", "json", "--template", "cluener-alpaca", "--labels", "name,机构"]
    assert convert(annotated, target, *options) == 0
    row = json.loads(target.read_text(encoding="utf-8"))[0]
    assert row["instruction"].startswith("你是一个文本实体识别领域的专家，请从给定的句子中")
    assert "\nname, 机构\n" in row["instruction"]
    assert row["output"] == '[{"label": "name", "text": "叶老桂"}, {"label": "机构", "text": "浙商银行"}]'
    assert "system" not in row


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "sharegpt", "--layout", "sentence-in-input"], "sharegpt has turns instead of columns"),
        (
            ["--to", "entities", "--labels", "a,b"],
            "--labels a,b: entities has no prompts; it is for alpaca and sharegpt",
        ),
        (["--layout", "system-in-instruction", "--template", "cluener-alpaca"], "the prompt has no system sentence"),
        (["--task", "x"], "--task is one of a recipe's tasks: name the recipe"),
        (["--recipe", "nowhere.yaml"], "recipe nowhere.yaml: no such file"),
    ],
)
def test_what_does_not_go_together_is_refused(options, said, annotated, tmp_path, capsys):
    assert convert(annotated, tmp_path / "rows.json", *options) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "rows.json").exists()


def test_doubled_braces_of_a_template_folder_are_warned_of(annotated, tmp_path, capsys):
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "user.txt").write_text('[{{"label": "x"}}]\n{text}', encoding="utf-8")
    assert convert(annotated, tmp_path / "rows.json", "--template", str(folder)) == 0
    assert "user.txt: line 1 holds {{, which the model will see as it is" in capsys.readouterr().err
