"""The audit: for each kind of finding a file made by hand, and exactly what is found in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nertune.data.audit import KINDS, Cutoff, Report, RowLength, audit, in_memory, inputs, repair
from nertune.errors import DataError, InputError, MissingFileError
from nertune.prompt import KNOWN_ANSWERS
from nertune.schema import Document

_MARK = re.compile(r"\[([^|\]]*)\|([^\]]*)\]", re.S)


def marked(text: str, /, **more: object) -> dict[str, object]:
    """A row from a text with its entities marked: `[叶老桂|name]博士`. `more`: what else, or instead, is in the row."""
    plain, entities, place = "", [], 0
    for found in _MARK.finditer(text):
        plain += text[place : found.start()]
        span = {"start": len(plain), "end": len(plain) + len(found[1]), "label": found[2], "text": found[1]}
        entities.append(span)
        plain, place = plain + found[1], found.end()
    return {"text": plain + text[place:], "entities": entities, **more}


def entity(start: int, end: int, label: str, text: str) -> dict[str, object]:
    return {"start": start, "end": end, "label": label, "text": text}


CLEAN = [
    marked("[叶老桂|name]博士从另一个角度进行了解读。"),
    marked("周末一起去[杭州|address]看看吧？"),
    marked("The old [Jane Roe|name] lives in [Leeds|address]."),
]
LONG = "这句话很长，长到改一个字以后与原来仍然几乎完全相同，所以两句话中只能留下一句"
SURFACE = "住在[海宁路|address]"


def report_of(tmp_path: Path, *files: Sequence[object], **options) -> Report:
    """The audit of files with these rows, called a.jsonl, b.jsonl and so on."""
    paths = []
    for number, rows in enumerate(files):
        paths.append(tmp_path / f"{'abc'[number]}.jsonl")
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        paths[-1].write_text("".join(lines), encoding="utf-8")
    return audit(inputs(paths), **options)


def found(report: Report) -> dict[str, tuple[int, list[tuple[str, str]]]]:
    """By code: how many, and of each place listed its file:line, without the folder, and its excerpt."""
    return {
        finding.kind.code: (
            finding.count,
            [(f"{os.path.basename(place.file)}:{place.line}", place.excerpt) for place in finding.places],
        )
        for finding in report.findings
    }


# Rows that follow the clean ones, so that the first of them is line 4; and what is found, nothing else being found.
CASES = {
    "span-moved": ([marked("去[海宁路|address]", text="我们今天去海宁路")], [("a.jsonl:4", "我们今天去▸海宁路◂")]),
    "span-ambiguous": (
        [{"text": "王丁和王丁", "entities": [entity(1, 4, "name", "王丁")]}],
        [("a.jsonl:4", "▸王丁◂和王丁")],
    ),
    "span-mismatch": (
        [marked("去[海宁路|address]", text="我们今天去河南路")],
        [("a.jsonl:4", "我们今天去河南路")],
    ),
    "span-out-of-range": (
        [{"text": "我们今天去[河]南路", "entities": [entity(8, 40, "address", "海宁路")]}],
        [("a.jsonl:4", "我们今天去[河]南路")],
    ),
    "span-empty": (
        [{"text": "我们今天去河南路", "entities": [entity(5, 5, "address", "")]}],
        [("a.jsonl:4", "我们今天去河南路")],
    ),
    "span-crossing": (
        [{"text": "北京大学校长", "entities": [entity(0, 4, "address", "北京大学"), entity(2, 6, "name", "大学校长")]}],
        [("a.jsonl:4", "北京▸大学校长◂")],
    ),
    "span-two-labels": (
        [{"text": "去北京", "entities": [entity(1, 3, "address", "北京"), entity(1, 3, "name", "北京")]}],
        [("a.jsonl:4", "去▸北京◂")],
    ),
    "span-nested": (
        [{"text": "北京大学", "entities": [entity(0, 4, "name", "北京大学"), entity(0, 2, "address", "北京")]}],
        [("a.jsonl:4", "▸北京◂大学")],
    ),
    "span-duplicate": (
        [{"text": "去北京", "entities": [entity(1, 3, "address", "北京"), entity(1, 3, "address", "北京")]}],
        [("a.jsonl:4", "去北京")],
    ),
    "edge-space": ([marked("去 [海宁路 |address]")], [("a.jsonl:4", "去 ▸海宁路 ◂")]),
    "edge-half-pair": ([marked("《[围城》|name]")], [("a.jsonl:4", "《▸围城》◂")]),
    "edge-punctuation": ([marked("去[海宁路，|address]好吗")], [("a.jsonl:4", "去▸海宁路，◂好吗")]),
    "edge-quotes": (
        [marked("读《[围城|name]》"), marked("看《[家|name]》"), marked("再看[《春秋》|name]呢")],
        [("a.jsonl:6", "再看▸《春秋》◂呢")],
    ),
    "label-spelling": (
        [marked("去[海宁路|Address]"), marked("去[河南路|address ]".replace(" ]", "]"))],
        [("a.jsonl:4", "去▸海宁路◂")],
    ),
    "label-rare": (
        [marked("".join(f"[甲{chr(0x4E10 + n)}|name]，" for n in range(38)) + "和[乙|book]")],
        [("a.jsonl:4", "…串，甲丳，甲临，甲丵，和▸乙◂")],
    ),
    "surface-noise": (
        [marked("，".join(["[罗马|name]"] * 30) + "。"), marked("在[罗马|address]")],
        [("a.jsonl:5", "在▸罗马◂")],
    ),
    "surface-ambiguous": (
        [marked("在[罗马|name]一"), marked("在[罗马|address]二")],
        [("a.jsonl:4", "在▸罗马◂一")],
    ),
    "surface-variants": (
        [marked("在[A１|name]一"), marked("在[A1|name]二"), marked("在[A1|name]三")],
        [("a.jsonl:4", "在▸A１◂一")],
    ),
    "entity-missed": (
        [marked(f"{SURFACE}甲"), marked(f"{SURFACE}乙"), marked(f"{SURFACE}丙"), marked("海宁路有[王丁|name]")],
        [("a.jsonl:7", "▸海宁路◂有王丁")],
    ),
    "duplicate-same": ([CLEAN[1]], [("a.jsonl:4", "周末一起去杭州看看吧？")]),
    "duplicate-differs": (
        [marked("周末一起去[杭州|name]看看吧？")],
        [("a.jsonl:4", "周末一起去杭州看看吧？")],
    ),
    "near-duplicate": (
        [marked(f"{LONG}[甲|name]"), marked(f"{LONG}[乙|name]")],
        [("a.jsonl:5", LONG + "乙")],
    ),
    "control-character": ([marked("去\x07[海宁路|address]")], [("a.jsonl:4", "去▸⟨U+0007⟩◂海宁路")]),
    "byte-order-mark": ([marked("去\ufeff[海宁路|address]")], [("a.jsonl:4", "去▸⟨U+FEFF⟩◂海宁路")]),
    "invisible-character": ([marked("去\u200b[海宁路|address]")], [("a.jsonl:4", "去▸⟨U+200B⟩◂海宁路")]),
    "bidi-control": ([marked("去\u202e[海宁路|address]")], [("a.jsonl:4", "去▸⟨U+202E⟩◂海宁路")]),
    "replacement-character": ([marked("去\ufffd[海宁路|address]")], [("a.jsonl:4", "去▸\ufffd◂海宁路")]),
    "private-use": ([marked("去\ue001[海宁路|address]")], [("a.jsonl:4", "去▸⟨U+E001⟩◂海宁路")]),
    "line-ends": (
        [marked("去\n[海宁路|address]"), marked("去\n[河南路|address]"), marked("去\r\n[山东路|address]")],
        [("a.jsonl:6", "去▸⟨U+000D⟩⟨U+000A⟩◂山东路")],
    ),
    "not-composed": ([marked("cafe\u0301 [Ann|name]")], [("a.jsonl:4", "caf▸e\u0301◂ Ann")]),
    "compatibility-character": ([marked("第２天[海宁路|address]")], [("a.jsonl:4", "第▸２◂天海宁路")]),
    "no-entities": ([marked("今天没有名字")], [("a.jsonl:4", "今天没有名字")]),
}
# What one thing wrong brings with it.
BESIDES = {
    "span-mismatch": {"no-entities"},
    "span-out-of-range": {"no-entities"},
    "span-empty": {"no-entities"},
    "span-two-labels": {"surface-ambiguous"},
    "surface-noise": set(),
    "surface-variants": {"compatibility-character"},
    "duplicate-differs": {"surface-ambiguous"},
}
ELSEWHERE = {
    "document-unread",
    "mention-absent",
    "span-pieces",
    "label-unknown",
    "label-one-file",
    "leak-exact",
    "leak-near",
    "text-empty",
    "answer-cut",
    "answer-unwritable",
}


@pytest.mark.parametrize("code", CASES)
def test_each_kind_is_found_where_it_is_and_nothing_else(tmp_path, code):
    rows, places = CASES[code]
    report = found(report_of(tmp_path, [*CLEAN, *rows]))
    assert report.pop(code) == (len(places), places)
    assert report.keys() == BESIDES.get(code, set())


def test_every_kind_has_a_test():
    assert set(CASES) | ELSEWHERE == set(KINDS)
    assert all(kind.message and kind.advice for kind in KINDS.values())


def test_what_could_not_be_read_is_found_and_logged_by_a_repair(tmp_path):
    path = tmp_path / "marked.txt"
    path.write_text("[a | X] b\n[c | Y] d\n[e | Z\n[f | X]\n")
    (file,) = inputs([path], format="inline", answers=KNOWN_ANSWERS)
    report = audit([file])
    assert report.has_errors()
    (finding,) = (finding for finding in report.findings if finding.kind.code == "document-unread")
    (place,) = finding.places
    assert (finding.count, place.where, place.document) == (1, f"{path}:3", None)
    assert "the line is not sound in the inline format: '[e | Z'" in place.detail
    repaired = repair(file, tmp_path / "out.jsonl")
    assert (repaired.documents, repaired.left_out) == (3, 1)
    (change,) = map(json.loads, Path(repaired.log).read_text(encoding="utf-8").splitlines())
    assert (change["line"], change["kind"], change["after"]) == (3, "left-out", {"why": place.detail})


def test_nothing_is_found_in_a_clean_file(tmp_path):
    report = report_of(tmp_path, CLEAN)
    assert report.findings == ()
    assert not report.has_errors()
    assert (report.documents, report.mentions, report.labels) == (3, 4, {"address": 2, "name": 2})
    assert str(report.to_text()).endswith("\nnothing found")
    characters = report.lengths["characters"]
    assert characters == {"min": 11, "mean": 20.0, "median": 17, "p95": 32, "p99": 32, "max": 32}


def test_a_mention_without_offsets_that_the_text_does_not_hold(tmp_path):
    answer = json.dumps([{"label": "name", "text": "王丁"}], ensure_ascii=False)
    rows = [
        {"instruction": "找", "input": "王丁来了", "output": answer},
        {"instruction": "找", "input": "李丙", "output": answer},
    ]
    report = found(report_of(tmp_path, rows))
    assert report == {"mention-absent": (1, [("a.jsonl:2", "李丙")]), "no-entities": (1, [("a.jsonl:2", "李丙")])}


def test_in_a_folder_the_file_is_named_too(tmp_path):
    folder = tmp_path / "brat"
    folder.mkdir()
    (folder / "a.txt").write_text("王丁来了", encoding="utf-8")
    (folder / "a.ann").write_text("T1\tname 0 2\t王丁\n", encoding="utf-8")
    (folder / "b.txt").write_text("北京和上海大学", encoding="utf-8")
    (folder / "b.ann").write_text("T1\tname 3 7\t上海大学\nT2\tname 0 2;5 7\t北京 大学\n", encoding="utf-8")
    report = audit(inputs([folder]))
    assert found(report) == {"span-pieces": (1, [("b.ann:2", "北京和上海大学")])}
    assert report.of("span-pieces").places[0].file == f"{folder}/b.ann"
    done = repair(inputs([folder])[0], tmp_path / "repaired")
    assert (done.format, done.documents, done.changes) == ("brat", 2, {"left-out": 1})
    change = json.loads((tmp_path / "repaired.changes.jsonl").read_text(encoding="utf-8"))
    assert (change["file"], change["line"], change["after"]) == (f"{folder}/b.ann", 2, {"why": "span-pieces"})
    assert audit(inputs([tmp_path / "repaired"])).findings == ()


def test_texts_of_nothing(tmp_path):
    rows = [*CLEAN, {"text": "", "entities": []}, {"text": " \n", "entities": []}]
    report = found(report_of(tmp_path, rows))
    places = [("a.jsonl:4", ""), ("a.jsonl:5", " ⟨U+000A⟩")]
    assert report == {"text-empty": (2, places), "no-entities": (2, places)}


def test_what_one_file_has_of_another(tmp_path):
    first = [*CLEAN, marked(f"{LONG}[甲|name]"), marked("[茅盾|book]")]
    second = [CLEAN[0], marked("周末一起去[杭州|name]看看吧？"), marked(f"{LONG}[乙|name]，[河南|address]")]
    report = report_of(tmp_path, first, second)
    assert found(report) == {
        "duplicate-differs": (1, [("b.jsonl:2", "周末一起去杭州看看吧？")]),
        "leak-exact": (2, [("b.jsonl:1", CLEAN[0]["text"]), ("b.jsonl:2", "周末一起去杭州看看吧？")]),
        "label-one-file": (1, [("a.jsonl:5", "▸茅盾◂")]),
        "leak-near": (1, [("b.jsonl:3", LONG + "乙，…")]),
        "surface-ambiguous": (1, [("a.jsonl:2", "周末一起去▸杭州◂看看吧？")]),
    }
    details = {finding.kind.code: finding.places[0].detail for finding in report.findings}
    assert details["leak-exact"] == f"as {tmp_path / 'a.jsonl'}:1"
    assert details["label-one-file"] == f"book: not in {tmp_path / 'b.jsonl'}"
    assert details["leak-near"].endswith(f"as {tmp_path / 'a.jsonl'}:4")
    assert report.has_errors()
    assert report.has_errors(besides={"leak-exact"})
    assert not report.has_errors(besides={"leak-exact", "duplicate-differs"})


def test_without_the_search_for_near_duplicates_equal_texts_are_found_all_the_same(tmp_path):
    rows = [marked(f"{LONG}[甲|name]"), marked(f"{LONG}[乙|name]")]
    assert found(report_of(tmp_path, [*rows, rows[0]], near=None)) == {
        "duplicate-same": (1, [("a.jsonl:3", (LONG + "甲")[:40])])
    }


def test_a_repeated_text_is_alike_only_to_the_copy_with_its_entities(tmp_path):
    bare = {"text": CLEAN[0]["text"], "entities": []}
    report = found(report_of(tmp_path, [CLEAN[0], bare, CLEAN[0], bare]))
    assert [line for line, _ in report["duplicate-differs"][1]] == ["a.jsonl:2"]
    assert [line for line, _ in report["duplicate-same"][1]] == ["a.jsonl:3", "a.jsonl:4"]


def test_words_are_looked_for_whole_where_words_have_spaces(tmp_path):
    rows = [marked(f"He saw [Ann|name] {word}.") for word in ("today", "again", "there")]
    rows += [marked("Annual fares to [Leeds|address]"), marked("Ann, then [Leo|name]")]
    assert found(report_of(tmp_path, rows)) == {"entity-missed": (1, [("a.jsonl:5", "▸Ann◂, then Leo")])}


def test_a_surface_that_is_mostly_not_annotated_is_not_missed(tmp_path):
    rows = [marked(f"住在[海宁路|address]{end}") for end in "甲乙丙"]
    rows += [marked(f"海宁路有[王{end}|name]") for end in "甲乙丙"]
    assert found(report_of(tmp_path, rows)) == {}


def test_a_surface_inside_an_entity_is_not_missed(tmp_path):
    rows = [marked(f"住在[海宁路|address]{end}") for end in "甲乙丙"]
    assert found(report_of(tmp_path, [*rows, marked("在[海宁路小学|company]见")])) == {}


def test_joiners_that_join_are_no_finding(tmp_path):
    rows = [
        marked("👩\u200d🔬和[王丁|name]"),
        marked("می\u200cخواهم [Ann|name]"),
        marked("🏴\U000e0067\U000e007f[李丙|name]"),
    ]
    assert found(report_of(tmp_path, rows)) == {}
    assert found(report_of(tmp_path, [marked("李\u200d丙[王丁|name]")])) == {
        "invisible-character": (1, [("a.jsonl:1", "李▸⟨U+200D⟩◂丙王丁")])
    }


def test_full_width_punctuation_is_no_variant(tmp_path):
    assert found(report_of(tmp_path, [marked("（你好！）：[王丁|name]，～")])) == {}


def test_offsets_are_judged_by_the_convention_of_the_file(tmp_path):
    inclusive = [
        {"text": row["text"], "entities": [{**e, "end": e["end"] - 1} for e in row["entities"]]} for row in CLEAN
    ]
    single = {"text": "王丁丁和李", "entities": [entity(4, 4, "name", "李"), entity(1, 0, "name", "丁")]}
    report = report_of(tmp_path, [*inclusive, single])
    assert found(report) == {"span-moved": (1, [("a.jsonl:4", "王▸丁◂丁和李")])}
    assert report.of("span-moved").places[0].detail == "name: the file says [1, 0]"


def test_of_many_places_the_first_are_listed_and_all_are_counted(tmp_path):
    rows = [marked(f"[王{chr(0x4E10 + n)}|name]\x07来") for n in range(9)]
    assert len(report_of(tmp_path, rows, top=2).of("control-character").places) == 2
    assert report_of(tmp_path, rows, top=0).of("control-character").places == ()
    assert report_of(tmp_path, rows, top=0).of("control-character").count == 9
    assert "  and 7 more\n" in str(report_of(tmp_path, rows, top=2).to_text())


def test_the_json_has_the_keys_that_are_promised(tmp_path):
    value = report_of(tmp_path, [*CLEAN, marked("去\x07[海宁路|address]")]).to_json()
    assert json.loads(json.dumps(value)) == value | {"files": json.loads(json.dumps(value["files"]))}
    assert list(value) == ["files", "documents", "mentions", "labels", "findings", "lengths"]
    assert list(value["files"][0]) == ["file", "format", "documents", "mentions", "notes"]
    (finding,) = value["findings"]
    assert list(finding) == ["code", "severity", "count", "message", "advice", "places"]
    assert list(finding["places"][0]) == ["file", "line", "document", "excerpt", "detail"]
    assert list(value["lengths"]) == ["characters", "tokens", "max_tokens"]


def test_errors_come_first(tmp_path):
    rows = [*CLEAN, marked("第２天\x07[海宁路|address]"), marked("去[山东路|address]", text="我们今天去河南路")]
    severities = [finding.kind.severity for finding in report_of(tmp_path, rows).findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert set(severities) == {"error", "warning", "note"}


def test_what_a_cut_off_loses(tmp_path):
    def measure(document: Document) -> RowLength:
        if "丙" in document.text:
            raise InputError("cannot be written")
        return RowLength(10, 10 + len(document.text))

    asked = []

    def setting(labels, deepest):
        asked.append((dict(labels), deepest.text))
        return Cutoff(measure, 40, {"name"})

    rows = [*CLEAN, marked("[李丙|name]"), {"text": "", "entities": []}]
    report = report_of(tmp_path, rows, setting=setting)
    assert asked == [({"name": 3, "address": 2}, CLEAN[0]["text"])]
    assert report.of("answer-cut").count == 1
    assert report.of("answer-cut").places[0].detail == "42 tokens, 32 of them the answer"
    assert "max_tokens 40: 2 entities lost; of 0 documents not even the prompt fits" in report.of("answer-cut").message
    assert report.of("answer-unwritable").places[0].detail == "cannot be written"
    assert [place.line for place in report.of("label-unknown").places] == [2, 3]
    assert report.lengths["tokens"]["max"] == 42
    assert report.lengths["max_tokens"] == 40


def test_bad_input_is_refused_in_one_message(tmp_path, jsonl):
    path = jsonl(*CLEAN)
    with pytest.raises(InputError, match="named twice"):
        inputs([path, tmp_path / "." / path.name])
    with pytest.raises(MissingFileError, match="no such file"):
        audit(inputs([tmp_path / "absent.jsonl"]))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a", "entities": []}\n{"text": ', encoding="utf-8")
    with pytest.raises(DataError, match=r"broken\.jsonl:2"):
        audit(inputs([broken]))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="can be read once"):
            inputs([tmp_path / "pipe"])


def test_a_file_that_changes_between_the_readings_is_refused(jsonl):
    path = jsonl(*CLEAN)

    def grow(count: int) -> None:
        if count == 3:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(CLEAN[0]) + "\n")

    with pytest.raises(DataError, match="changed while it was audited"):
        audit(inputs([path]), done=grow)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "王" * 20_000, "entities": [entity(n, n + 2, "name", "王王") for n in range(4_000)]},
        {
            "text": "王" * 4_000,
            "entities": [entity(n, 4_000 - n, "name", "王" * (4_000 - 2 * n)) for n in range(1_000)],
        },
        {"text": "\u200d" * 20_000, "entities": []},
        {"text": "e" + "\u0301" * 20_000, "entities": [entity(0, 1, "\u202ename", "e")]},
    ],
    ids=["each crosses the next", "a thousand deep", "joiners", "marks"],
)
def test_hostile_documents_take_no_more_than_their_length(tmp_path, row):
    report = report_of(tmp_path, [row])
    assert report.documents == 1
    assert "\u202e" not in str(report.to_text())


_CHARACTERS = st.one_of(
    st.characters(), st.sampled_from(list("王丁李 \n\r\t\u200d\ufeff\x07\u202e《》“”,，.。(（e\u0301Aa1１ﬁ"))
)


@st.composite
def _documents(draw) -> list[Document]:
    documents = []
    for text in draw(st.lists(st.text(_CHARACTERS, max_size=12), max_size=8)):
        places = st.tuples(st.sampled_from(["name", "Name", "n ame", ""]), st.integers(0, 12), st.integers(0, 12))
        spans = {
            (label, *sorted((min(a, len(text)), min(b, len(text)))))
            for label, a, b in draw(st.lists(places, max_size=6))
        }
        documents.append(Document.of(text, sorted(span for span in spans if span[1] < span[2])))
    return documents


@settings(max_examples=150, deadline=None)
@given(_documents(), _documents())
@example([Document("\ud800")], [Document.of("\ud800", [("name", 0, 1)])])
def test_no_document_makes_it_fail(first, second):
    report = audit([in_memory(first, "a"), in_memory(second, "b")], setting=lambda labels, deepest: Cutoff(_no_row, 1))
    assert report.documents == len(first) + len(second)
    assert report.mentions == sum(len(document.entities) for document in [*first, *second])
    assert all(finding.count >= len(finding.places) for finding in report.findings)
    json.dumps(report.to_json())
    assert "\x07" not in str(report.to_text())


def _no_row(document: Document) -> RowLength:
    return RowLength(1, 2)


def test_the_documentation_explains_every_kind():
    page = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    for kind in KINDS.values():
        assert f"| `{kind.code}` | {kind.severity} | {kind.message} | {kind.advice} |\n" in page
