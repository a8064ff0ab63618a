"""Datasets of tokens and ner_tags: records, tables, and the folders that the library `datasets` writes and reads."""

from __future__ import annotations

import builtins
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nertune.cli import main
from nertune.data import detect, read, tag_names, write, writer
from nertune.errors import DataError, MissingExtraError
from nertune.schema import Document

documents = runpy.run_path(str(Path(__file__).with_name("strategies.py")))["documents"]
Jsonl = Callable[..., Path]

NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
ROWS = {"id": ["0", "1"], "tokens": [["叶", "老", "在", "京"], ["Peter", "Black"]], "ner_tags": [[1, 2, 0, 3], [1, 2]]}
FOUND = (
    Document.of("叶老在京", [("PER", 0, 2), ("LOC", 3, 4)], id="0"),
    Document.of("Peter Black", [("PER", 0, 11)], id="1"),
)


@pytest.fixture(scope="module")
def table() -> datasets.Dataset:
    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=NAMES)),
        }
    )
    return datasets.Dataset.from_dict(ROWS, features=features)


def test_a_saved_dataset(table: datasets.Dataset, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "saved", num_shards=2)
    corpus = read(tmp_path / "saved")
    assert corpus.format == "hf"
    assert corpus.documents == FOUND
    assert corpus.notes[0] == "tags: BIO"
    with pytest.raises(DataError, match="is a dataset without splits, so there is no 'train'"):
        read(tmp_path / "saved", split="train")


def test_saved_splits(table: datasets.Dataset, tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved", split="test").documents == FOUND[1:]
    with pytest.raises(DataError, match=r"saved: holds the splits 'train', 'test'; name one \(--split\)"):
        read(tmp_path / "saved")
    with pytest.raises(DataError, match="has no split 'dev'; it holds the splits 'train', 'test'; name one"):
        read(tmp_path / "saved", split="dev")
    out = tmp_path / "out.jsonl"
    assert main(["data", "convert", str(tmp_path / "saved"), str(out), "--split", "train"]) == 0
    assert read(out).documents == FOUND


def test_a_folder_may_not_lead_out_of_itself(table: datasets.Dataset, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "saved")
    state = {"_data_files": [{"filename": "../secret.arrow"}]}
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(DataError, match=r"state\.json: names no data files, or files outside its folder"):
        read(tmp_path / "saved")


def test_parquet_and_the_cache_of_datasets(table: datasets.Dataset, tmp_path: Path) -> None:
    table.to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").documents == FOUND
    table.save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    assert read(arrow).documents == FOUND
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.data.table.schema) as written:
        written.write_table(table.data.table)
    assert read(tmp_path / "b.arrow").documents == FOUND


def test_a_folder_of_the_hub(table: datasets.Dataset, tmp_path: Path) -> None:
    (tmp_path / "hub" / "data").mkdir(parents=True)
    table.select([0]).to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00002.parquet")
    table.select([1]).to_parquet(tmp_path / "hub" / "data" / "train-00001-of-00002.parquet")
    table.to_parquet(tmp_path / "hub" / "data" / "validation.parquet")
    assert detect(tmp_path / "hub") == "hf"
    assert read(tmp_path / "hub", split="train").documents == FOUND
    with pytest.raises(DataError, match="holds the splits 'train', 'validation'"):
        read(tmp_path / "hub")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (
            ("conll2003/train/0000.parquet", "conll2003/train/0001.parquet", "conll2003/test/0000.parquet"),
            "test, train",
        ),
        (("en/train/0000.parquet", "zh/train/0000.parquet"), "en/train, zh/train"),
        (("en/train-00000-of-00001.parquet", "zh/test-00000-of-00001-a1b2.parquet"), "en/train, zh/test"),
        (("train.parquet", "validation.parquet"), "train, validation"),
    ],
)
def test_splits_are_named_after_files_and_folders(
    table: datasets.Dataset, tmp_path: Path, names: tuple[str, ...], splits: str
) -> None:
    for name in names:
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(tmp_path / "hub" / name)
    with pytest.raises(DataError, match="holds the splits " + ", ".join(map(repr, splits.split(", "))) + "; name one"):
        read(tmp_path / "hub")
    assert read(tmp_path / "hub", split=splits.split(", ")[1]).documents[:2] == FOUND


def test_jsonl_of_strings(jsonl: Jsonl) -> None:
    path = jsonl({"tokens": ["EU", "!"], "ner_tags": ["B-ORG", "O"]}, {"tokens": [], "ner_tags": []})
    assert read(path).documents == (Document.of("EU !", [("ORG", 0, 2)]), Document(""))
    assert detect(jsonl({"tokens": ["a"], "tags": ["O"]})) == "hf"


def test_jsonl_of_numbers_needs_names(jsonl: Jsonl, tmp_path: Path) -> None:
    path = jsonl({"tokens": ["叶"], "ner_tags": [0]}, {"tokens": ["叶", "老"], "ner_tags": [1, 2]})
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}:1: 'ner_tags' holds numbers, and nothing says which tags they stand for; give a file with their names, "
        "from 0 on (--tag-names FILE), or put the dataset_info.json of the dataset beside the file"
    )
    expected = (Document("叶"), Document.of("叶老", [("PER", 0, 2)]))
    assert read(path, tag_names=NAMES).documents == expected
    with pytest.raises(DataError, match=r":2: 'ner_tags' holds 1, but there are 1 names, from 0 to 0"):
        read(path, tag_names=["O"])
    names = tmp_path / "names.txt"
    names.write_text("O\nB-PER\nI-PER\n", encoding="utf-8")
    assert main(["data", "convert", str(path), str(tmp_path / "o"), "--tag-names", str(names)]) == 0
    features = {"ner_tags": {"feature": {"names": NAMES, "_type": "ClassLabel"}, "length": -1, "_type": "Sequence"}}
    for content in ({"features": features}, {"default": {"features": features}}):
        (tmp_path / "dataset_info.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
        assert read(path).documents == expected
    # LLaMA-Factory's list has the same name.
    (tmp_path / "dataset_info.json").write_text('{\n  "x": {"file_name": "x.json"}\n}')
    with pytest.raises(DataError, match="nothing says which tags they stand for"):
        read(path)


def test_a_table_of_plain_numbers_takes_the_names_beside_it(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"tokens": [["叶", "老"]], "ner_tags": [[1, 2]]})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="row 1: 'ner_tags' holds numbers"):
        read(tmp_path)
    features = {"ner_tags": {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": features}, indent=2), encoding="utf-8")
    for path in (tmp_path, tmp_path / "train.parquet"):
        assert read(path).documents == (Document.of("叶老", [("PER", 0, 2)]),)


@pytest.mark.parametrize("content", ['["O", "B-X"]', '{"O": 0, "B-X": 1}', '{"1": "B-X", "0": "O"}', "O\nB-X\n"])
def test_names_of_tags(tmp_path: Path, content: str) -> None:
    (tmp_path / "names").write_text(content, encoding="utf-8")
    assert tag_names(str(tmp_path / "names")) == ("O", "B-X")


@pytest.mark.parametrize("content", ['["O", 1]', '{"O": 0, "B-X": 2}', "[]", '{"a": "b"}', "[1"])
def test_what_are_no_names_of_tags(tmp_path: Path, content: str) -> None:
    (tmp_path / "names").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"holds no names of tags|broken JSON"):
        tag_names(str(tmp_path / "names"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a"], "ner_tags": []}, "1 token and 0 tags in 'ner_tags'; each token needs one"),
        ({"tokens": [1], "ner_tags": ["O"]}, "'tokens' must be a list of strings"),
        ({"tokens": ["a"], "ner_tags": [0.5]}, "'ner_tags' must hold strings or whole numbers, found the number 0.5"),
        ({"tokens": ["a"], "ner_tags": ["X-Y"]}, "'X-Y' is no tag"),
        ({"tokens": ["a"]}, "has no tags under any of ner_tags, tags, ner, labels; its columns are 'tokens'"),
    ],
)
def test_wrong_rows(jsonl: Jsonl, row: object, said: str) -> None:
    path = jsonl({"tokens": ["a"], "ner_tags": ["B-X"]}, row)
    with pytest.raises(DataError) as caught:
        read(path, format="hf")
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)


def test_wrong_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"tokens": [["a"], None], "labels": [["O"], ["O"]]}), path)
    with pytest.raises(DataError, match=r"a\.parquet: row 2: 'tokens' must be a list of strings, found null"):
        read(path)
    pq.write_table(pa.table({"words": [["a"]], "kinds": [["B-X"]]}), path)
    with pytest.raises(DataError, match="its columns are 'words', 'kinds'; name both: --column tokens=NAME"):
        read(path)
    assert read(path, columns={"tokens": "words", "ner_tags": "kinds"}).documents == (Document.of("a", [("X", 0, 1)]),)
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[:40] + b"\0" * 40 + whole[80:], b"PAR1", b"\xff\xff\xff\xff\x10", b"ARROW1\0\0"):
        path.write_bytes(broken)
        with pytest.raises(DataError):
            read(path)


def test_the_text_beside_the_tokens_is_the_text(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["a  b!"], "tokens": [["a", "b", "!"]], "tags": [["O", "B-X", "O"]]}), tmp_path / "t"
    )
    assert read(tmp_path / "t").documents == (Document.of("a  b!", [("X", 3, 4)]),)


@given(st.lists(documents(), max_size=5), st.sampled_from(["bio", "bioes", "bmes"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_expressed_comes_back(tmp_path: Path, given_: list[Document], scheme: str) -> None:
    format = writer("hf", path="x", scheme=scheme)  # type: ignore[arg-type]
    expressed = [format.express(document).document for document in given_]
    format.write([document for document in expressed if document is not None], tmp_path / "out.parquet")
    assert list(read(tmp_path / "out.parquet").documents) == expressed


def test_what_is_written_is_what_datasets_loads(tmp_path: Path) -> None:
    rows = [Document.of("叶老桂在 南京", [("name", 0, 3), ("地点", 5, 7)], id="7"), Document.of("EU", [("org", 0, 2)])]
    write(rows, tmp_path / "out.parquet", format="hf")
    loaded: Any = datasets.load_dataset(
        "parquet", data_files={"train": str(tmp_path / "out.parquet")}, cache_dir=str(tmp_path / "cache")
    )["train"]
    names = loaded.features["ner_tags"].feature
    assert isinstance(names, datasets.ClassLabel)
    assert names.names == ["O", "B-name", "I-name", "B-地点", "I-地点", "B-org", "I-org"]
    assert loaded[0]["tokens"] == list("叶老桂在南京")
    assert [names.int2str(tag) for tag in loaded[0]["ner_tags"]] == ["B-name", *["I-name"] * 2, "O", "B-地点", "I-地点"]
    assert [row["text"] for row in loaded] == ["叶老桂在 南京", "EU"]
    loaded.save_to_disk(tmp_path / "saved")
    assert list(read(tmp_path / "saved").documents) == rows


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    whole = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"nertune\[tables\]"):
        read(tmp_path / "a.parquet")
    with pytest.raises(MissingExtraError, match=r"nertune\[tables\]"):
        write([Document("a")], tmp_path / "b.parquet", format="hf")


TOKENS = ("tokens", pa.list_(pa.string()), [["方", "鹏", "来"]])
TAGS = ("ner_tags", pa.list_(pa.string()), [["B-PER", "I-PER", "O"]])


def _table_of(path: Path, *columns: tuple[str, pa.DataType, list[Any]]) -> Path:
    arrays = [pa.array(values, kind) for _, kind, values in columns]
    table = pa.Table.from_arrays(arrays, names=[name for name, _, _ in columns])
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writing:
            writing.write_table(table)
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
@pytest.mark.parametrize(
    ("column", "places"),
    [
        (("tokens", pa.list_(pa.string()), [["x", "y", "z"]]), "1, 3"),
        (("ner_tags", pa.list_(pa.string()), [["O", "O", "O"]]), "2, 3"),
    ],
)
def test_two_columns_of_one_name_that_is_read_are_refused(
    tmp_path: Path, name: str, column: tuple[str, pa.DataType, list[Any]], places: str
) -> None:
    path = _table_of(tmp_path / name, TOKENS, TAGS, column)
    with pytest.raises(DataError, match=rf"has 2 columns '{column[0]}' \({places}\).*--column"):
        read(path)


def test_so_are_those_of_a_later_file_of_a_folder(tmp_path: Path) -> None:
    _table_of(tmp_path / "train-00000-of-00002.parquet", TOKENS, TAGS)
    _table_of(tmp_path / "train-00001-of-00002.parquet", TOKENS, TAGS, TAGS)
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet: has 2 columns 'ner_tags'"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_columns_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    odd = [("q", pa.string(), ["1"]), ("q", pa.string(), ["2"]), ("", pa.string(), ["3"])]
    binary = [("id", pa.binary(), [b"\xff"]), ("text", pa.int64(), [5])]
    corpus = read(_table_of(tmp_path / name, *odd, *binary, TOKENS, TAGS))
    assert corpus.documents == (Document.of("方鹏来", [("PER", 0, 2)]),)
    assert corpus.notes[:4] == (
        "columns that stand more than once, and are not read: 'q'",
        "columns without a name, and not read: 3",
        "the column 'text' is not read: it holds int64, and a document's text is a string",
        "the column 'id' is not read: it holds binary, and a document's id is a string or a whole number",
    )


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.int32(), pa.uint64(), pa.dictionary(pa.int8(), pa.string()), pa.null()]
)
def test_ids_that_are_read_make_no_note(tmp_path: Path, kind: pa.DataType) -> None:
    value = 7 if pa.types.is_integer(kind) else None if pa.types.is_null(kind) else "7"
    corpus = read(_table_of(tmp_path / "x.parquet", ("id", kind, [value]), TOKENS, TAGS))
    assert corpus.documents[0].id == (None if value is None else "7")
    assert not any("is not read" in note for note in corpus.notes)


def test_tokens_and_tags_that_are_bytes_are_told(tmp_path: Path) -> None:
    bytes_of = pa.list_(pa.binary())
    for columns, said in (
        ((("tokens", bytes_of, [[b"a", b"b", b"c"]]), TAGS), "'tokens' must be a list of strings, found 1 byte"),
        (
            (TOKENS, ("ner_tags", bytes_of, [[b"O", b"O", b"O"]])),
            "'ner_tags' must hold strings or whole numbers, found 1 b",
        ),
    ):
        with pytest.raises(DataError, match=rf"row 1: {said}"):
            read(_table_of(tmp_path / "x.parquet", *columns))
