"""`--fix`: what is safe to mend is mended, written down, and not found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nertune.data import read
from nertune.data.audit import KINDS, audit, inputs, repair
from nertune.errors import InputError, MissingFileError

ROWS = [
    {
        "text": "叶老桂博士从另一个角度进行了解读",
        "entities": [{"start": 0, "end": 3, "label": "name", "text": "叶老桂"}],
    },
    {"text": "我们去海宁路", "entities": [{"start": 0, "end": 3, "label": "address", "text": "海宁路"}]},
    {"text": "去 杭州 吧", "entities": [{"start": 1, "end": 5, "label": "address", "text": " 杭州 "}] * 2},
    {
        "text": "河\ufeff南\x07路\x0c一",
        "entities": [{"start": 0, "end": 5, "label": "address", "text": "河\ufeff南\x07路"}],
    },
    {"text": "河南路 一", "entities": [{"start": 0, "end": 3, "label": "address", "text": "河南路"}]},
    {
        "text": "叶老桂博士从另一个角度进行了解读",
        "entities": [{"start": 0, "end": 3, "label": "name", "text": "叶老桂"}],
    },
    {"text": " \n", "entities": [{"start": 0, "end": 1, "label": "name", "text": " "}]},
    {"text": "王丁不在", "entities": [{"start": 0, "end": 2, "label": "name", "text": "李丙"}]},
]
REPAIRED = {code for code, kind in KINDS.items() if kind.repaired}


def lines(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_what_is_safe_is_mended_and_every_change_is_written_down(tmp_path, jsonl):
    source = jsonl(*ROWS)
    done = repair(inputs([source])[0], tmp_path / "out.jsonl")
    assert [
        (row["text"], [(e["start"], e["end"], e["text"]) for e in row["entities"]]) for row in lines(done.path)
    ] == [
        ("叶老桂博士从另一个角度进行了解读", [(0, 3, "叶老桂")]),
        ("我们去海宁路", [(3, 6, "海宁路")]),
        ("去 杭州 吧", [(2, 4, "杭州")]),
        ("河南路 一", [(0, 3, "河南路")]),
        ("王丁不在", []),
    ]
    changes = lines(done.log)
    assert all(list(change) == ["file", "line", "kind", "before", "after"] for change in changes)
    assert {change["file"] for change in changes} == {str(source)}
    assert [(change["line"], change["kind"]) for change in changes] == [
        (2, "span-moved"),
        (3, "span-duplicate"),
        (3, "edge-space"),
        (4, "byte-order-mark"),
        (4, "control-character"),
        (5, "duplicate-same"),
        (6, "duplicate-same"),
        (7, "edge-space"),
        (7, "text-empty"),
        (8, "left-out"),
    ]
    assert changes[0]["before"] == ROWS[1]["entities"][0]
    assert changes[0]["after"] == {"label": "address", "start": 3, "end": 6, "text": "海宁路"}
    assert changes[5]["after"] == {"same_as": f"{source}:4"}
    assert changes[9] == {
        "file": str(source),
        "line": 8,
        "kind": "left-out",
        "before": ROWS[7]["entities"][0],
        "after": {"why": "span-mismatch"},
    }
    assert (done.format, done.documents, done.left_out) == ("entities", 5, 1)
    assert sum(done.changes.values()) == len(changes)


def test_of_what_is_repaired_nothing_is_found_again(tmp_path, jsonl):
    source = jsonl(*ROWS)
    before = {finding.kind.code for finding in audit(inputs([source])).findings}
    assert before >= REPAIRED
    repair(inputs([source])[0], tmp_path / "out.jsonl")
    after = audit(inputs([tmp_path / "out.jsonl"]))
    assert {finding.kind.code for finding in after.findings} == {"no-entities"}


def test_a_repaired_file_has_nothing_left_to_repair(tmp_path, jsonl):
    repair(inputs([jsonl(*ROWS)])[0], tmp_path / "once.jsonl")
    again = repair(inputs([tmp_path / "once.jsonl"])[0], tmp_path / "twice.jsonl")
    assert again.changes == {}
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "twice.jsonl").read_bytes()
    assert (tmp_path / "twice.jsonl.changes.jsonl").read_bytes() == b""


def test_a_file_stays_in_its_own_format_where_that_can_be_written(tmp_path, jsonl):
    source = jsonl({"text": "去 杭州", "label": {"address": {" 杭州": [[1, 3]]}}}, {"text": "无事", "label": {}})
    assert repair(inputs([source])[0], tmp_path / "out.jsonl").format == "cluener"
    assert lines(tmp_path / "out.jsonl")[0] == {"text": "去 杭州", "label": {"address": {"杭州": [[2, 3]]}}}
    answers = jsonl(
        {"instruction": "找", "input": "去 杭州", "output": '[{"label": "address", "text": " 杭州"}]'}, name="b.jsonl"
    )
    assert repair(inputs([answers])[0], tmp_path / "out.jsonl").format == "entities"


def test_a_file_is_not_overwritten_by_its_own_repair(tmp_path, jsonl):
    source = jsonl(*ROWS)
    before = source.read_bytes()
    with pytest.raises(InputError, match="is the file to be repaired"):
        repair(inputs([source])[0], source)
    log = source.rename(tmp_path / "out.jsonl.changes.jsonl")
    with pytest.raises(InputError, match="is the file to be repaired"):
        repair(inputs([log])[0], tmp_path / "out.jsonl")
    assert log.read_bytes() == before
    with pytest.raises(MissingFileError, match="there is no directory"):
        repair(inputs([log])[0], tmp_path / "absent" / "out.jsonl")


def test_nothing_is_written_where_nothing_remains(tmp_path, jsonl):
    with pytest.raises(InputError, match="no document has any text"):
        repair(inputs([jsonl({"text": " ", "entities": []})])[0], tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


_TEXTS = st.text(st.sampled_from(list("王丁 \n\t\ufeff\x07\x0c\x85e\u0301")), max_size=8)
_ROWS = st.lists(
    st.tuples(
        _TEXTS, st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 9), st.integers(-1, 9), _TEXTS), max_size=4)
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_ROWS)
def test_repair_is_complete_and_idempotent_on_any_rows(tmp_path, rows):
    source = tmp_path / "rows.jsonl"
    written = (
        {
            "text": text,
            "entities": [{"label": a, "start": b, "end": c, "text": d or text[max(b, 0) : c]} for a, b, c, d in spans],
        }
        for text, spans in [("总有一行好的", [("a", 0, 2, "总有")])] * 3 + rows
    )
    source.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"
    repair(inputs([source])[0], once)
    assert not REPAIRED & {finding.kind.code for finding in audit(inputs([once])).findings}
    assert repair(inputs([once])[0], twice).changes == {}
    assert read(once).documents == read(twice).documents
