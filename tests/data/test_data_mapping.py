"""Maps of labels: rules read or refused, applied at once, and everything they changed counted."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune import data
from nertune.data.mapping import Changes, LabelMap
from nertune.errors import InputError, MissingFileError
from nertune.schema import Document, Entity, Mention, Prediction

TEXT = "南京大学在南京"
SPANS = [("ORG", 0, 4), ("GPE", 0, 2), ("LOC", 0, 2), ("GPE", 5, 7), ("TIME", 4, 5)]


def _spans(document: Document | Prediction) -> list[tuple[str, int, int]]:
    return [(e.label, e.start, e.end) for e in document.entities]


def test_labels_are_made_one_left_out_and_counted():
    label_map = LabelMap.parse({"GPE,LOC": "地点", "TIME": None, "PERS": "人名"})
    documents, changes = label_map.apply([Document.of(TEXT, SPANS, id="a"), Document.of(TEXT, [("GPE", 0, 2)])])
    assert _spans(documents[0]) == [("ORG", 0, 4), ("地点", 0, 2), ("地点", 5, 7)]
    assert (documents[0].id, _spans(documents[1])) == ("a", [("地点", 0, 2)])
    assert changes == Changes(Counter({"ORG": 1, "GPE": 3, "LOC": 1, "TIME": 1}), merged=1)
    assert label_map.notes(changes) == (
        "mentions given another label: GPE to 地点 (3), LOC to 地点 (1)",
        "mentions left out, as the label map says: TIME (1)",
        "mentions that became equal to another by it and are kept once: 1",
        "the label map names what no mention bears: PERS. Labels there: GPE, LOC, ORG, TIME",
    )


def test_a_label_that_never_occurs_is_told_with_the_nearest_one():
    label_map = LabelMap.parse({"ORGG": "机构", "gpe": "地点", "XYZ": None})
    (note,) = label_map.notes(label_map.apply([Document.of(TEXT, SPANS)]).changes)
    assert "no mention bears: ORGG (like ORG), gpe (like GPE), XYZ. Labels there" in note


def test_rules_apply_at_once_so_labels_can_change_places():
    (document,), _ = LabelMap.of_options(["GPE=LOC", "LOC=GPE"]).apply(
        [Document.of(TEXT, [("GPE", 0, 2), ("LOC", 5, 7)])]
    )
    assert _spans(document) == [("LOC", 0, 2), ("GPE", 5, 7)]


def test_of_equal_mentions_the_one_with_the_highest_score_stays_and_ungrounded_ones_are_mapped_too():
    entities = (Entity("GPE", 0, 2, "南京", 0.4), Entity("LOC", 0, 2, "南京", 0.9))
    prediction = Prediction(TEXT, entities, (Mention("GPE", "上海"), Mention("TIME", "今天")), "length", id="7")
    found, changes = LabelMap.of_options(["GPE=LOC", "TIME="]).apply_document(prediction)
    assert [(e.label, e.score) for e in found.entities] == [("LOC", 0.9)]
    assert found.ungrounded == (Mention("LOC", "上海"),)
    assert (found.stop, found.id, changes.merged, changes.seen["TIME"]) == ("length", "7", 1, 1)


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(0, 5), st.integers(1, 6)).filter(lambda s: s[1] < s[2])))
def test_nothing_but_labels_changes_and_every_mention_is_accounted_for(spans):
    before = Document.of("a𠮷b😀 c", dict.fromkeys(spans))
    label_map = LabelMap({"A": "B", "B": "A", "C": "A", "D": None})
    after, changes = label_map.apply_document(before)
    assert after.text == before.text
    assert set(_spans(after)) == {(label_map.targets[n], s, e) for n, s, e in _spans(before) if n != "D"}
    assert len(after.entities) + changes.merged + changes.seen.get("D", 0) == len(before.entities)
    assert label_map.apply([before, before]).changes == changes + changes


def test_a_document_that_nothing_concerns_is_the_very_same():
    document = Document.of(TEXT, SPANS)
    for rules in ({}, {"X": "Y"}, {"GPE,ORG": "GPE", "ORG": "GPE"}):
        found, _ = LabelMap.parse(rules).apply_document(document)
        assert (found is document) == ("GPE,ORG" not in rules)
    assert LabelMap.parse({"GPE": "GPE"}).apply_document(document)[0] is document
    assert not LabelMap()


def test_rows_are_mapped_as_they_come(tmp_path):
    data.write([Document.of(TEXT, SPANS, id="a"), Document("无")], tmp_path / "f.jsonl", format="entities")
    label_map, total = LabelMap.parse({"GPE,LOC": "LOC", "TIME": None}), Changes()
    with data.open_rows(tmp_path / "f.jsonl") as reading:
        rows = label_map.rows(reading, total)
        first = next(rows)
        assert _spans(first.document) == [("ORG", 0, 4), ("LOC", 0, 2), ("LOC", 5, 7)]
        assert (first.raw.line, len(first.raw.mentions), total.seen["GPE"], total.merged) == (1, 5, 2, 1)
        assert [row.document.text for row in rows] == ["无"]
    assert total == label_map.apply(data.read(tmp_path / "f.jsonl").documents).changes


def test_options_are_rules_or_files_of_rules(tmp_path):
    (tmp_path / "rules.yaml").write_text("GPE,LOC: 地点\nTIME:\nDATE: '-'\n", encoding="utf-8-sig")
    (tmp_path / "a=b.json").write_text('{"ORG": ""}', encoding="utf-8")
    options = [str(tmp_path / "rules.yaml"), str(tmp_path / "a=b.json"), " PER , PERS = 人名 ", "a\\=b,c\\,d=e"]
    assert LabelMap.of_options(options).targets == {
        "GPE": "地点", "LOC": "地点", "TIME": None, "DATE": None, "ORG": None, "PER": "人名", "PERS": "人名",
        "a=b": "e", "c,d": "e",
    }  # fmt: skip
    read = LabelMap.of_options([*options, "x=y\\=z,"])
    assert LabelMap.of_options(read.options()) == read


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("GPE", "--map 'GPE': a rule has one equals sign, found none; write LABEL=OTHER"),
        ("a=b=c", r"a rule has one equals sign, found 2 \(one that belongs to a label is written"),
        ("=LOC", "a label is missing beside a comma, or on the left"),
        ("a,,b=c", "'a,,b': a label is missing"),
        ("GPE=[x", r"--map 'GPE=\[x': label '\[x' cannot be used"),
    ],
)
def test_an_option_that_is_no_rule_is_refused_with_the_way_to_write_one(option, message):
    with pytest.raises(InputError, match=message):
        LabelMap.of_options([option])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a", "expected labels and what takes their place"),
        ("NO: x", "the key NO is read as bool; put it in quotes"),
        ("ORG: 3", "3 is no label: put it in quotes, YAML reads it as int"),
        ("GPE: [a]", r"\['a'\] is no label: write LABEL=OTHER"),
        ("GPE: x\n'GPE,LOC': y", "label 'GPE' is to become 'x' and 'y': keep one"),
        ("a: [", r"not a YAML file of rules \(a dash alone"),
    ],
)
def test_a_file_of_rules_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "rules.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        LabelMap.of_options([str(path)])
    assert str(path) in str(caught.value)


def test_other_ways_in_which_rules_cannot_be_read(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        LabelMap.of_options([str(tmp_path / "none.yaml")])
    (tmp_path / "rules.yml").write_bytes("GPE: 地点".encode("gb18030"))
    with pytest.raises(InputError, match="not UTF-8"):
        LabelMap.of_options([str(tmp_path / "rules.yml")])
    with pytest.raises(InputError, match="label 'A' is to become 'B' and left out: keep one"):
        LabelMap.of_options(["A=B", "A="])


def test_names_to_choose_in_reading_are_those_wanted_and_those_of_the_map(tmp_path):
    label_map = LabelMap.parse({"GPE": "LOC", "TIME": None, "X": "Y"})
    assert label_map.wanted(("LOC", "ORG")) == ("LOC", "ORG", "GPE", "TIME")
    assert label_map.wanted(None) is None
    path = tmp_path / "names.jsonl"
    path.write_text(
        '{"text": "南京", "entities": [{"start_idx": 0, "end_idx": 2, "entity_text": "南京", "entity_label": "a", '
        '"entity_names": ["GPE", "a"]}]}\n',
        encoding="utf-8",
    )
    corpus = data.read(path, labels=label_map.wanted(("LOC",)))
    assert _spans(label_map.apply(corpus.documents).documents[0]) == [("LOC", 0, 2)]
