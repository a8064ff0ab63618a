"""`nertune data audit`: what it prints, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nertune import data
from nertune.cli import main
from nertune.schema import Document

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def written(tmp_path):
    """A function from documents to the path of their file."""

    def write(*documents: Document, name: str = "rows.jsonl") -> str:
        data.write(documents, tmp_path / name, format="entities")
        return str(tmp_path / name)

    return write


GOOD = Document.of("叶老桂在浙商银行", [("name", 0, 3), ("company", 4, 8)])
SPACED = Document.of("去 杭州 吧", [("address", 1, 5)])
AGAIN = Document.of("叶老桂在浙商银行", [("name", 0, 3)])


def test_a_clean_file_ends_with_0(written, capsys):
    assert main(["data", "audit", written(GOOD)]) == 0
    out = capsys.readouterr().out
    assert "entities, 1 document, 2 entities\n" in out
    assert out.endswith("nothing found\n")


def test_warnings_alone_end_with_0_and_errors_with_3(written, capsys):
    assert main(["data", "audit", written(GOOD, SPACED)]) == 0
    assert "warning edge-space  1  " in capsys.readouterr().out
    path = written(GOOD, SPACED, AGAIN)
    assert main(["data", "audit", path]) == 3
    out = capsys.readouterr().out
    assert out.index("error duplicate-differs") < out.index("warning edge-space")
    assert f"  {path}:3  叶老桂在浙商银行  1 entity here, others in {path}:1\n" in out


def test_json_is_one_value_and_nothing_else(written, capsys):
    assert main(["data", "audit", written(GOOD, AGAIN), "--json", "--top", "0"]) == 3
    value = json.loads(capsys.readouterr().out)
    assert (value["documents"], value["mentions"], value["labels"]) == (2, 3, {"name": 2, "company": 1})
    assert [(finding["code"], finding["count"], finding["places"]) for finding in value["findings"]] == [
        ("duplicate-differs", 1, [])
    ]


def test_fix_leaves_3_for_errors_that_it_does_not_repair_alone(tmp_path, written, capsys):
    moved = json.dumps(
        {"text": "我们去海宁路", "entities": [{"start": 0, "end": 3, "label": "address", "text": "海宁路"}]}
    )
    path = Path(written(GOOD, SPACED))
    path.write_text(path.read_text(encoding="utf-8") + moved + "\n", encoding="utf-8")
    assert main(["data", "audit", str(path)]) == 3
    out = tmp_path / "out.jsonl"
    assert main(["data", "audit", str(path), "--fix", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    value = json.loads(captured.out[captured.out.rindex("\n{\n") :])
    assert value["repair"]["changes"] == {"edge-space": 1, "span-moved": 1}
    assert f"{out}: 3 documents written as entities; changes: edge-space 1, span-moved 1" in captured.err
    assert main(["data", "audit", str(out)]) == 0
    assert main(["data", "audit", written(GOOD, AGAIN), "--fix", str(out)]) == 3


def test_texts_of_one_file_in_another_are_errors(written, capsys):
    assert main(["data", "audit", written(GOOD), written(GOOD, name="dev.jsonl")]) == 3
    assert "error leak-exact  1  " in capsys.readouterr().out


def test_labels_are_judged_as_they_are_mapped_and_repaired_as_they_are(tmp_path, written, capsys):
    path = written(GOOD, Document.of("去杭州和 河南", [("Name", 1, 3), ("NAME", 4, 7)]))
    assert main(["data", "audit", path]) == 3
    assert "error label-spelling  2  " in capsys.readouterr().out
    out = tmp_path / "out.jsonl"
    assert main(["data", "audit", path, "--map", "Name,NAME=address", "--fix", str(out)]) == 0
    captured = capsys.readouterr()
    assert "labels: address 2, company 1, name 1\n" in captured.out
    assert "mentions given another label: Name to address (1), NAME to address (1)" in captured.err
    assert set(data.read(out).labels) == {"name", "company", "Name", "NAME"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to audit"),
        (["{0}", "{1}", "--fix", "out.jsonl"], "one file at a time, found 2"),
        (["{0}", "{0}"], "named twice"),
        (["absent.jsonl"], "no such file"),
        (["{0}", "--from", "entites"], "did you mean 'entities'"),
        (["{0}", "--near", "0.2"], "'0.2' is not a similarity from 0.5 to 1"),
        (["{0}", "--max-tokens", "9"], "--max-tokens counts the tokens of a model"),
        (["{0}", "--task", "a"], "--task is one of a recipe's tasks"),
        (["{0}", "--recipe", "a.yaml", "--model", "b"], "exclude each other"),
        (["{0}", "--recipe", "a.yaml", "--map", "a=b"], "--recipe and --map exclude each other"),
        (["{0}", "--recipe", "absent.yaml"], "no such file"),
        (["{0}", "--model", "builtin:no"], "unknown built-in model"),
        (["{0}", "--fix", "{0}"], "is the file to be repaired"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_one_message(written, capsys, arguments, message):
    paths = [written(GOOD), written(SPACED, name="dev.jsonl")]
    try:
        code = main(["data", "audit", *(argument.format(*paths) for argument in arguments)])
    except SystemExit as left:  # argparse leaves by itself
        code = left.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.skipif(not DATA.is_dir(), reason="the real corpora are not on this machine")
@pytest.mark.parametrize(
    ("file", "errors", "repaired"),
    [
        ("cluener/train.jsonl", {}, {}),
        (
            "ccfbdci/train.jsonl",
            {"span-moved": 31, "span-ambiguous": 6, "duplicate-differs": 3},
            {"span-moved": 31, "span-ambiguous": 6, "duplicate-same": 969},
        ),
        ("cmeee/train.json", {}, {"byte-order-mark": 16}),
    ],
)
def test_real_corpora(tmp_path, capsys, file, errors, repaired):
    out = str(tmp_path / "out.jsonl")
    assert main(["data", "audit", str(DATA / file), "--json", "--fix", out]) == (3 if errors else 0)
    value = json.loads(capsys.readouterr().out)
    found = {finding["code"]: finding["count"] for finding in value["findings"] if finding["severity"] == "error"}
    assert (found, value["repair"]["changes"]) == (errors, repaired)
    main(["data", "audit", out, "--json", "--no-near"])
    again = {finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert not again & {"span-moved", "span-mismatch", "duplicate-same", "byte-order-mark"}
