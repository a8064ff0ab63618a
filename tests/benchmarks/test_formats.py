"""The comparison of answer formats: its table, its recipes, and the examples of the page that it writes into."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nertune import cli, data
from nertune.errors import InputError
from nertune.evaluate import Evaluation, evaluate
from nertune.extract.ground import ground
from nertune.prompt import ANSWER_FORMATS, answer_format
from nertune.run import MANIFEST
from nertune.schema import Document, Entity, Prediction
from nertune.train import load_recipe

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.fixture
def module(monkeypatch):
    """A function from a benchmark's name to its module; they import each other by name, as scripts of one folder do."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module


def _evaluation(right: int = 3, wrong: int = 1, documents: int = 4) -> Evaluation:
    gold = [Document.of("李华走", [("人名", 0, 2)])] * documents
    found = [Prediction("李华走", (Entity("人名", 0, 2, "李华"),))] * right
    missed = [Prediction("李华走", (Entity("人名", 0, 1, "李"),))] * wrong
    return evaluate(gold, [*found, *missed])


def _row(module, name: str, **changes: Any):
    counts = {measure: [(1, 1, 1)] * 3 + [(0, 1, 1)] for measure in ("text", "span")}
    given = {"held": _evaluation(), "free": _evaluation(2, 2), "tokens": 41.25, "counts": counts}
    return module("formats_table").Row(name, **{**given, **changes})


# ---- The page


def _blocks() -> dict[str, str]:
    """The indented block below each heading that names a format, and the document that all of them write."""
    found = {}
    for name in ANSWER_FORMATS:
        section = PAGE.partition(f"### `{name}`\n")[2].partition("\n#")[0]
        found[name] = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    return found


@pytest.fixture
def example(tmp_path):
    path = tmp_path / "example.jsonl"
    path.write_text(re.search(r'^    (\{"text".*\})$', PAGE, re.M)[1], encoding="utf-8")
    return data.read(path).documents[0]


def test_the_example_has_nested_and_repeated_entities(example):
    assert example.text == "南京大学的李华回到南京。"
    assert [(e.label, e.start, e.end) for e in example.entities] == [
        ("机构", 0, 4),
        ("地点", 0, 2),
        ("人名", 5, 7),
        ("地点", 9, 11),
    ]


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_the_page_shows_what_each_format_writes(example, name):
    assert _blocks()[name] == answer_format(name).write(example)


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_the_page_says_how_many_entities_come_back(example, name):
    form = answer_format(name)
    back = ground(example.text, form.parse(form.write(example))).entities
    assert set(back) <= set(example.entities)
    heads, cells = (
        re.search(rf"^\| {start}.*$", PAGE, re.M)[0].split(" | ") for start in (r"\| `inline`", "entities of")
    )
    assert cells[[head.strip(" `|") for head in heads].index(name)].strip(" |") == f"{len(back)} of 4"


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_the_page_lists_each_formats_options(name):
    heads, cells = (re.search(rf"^\| {start}.*$", PAGE, re.M)[0].split(" | ") for start in (r"\| `inline`", "options"))
    cell = cells[[head.strip(" `|") for head in heads].index(name)]
    said = set(re.findall(r"`(\w+)`", cell)) | (set(answer_format("json").options()) if "the same" in cell else set())
    assert said == set(answer_format(name).options())


def _spans(name: str, document: Document) -> list[tuple[str, int]]:
    form = answer_format(name)
    return [(e.label, e.start) for e in ground(document.text, form.parse(form.write(document))).entities]


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_the_page_is_right_about_repeated_mentions(name):
    second = Document.of("北京路不在北京。", [("地点", 5, 7)])
    person = Document.of("华盛顿去了华盛顿，华盛顿说。", [("人", 0, 3), ("地", 5, 8), ("人", 9, 12)])
    assert all(document.text in PAGE for document in (second, person))
    marked = name in ("inline", "xml")
    assert _spans(name, second) == [("地点", 5 if marked else 0)]
    if name == "grouped":
        assert _spans(name, person) == [("人", 0), ("人", 5), ("地", 9)]
    elif marked:
        assert _spans(name, person) == [("人", 0), ("地", 5), ("人", 9)]


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_the_page_is_right_about_entities_that_cross(name):
    crossing = Document.of("甲乙丙丁戊己", [("一", 0, 4), ("二", 2, 6)])
    assert (answer_format(name).refusal(crossing) is not None) == (name in ("inline", "xml"))


@pytest.mark.parametrize(
    ("name", "text", "written"), [("inline", "价格[含税]", r"价格\[含税\]"), ("xml", "Q&A", "Q&amp;A")]
)
def test_the_page_shows_what_is_escaped(name, text, written):
    assert answer_format(name).write(Document(text)) == written
    assert f"`{text}` is written" in PAGE
    assert f"`{written}`" in PAGE


def test_the_page_has_a_place_for_the_table(module):
    table = module("formats_table")
    assert table.between_marks(PAGE, "| a |").count("| a |") == 1


# ---- The table


def test_the_table_has_a_line_for_each_format(module):
    lines = module("formats_table").table([_row(module, "inline"), _row(module, "xml")]).splitlines()
    assert [line.count("|") for line in lines] == [11] * 4
    interval = _evaluation().metrics["text"].micro.ci95
    assert lines[2].startswith(f"| `inline` | 0.750 ({interval[0]:.3f}–{interval[1]:.3f}) | ")
    assert lines[2].endswith("| 0 | 0 | 0.500 | 0.500 | 0 | 0 | 41.2 |")


def test_speeds_stand_in_the_table_only_where_some_were_measured(module):
    timed = _row(module, "xml", sentences_per_second=3.456, samples_per_second=1.5)
    lines = module("formats_table").table([_row(module, "inline"), timed]).splitlines()
    assert lines[0].endswith("| sentences/s | training samples/s |")
    assert lines[2].endswith("| — | — |")
    assert lines[3].endswith("| 3.46 | 1.50 |")


def test_writing_the_table_twice_leaves_one(module):
    between_marks = module("formats_table").between_marks
    once = between_marks(PAGE, "| one |")
    twice = between_marks(once, "| another |")
    assert "| one |" not in twice
    assert twice.replace("| another |", "| one |") == once


def test_a_page_without_marks_is_refused(module):
    with pytest.raises(ValueError, match="needs the lines"):
        module("formats_table").between_marks("no marks", "table")


def test_a_paired_difference_is_that_of_the_micro_f1(module):
    random = np.random.default_rng(1)
    counts = [(int(hits), 4, 4) for hits in random.integers(0, 5, 200)]
    worse = [(max(0, hits - 1), predicted, gold) for hits, predicted, gold in counts]
    middle, low, high = module("formats_table").difference(worse, counts)
    hits, fewer = (sum(row[0] for row in rows) / 800 for rows in (counts, worse))
    assert middle == pytest.approx(fewer - hits)
    # Nearly every document lost one hit, so the difference is far surer than either F1.
    assert low < middle < high < 0
    assert high - low < 0.03


def test_equal_predictions_do_not_differ(module):
    assert module("formats_table").difference([(1, 2, 3)] * 5, [(1, 2, 3)] * 5) == (0, 0, 0)


def test_formats_are_compared_with_the_first(module):
    told = module("formats_table").differences([_row(module, "inline"), _row(module, "xml")])
    assert told.startswith("F1 `span` less that of `inline`")
    assert "`xml` +0.000 (+0.000 to +0.000)" in told
    assert module("formats_table").differences([_row(module, "inline")]) == ""


# ---- The runs


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "train.jsonl"
    data.write(
        [Document.of(f"李华去杭州{n}次", [("人名", 0, 2), ("地点", 3, 5)]) for n in range(4)], path, format="entities"
    )
    return str(path)


def test_the_recipe_that_all_formats_share_is_written_once(module, corpus, tmp_path):
    runs, out = module("formats_runs"), tmp_path / "out"
    path = runs.common_recipe(out, corpus, 3)
    recipe = load_recipe(path)
    assert (recipe.model, recipe.labels, recipe.data.limit) == ("builtin:gemma3-270m", ("人名", "地点"), 3)
    changed = {**yaml.safe_load(path.read_text(encoding="utf-8")), "model": "another"}
    path.write_text(yaml.safe_dump(changed), encoding="utf-8")
    assert load_recipe(runs.common_recipe(out, corpus, 3)).model == "another"
    with pytest.raises(InputError, match=r"trains on 3 sentences of .*, and not on 4 of"):
        runs.common_recipe(out, corpus, 4)


def test_runs_of_other_recipes_are_not_compared(module, corpus, tmp_path):
    runs, out = module("formats_runs"), tmp_path / "out"
    path = runs.common_recipe(out, corpus, 3)
    run = runs.run_of(out, "xml")
    run.mkdir()
    trained = load_recipe(path, ["answer=xml", f"output={run}"])
    (run / "recipe.yaml").write_text(trained.to_yaml(), encoding="utf-8")
    runs.check_alike(path, out, ["xml"])
    other = load_recipe(path, ["answer=json", f"output={run}", "training.epochs=3"])
    (run / "recipe.yaml").write_text(other.to_yaml(), encoding="utf-8")
    with pytest.raises(InputError, match=r"answer was 'json' and is 'xml'; training\.epochs was 3\.0 and is 2\.0"):
        runs.check_alike(path, out, ["xml"])


def test_a_run_is_finished_when_its_manifest_is_there(module, tmp_path):
    runs = module("formats_runs")
    (tmp_path / "run-xml").mkdir()
    (tmp_path / "run-xml" / MANIFEST).touch()
    (tmp_path / "run-json").mkdir()
    assert runs.unfinished(tmp_path, ["json", "xml", "inline"]) == ["json", "inline"]


def test_an_interrupted_training_is_gone_on_with(module, tmp_path, monkeypatch):
    runs, commands = module("formats_runs"), []

    class Process:
        def __init__(self, command, **_):
            commands.append(command[3:])

        def wait(self):
            return 3 if "answer=json" in commands[-1] else 0

        def poll(self):
            return 0

    monkeypatch.setattr(runs.subprocess, "Popen", Process)
    (tmp_path / "run-xml" / "checkpoints" / "checkpoint-25").mkdir(parents=True)
    for name in ("inline", "xml"):
        runs.train(tmp_path / "recipe.yaml", tmp_path, name)
    given = [str(tmp_path / "recipe.yaml"), "answer=inline", f"output={tmp_path / 'run-inline'}"]
    assert commands[0] == ["train", *given]
    assert commands[1][:2] == ["train", "--resume"]
    with pytest.raises(runs.RunError, match="training of json ended with exit code 3"):
        runs.train(tmp_path / "recipe.yaml", tmp_path, "json")


# ---- The measurements


def test_formats_are_timed_in_turn(module):
    calls: list[str] = []
    found = module("formats_measure").in_turn(["a", "b", "c"], 2, lambda name: calls.append(name) or len(calls))
    assert calls == ["a", "b", "c", "b", "c", "a"]
    assert found == {"a": [1, 6], "b": [2, 4], "c": [3, 5]}


def test_a_measurement_is_kept_while_weights_and_sentences_are_the_same(module, tmp_path, monkeypatch):
    measure, measured = module("formats_measure"), []

    def fake(run, documents):
        measured.append(run.name)
        return {
            "held": _evaluation().to_json(),
            "free": _evaluation().to_json(),
            "tokens": 2.0,
            "counts": {"span": [(1, 1, 1)]},
        }

    monkeypatch.setattr(measure, "_measure", fake)
    (tmp_path / "run-xml").mkdir()
    (weights := tmp_path / "run-xml" / "adapter_model.safetensors").write_bytes(b"1")
    (test := tmp_path / "test.jsonl").write_bytes(b"{}")
    rows = [measure.measured(tmp_path, "xml", [Document("天")], str(test)) for _ in range(2)]
    assert rows[0].held == rows[1].held == _evaluation()
    assert rows[1].tokens == 2
    assert len(measured) == 1
    weights.write_bytes(b"2")
    measure.measured(tmp_path, "xml", [Document("天")], str(test))
    measure.measured(tmp_path, "xml", [Document("天"), Document("地")], str(test))
    assert len(measured) == 3
    assert json.loads((tmp_path / "measured-xml.json").read_text(encoding="utf-8"))["documents"] == 2


def test_the_median_speed_counts(module):
    found = {"extraction": {"xml": [1.0, 9.0, 2.0]}, "training": {"xml": [3.0]}}
    row = module("formats_measure").with_speeds(_row(module, "xml"), found)
    assert (row.sentences_per_second, row.samples_per_second) == (2, 3)
    assert module("formats_measure").with_speeds(_row(module, "json"), found).sentences_per_second is None


def test_what_was_measured_is_told_with_its_settings(module, corpus, tmp_path):
    formats, recipe = module("formats"), load_recipe(module("formats_runs").common_recipe(tmp_path, corpus, 3))
    told = formats.told(recipe, [_row(module, "inline"), _row(module, "xml")], {})
    assert told.startswith(
        "gemma3-270m, LoRA of rank 16, 2 epochs over 3 sentences with 2 labels, learning rate 0.0005"
    )
    assert "Speeds" not in told
    assert "| `xml` |" in told
    machine = {"machine": "2 cores of X", "date": "2026-01-01", "rounds": 3, "sentences": 128, "steps": 4}
    assert "Speeds on 2 cores of X, 2026-01-01: medians of 3 rounds" in formats.told(
        recipe, [_row(module, "xml")], machine
    )


# ---- All of it


@pytest.fixture
def model(tmp_path, tiny_model, family_of) -> Path:
    """The folder of a tiny Qwen2 with a tokenizer."""
    tokenizer = family_of("qwen2").tokenizer
    tokenizer.save_pretrained(tmp_path / "model")
    tiny_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=2048).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_one_command_trains_measures_and_writes_the_table(module, model, corpus, tmp_path, monkeypatch, capsys):
    formats, out, trained = module("formats"), tmp_path / "out", []
    recipe = module("formats_runs").common_recipe(out, corpus, 4)
    value = {**yaml.safe_load(recipe.read_text(encoding="utf-8")), "model": str(model), "prompt": {"user": "{text}"}}
    recipe.write_text(yaml.safe_dump(value), encoding="utf-8")
    test, page = tmp_path / "test.jsonl", tmp_path / "page.md"
    held_out = [Document.of(f"李华去了{place}", [("人名", 0, 2), ("地点", 4, 6)]) for place in ("青川", "北京")]
    data.write(held_out, test, format="entities")
    page.write_text(PAGE, encoding="utf-8")

    def train(recipe: Path, out: Path, name: str) -> None:
        trained.append(name)
        assert cli.main(["train", str(recipe), f"answer={name}", f"output={out / f'run-{name}'}"]) == 0

    monkeypatch.setattr(formats, "train", train)
    monkeypatch.setattr(formats, "PAGE", page)
    given = ["--train", corpus, "--samples", "4", "--test", str(test), "--out", str(out), "--no-speeds"]
    assert formats.main([*given, "--formats", "jsonl,inline", "--only-finished"]) == 2
    assert "no format is trained yet" in capsys.readouterr().err
    assert formats.main([*given, "--formats", "jsonl"]) == 0
    assert formats.main([*given, "--formats", "jsonl,inline", "--docs"]) == 0
    assert trained == ["jsonl", "inline"]
    written = page.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| \d\.\d{3} \(", written, re.M) == ["jsonl", "inline"]
    assert "Not measured yet" not in written
    again = ["--train", corpus, "--samples", "4", "--test", corpus, "--out", str(out), "--no-speeds"]
    assert formats.main([*again, "--formats", "jsonl"]) == 2
    assert f"4 of the 4 sentences of {corpus} were trained on" in capsys.readouterr().err
