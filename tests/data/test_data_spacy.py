"""spaCy's training data: DocBin, and the JSON of its older versions."""

from __future__ import annotations

import builtins
import json
import pickle
import runpy
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import srsly
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.training.gold_io import docs_to_json

from nertune.cli import main
from nertune.data import detect, read, write, writer
from nertune.errors import DataError, MissingExtraError
from nertune.schema import Document

documents = runpy.run_path(str(Path(__file__).with_name("strategies.py")))["documents"]
Jsonl = Callable[..., Path]

NESTED = Document.of("叶老桂在 NBA 南京大学", [("PERSON", 0, 3), ("机构", 9, 13), ("地点", 9, 11)], id="a 1")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves Docs as spaCy does."""

    def written(*docs: Doc, **options: Any) -> Path:
        DocBin(docs=docs, **options).to_disk(tmp_path / "x.spacy")
        return tmp_path / "x.spacy"

    return written


def english() -> Doc:
    doc = spacy.blank("en")("Apple isn't in  New York City.")
    doc.set_ents([doc.char_span(0, 5, label="ORG"), doc.char_span(16, 29, label="GPE")])
    return doc


def test_a_docbin_of_spacy(saved: Callable[..., Path]) -> None:
    expected = Document.of("Apple isn't in  New York City.", [("ORG", 0, 5), ("GPE", 16, 29)])
    corpus = read(saved(english()))
    assert corpus.format == "spacy"
    assert corpus.documents == (expected,)
    assert corpus.notes == ()


def test_span_groups(saved: Callable[..., Path]) -> None:
    doc = english()
    doc.spans["sc"] = [doc.char_span(16, 24, label="CITY"), doc.char_span(16, 29, label="GPE")]
    doc.spans["other"] = [doc[0:2], doc[1:2]]
    corpus = read(saved(doc, english()))
    assert [(e.label, e.text) for e in corpus.documents[0].entities] == [
        ("ORG", "Apple"),
        ("GPE", "New York City"),
        ("CITY", "New York"),
    ]
    assert corpus.notes == ("spans of the group 'other', not read: 2",)


def test_ids_of_the_user_data_and_unknown_spaces(saved: Callable[..., Path]) -> None:
    doc = Doc(spacy.blank("en").vocab, words=["EU", "rejects"], ents=["B-ORG", "O"])
    doc.user_data["id"] = 7
    corpus = read(saved(doc, store_user_data=True))
    assert corpus.documents == (Document.of("EU rejects", [("ORG", 0, 2)], id="7"),)
    assert corpus.notes == ("tokens joined with a space between them (--joiner): 1",)


def test_a_docbin_is_what_spacy_trains_on(tmp_path: Path) -> None:
    path = tmp_path / "train.spacy"
    rows = [NESTED, Document.of("non-EU rules", [("ORG", 4, 6)])]
    write(rows, path, format="spacy")
    assert list(read(path).documents) == rows
    chinese = spacy.blank("zh")
    first, second = (example.reference for example in Corpus(path)(chinese))
    assert [token.text for token in first] == [token.text for token in chinese(NESTED.text)]
    assert [(ent.label_, ent.text) for ent in first.ents] == [("PERSON", "叶老桂"), ("机构", "南京大学")]
    assert [(span.label_, span.text) for span in first.spans["sc"]] == [
        ("PERSON", "叶老桂"),
        ("机构", "南京大学"),
        ("地点", "南京"),
    ]
    assert [token.text for token in second] == ["non", "-", "EU", "rules"]


@given(st.lists(documents(), max_size=5))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_expressed_comes_back(tmp_path: Path, given_: list[Document]) -> None:
    format = writer("spacy", path="x")
    expressed = [format.express(document).document for document in given_]
    format.write([document for document in expressed if document is not None], tmp_path / "out.spacy")
    assert list(read(tmp_path / "out.spacy", format="spacy").documents) == expressed
    docs = DocBin().from_disk(tmp_path / "out.spacy").get_docs(spacy.blank("xx").vocab)
    assert [doc.text for doc in docs] == [document.text for document in expressed if document is not None]


def test_converted(tmp_path: Path, jsonl: Jsonl, capsys: pytest.CaptureFixture[str]) -> None:
    source = jsonl(
        {"text": "在南京大学", "entities": [{"start": 1, "end": 5, "label": "机构", "text": "南京大学", "score": 0.5}]}
    )
    assert main(["data", "convert", str(source), str(tmp_path / "a.spacy"), "--to", "spacy"]) == 0
    assert "spacy cannot hold scores: 1" in capsys.readouterr().err
    assert main(["data", "convert", str(tmp_path / "a.spacy"), str(tmp_path / "a.conll"), "--to", "conll"]) == 0
    assert read(tmp_path / "a.conll").documents == (Document.of("在南京大学", [("机构", 1, 5)]),)


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("was unpickled",))


def test_nothing_is_unpickled(saved: Callable[..., Path]) -> None:
    """Neither the whole, nor user data, nor arrays of objects in it."""
    path = saved(english(), store_user_data=True)
    whole = srsly.msgpack_loads(zlib.decompress(path.read_bytes()))
    bomb = pickle.dumps(Bomb())
    array = {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": (1,), b"data": bomb}
    for key, value in (
        ("user_data", [bomb]),
        ("user_data", [srsly.msgpack_dumps({"id": array})]),
        ("tokens", array),
        ("cats", array),
        ("span_groups", [bomb]),
    ):
        path.write_bytes(zlib.compress(srsly.msgpack_dumps(whole | {key: value})))
        with suppress(DataError):
            read(path, format="spacy")
    path.write_bytes(bomb)
    with pytest.raises(DataError):
        read(path, format="spacy")


def test_damaged_docbins(saved: Callable[..., Path]) -> None:
    doc = english()
    doc.spans["sc"] = [doc[0:1]]
    path = saved(doc)
    whole = path.read_bytes()
    message = srsly.msgpack_loads(zlib.decompress(whole))
    beyond = np.frombuffer(message["tokens"], dtype="uint64") + np.uint64(1)
    group = srsly.msgpack_dumps({"name": "sc", "attrs": {}, "spans": [b"\0" * 20 + (b"\x7f" * 4) * 5]})
    for broken in (
        whole[:40],
        zlib.compress(b"\x81\xa7version"),
        zlib.compress(srsly.msgpack_dumps({"version": "0.1"})),
        zlib.compress(srsly.msgpack_dumps(message | {"tokens": beyond.tobytes()})),
        zlib.compress(srsly.msgpack_dumps(message | {"span_groups": [srsly.msgpack_dumps({group: ["sc"]})]})),
    ):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"x\.spacy: is a DocBin that cannot be read|has a span \["):
            read(path, format="spacy")


def test_what_inflates_to_too_much_is_refused(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(english())
    path.write_bytes(zlib.compress(b"\x86\xa7version\xa30.1" + bytes(1 << 23)))
    assert path.stat().st_size < 1 << 14
    monkeypatch.setattr("nertune.data.formats.docbin._LARGEST", 1 << 22)
    with pytest.raises(DataError, match=r"x\.spacy: is a DocBin of more than 4 MiB when inflated"):
        read(path)


PAIRS = [["Uber blew $1", {"entities": [[0, 4, "ORG"], [10, 12, "MONEY"]]}], ["none", {"entities": []}]]
UBER = (Document.of("Uber blew $1", [("ORG", 0, 4), ("MONEY", 10, 12)]), Document("none"))


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(PAIRS),
        json.dumps(PAIRS, indent=1),
        "\n".join(map(json.dumps, PAIRS)),
        "\ufeff" + json.dumps({"classes": ["ORG"], "annotations": [PAIRS[0], None, PAIRS[1]]}),
        json.dumps([{"text": pair[0]} | pair[1] for pair in PAIRS]),  # type: ignore[operator]
    ],
)
def test_pairs_of_spacy_2(tmp_path: Path, content: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(content, encoding="utf-8")
    corpus = read(path)
    assert corpus.format == "spacy"
    assert corpus.documents == UBER


def test_json_of_a_doc(jsonl: Jsonl) -> None:
    doc = english()
    doc.spans["sc"] = [doc.char_span(0, 5, label="ORG"), doc.char_span(16, 24, label="CITY")]
    corpus = read(jsonl(doc.to_json()))
    assert corpus.format == "spacy"
    assert [(e.label, e.text) for e in corpus.documents[0].entities] == [
        ("ORG", "Apple"),
        ("GPE", "New York City"),
        ("CITY", "New York"),
    ]


def test_json_of_spacy_train(tmp_path: Path) -> None:
    doc = english()
    doc[0].is_sent_start = True
    for token in doc[1:]:
        token.is_sent_start = False
    whole = docs_to_json([doc])
    tagged = docs_to_json([doc])
    tagged["paragraphs"][0]["entities"] = []
    unspaced = json.loads(json.dumps(tagged))
    unspaced["paragraphs"][0]["raw"] = None
    path = tmp_path / "train.json"
    for content in (whole, tagged, unspaced):
        path.write_text(json.dumps([content]), encoding="utf-8")
        corpus = read(path)
        assert corpus.format == "spacy"
        assert corpus.documents == (Document.of(doc.text, [("ORG", 0, 5), ("GPE", 16, 29)]),)


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (
            '["a", {"entities": []}]\n["b", 3]',
            2,
            'must be [text, {"entities": [[start, end, label]]}], found a list of 2',
        ),
        (
            '[["a", {"entities": []}],\n["b", {"entities": [[0, "x"]]}]]',
            2,
            "an entity must be [start, end, label], found [0, ",
        ),
        ('[["a", {"entities": []}],\n["b"', 2, "broken JSON"),
        ('["a", {"entities": 3}]', 1, "'entities' must be a list of [start, end, label], found the number 3"),
        ('["a", {"entities": [[0, 1, "[]"]]}]', 1, "label '[]' cannot be used"),
        ('["a\\ud800", {"entities": []}]', 1, "half of a surrogate pair"),
        ('{"paragraphs": [3]}', 1, "a paragraph must be an object, found the number 3"),
        ('{"paragraphs": [{"raw": "a"}]}', 1, "a paragraph needs 'sentences' with 'tokens'"),
        ('{"paragraphs": [{"sentences": [{"tokens": [{"orth": "a", "ner": "X"}]}]}]}', 1, "'ner' must be a BILUO tag"),
        ('{"text": "a", "ents": [{"start": 0}]}', 1, 'an entity must be {"start", "end", "label"}'),
    ],
)
def test_wrong_json(tmp_path: Path, content: str, line: int, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(path, format="spacy")
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert said in str(caught.value)


def test_the_extra_is_named_where_it_is_missing(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(english())
    whole = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "spacy" or name.startswith("spacy."):
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert detect(path) == "spacy"
    with pytest.raises(MissingExtraError, match=r"nertune\[spacy\]"):
        read(path)
    with pytest.raises(MissingExtraError, match=r"nertune\[spacy\]"):
        write([Document("a")], path, format="spacy")
