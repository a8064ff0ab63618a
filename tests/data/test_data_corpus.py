"""Formats are told from content, and what cannot be told is said clearly."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nertune.data
from nertune.data import FORMATS, Corpus, ReadSettings, detect, open_rows, read, write
from nertune.errors import DataError, InputError
from nertune.schema import Document

Jsonl = Callable[..., Path]

ALL = f"Formats: {', '.join(FORMATS)}"


def test_the_public_surface() -> None:
    assert all(hasattr(nertune.data, name) for name in nertune.data.__all__)
    assert {"FORMATS", "Corpus", "detect", "read", "split", "write"} <= set(nertune.data.__all__)
    assert [entry.name for entry in FORMATS.values()] == list(FORMATS)


@pytest.mark.parametrize(("name", "near"), [("cluner", "cluener"), ("entity", "entities"), ("Alpaca", "alpaca")])
def test_unknown_format_names_the_nearest(jsonl: Jsonl, name: str, near: str) -> None:
    path = jsonl({"text": "a"})
    with pytest.raises(DataError) as caught:
        read(path, format=name)
    assert str(caught.value) == f"{path}: there is no format {name!r}; did you mean {near!r}? {ALL}"
    with pytest.raises(DataError, match="did you mean"):
        write([], path, format=name)


def test_the_settings_that_are_passed_on_are_all_that_reading_takes() -> None:
    taken = {
        name for name, given in inspect.signature(open_rows).parameters.items() if given.kind == given.KEYWORD_ONLY
    }
    assert taken - {"answers"} == set(ReadSettings.__annotations__)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"predictions": True}, "entities has no use for --predictions, which is for labelstudio"),
        ({"joiner": "space"}, "entities has no use for --joiner, which is for conll, hf, spacy"),
        ({"split": "test"}, "entities has no use for --split, which is for hf"),
        ({"tag_names": ["O"]}, "entities has no use for --tag-names, which is for hf"),
        ({"columns": {"text": "body"}}, "the record has none of the keys 'body'; its keys are 'text', 'entities'"),
        ({"format": "conll", "columns": {"tags": "2"}}, "--column tags: the columns of conll are called token and tag"),
        ({"format": "hf", "split": "test"}, "is a file, so it has no split 'test'"),
    ],
)
def test_a_setting_that_means_nothing_here_is_refused(jsonl: Jsonl, settings: Any, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        read(jsonl({"text": "a", "entities": []}), **settings)


def test_unknown_format_with_nothing_near(jsonl: Jsonl) -> None:
    with pytest.raises(DataError, match=f"there is no format 'qqq'; {ALL}"):
        read(jsonl({"text": "a"}), format="qqq")


def test_undetectable_json(jsonl: Jsonl) -> None:
    path = jsonl({"tokens": ["a"], "chunks": [0]})
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}:1: the format cannot be told: its first record is an object with the keys 'tokens', 'chunks'. "
        f"{ALL}; name one: --from (of predictions: --pred-from), or data.format in a recipe"
    )


def test_undetectable_text(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_text("\n叶 NR\n老 NN\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        detect(path)
    assert str(caught.value) == (
        f"{path}:2: the format cannot be told: it begins with '叶 NR'. {ALL}; name one: --from (of predictions: --pred-from), "
        "or data.format in a recipe"
    )
    with pytest.raises(DataError, match=r":2: begins with '叶 NR', not with the '\{' or '\[' of JSON"):
        read(path, format="cluener")


def test_the_name_of_the_file_does_not_matter(jsonl: Jsonl) -> None:
    assert detect(jsonl({"text": "a", "entities": []}, name="cluener.csv")) == "entities"


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_must_be_positive(jsonl: Jsonl, limit: int) -> None:
    with pytest.raises(InputError, match=f"limit must be at least 1, found {limit}"):
        read(jsonl({"text": "a"}), limit=limit)


def test_limit(jsonl: Jsonl) -> None:
    path = jsonl(*({"text": str(number)} for number in range(50)))
    assert [document.text for document in read(path, limit=30).documents] == [str(number) for number in range(30)]
    assert read(path, limit=2).notes == ("2 rows have no 'label': unannotated",)


def test_labels_of_a_corpus_without_entities() -> None:
    with pytest.raises(InputError, match="a label set needs at least one label"):
        _ = Corpus((Document("a"),), "entities").labels


def test_paths_may_be_strings(tmp_path: Path) -> None:
    write(iter([Document("a")]), str(tmp_path / "a.jsonl"), format="entities")
    assert read(str(tmp_path / "a.jsonl")).documents == (Document("a"),)
