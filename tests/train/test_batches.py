"""Rows that do not fit are named, and the packed layout is what it says."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nertune.errors import InputError, SampleTooLongError
from nertune.prompt import PromptSpec, PromptTemplate, Renderer, Row, answer_format
from nertune.schema import Document, LabelSet
from nertune.train.batches import (
    IGNORED,
    collate_packed,
    collate_padded,
    prepare,
    shared_prefix_length,
    trained_tokens,
)


class _OneTokenACharacter:
    """Stands for a renderer: a prompt token, then the text's code points; crossing texts cannot be written."""

    def row(self, document: Document) -> Row:
        if "✗" in document.text:
            raise InputError("entities cross")
        return Row([1, *map(ord, document.text)], [0] + [1] * len(document.text))


RENDERER = _OneTokenACharacter()
DOCUMENTS = [Document("甲"), Document("甲乙丙丁"), Document("✗"), Document("乙丙")]


def test_documents_that_do_not_fit_are_left_out_by_name():
    prepared = prepare(DOCUMENTS, RENDERER, max_tokens=3)
    assert [row.ids_T[1:] for row in prepared.rows] == [[ord("甲")], [ord("乙"), ord("丙")]]
    assert [(item.number, item.text) for item in prepared.left_out] == [(2, "甲乙丙丁"), (3, "✗")]
    assert prepared.left_out[0].reason.startswith("5 tokens, more than max_tokens=3")
    assert str(prepared.left_out[1]) == "document 3: entities cross: '✗'"


def test_refuse_lists_them_and_nothing_left_is_an_error():
    with pytest.raises(SampleTooLongError, match=r"2 of 4 documents(?s:.*)document 2: 5 tokens(?s:.*)document 3"):
        prepare(DOCUMENTS, RENDERER, max_tokens=3, refuse=True)
    with pytest.raises(InputError, match=r"none of 4 .* The first: document 1"):
        prepare(DOCUMENTS, RENDERER, max_tokens=1)


def test_shared_prefix_length_is_what_comparing_every_row_finds():
    draw = random.Random(0)
    for _ in range(500):
        rows = []
        for _ in range(draw.randint(1, 4)):
            prompt, trained = draw.randint(1, 6), draw.randint(1, 3)
            rows.append(Row([draw.randint(0, 1) for _ in range(prompt + trained)], [0] * prompt + [1] * trained))
        prompts = [row.ids_T[: row.prompt_length - 1] for row in rows]
        alike = [n for n in range(len(min(prompts, key=len)) + 1) if all(p[:n] == prompts[0][:n] for p in prompts)]
        assert shared_prefix_length(rows) == max(alike)


def test_the_packed_layout_of_a_case_made_by_hand():
    rows = [Row([5, 6, 7, 20, 21], [0, 0, 0, 1, 1]), Row([5, 6, 8, 9, 22], [0, 0, 0, 0, 1])]
    batch = SimpleNamespace(**collate_packed(rows))
    assert batch.input_ids.tolist() == [[5, 6, 7, 20, 21, 8, 9, 22]]
    assert (batch.prefix_length, batch.suffix_lengths) == (2, [3, 3])
    assert batch.keep.tolist() == [2, 3, 6]
    assert batch.labels.tolist() == [[20, 21, 22]]
    assert batch.shift_labels.tolist() == batch.labels.tolist()


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    """Rows of small ids with a prompt, then trained and untrained tokens after it."""
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        prompt = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
        answer = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=4))
        rows.append(
            Row(
                [*prompt, draw(st.integers(0, 2)), *(token for token, _ in answer)],
                [0] * len(prompt) + [1] + [flag for _, flag in answer],
            )
        )
    return rows


@given(row_lists())
def test_shared_prefix_is_the_longest_that_leaves_a_prompt_token(rows: list[Row]) -> None:
    length = shared_prefix_length(rows)
    longest = min(row.prompt_length for row in rows) - 1
    fitting = [n for n in range(longest + 1) if len({tuple(row.ids_T[:n]) for row in rows}) == 1]
    assert length == fitting[-1]


@given(row_lists())
def test_packed_and_padded_rows_train_the_same_tokens(rows: list[Row]) -> None:
    """What stands at `keep` is the token before each trained one, and both layouts have the same targets in order."""
    packed = collate_packed(rows)
    padded = collate_padded(rows, pad_id=99)
    flat = packed["input_ids"][0].tolist()
    before = [row.ids_T[place - 1] for row in rows for place, flag in enumerate(row.loss_mask_T) if flag]
    after = [row.ids_T[place] for row in rows for place, flag in enumerate(row.loss_mask_T) if flag]
    assert [flat[place] for place in packed["keep"].tolist()] == before
    assert packed["labels"][0].tolist() == after
    targets = [label for row in padded["labels"].tolist() for label in row if label != IGNORED]
    assert targets == packed["labels"][0].tolist()
    prefix = packed["prefix_length"]
    assert len(flat) == prefix + sum(packed["suffix_lengths"])
    assert packed["suffix_lengths"] == [len(row.ids_T) - prefix for row in rows]


def test_the_padded_layout_of_a_case_made_by_hand() -> None:
    rows = [Row([5, 6, 20, 21], [0, 0, 1, 1]), Row([5, 22], [0, 1])]
    batch = collate_padded(rows, pad_id=9)
    assert batch["input_ids"].tolist() == [[5, 6, 20, 21], [5, 22, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 20, 21], [IGNORED, 22, IGNORED, IGNORED]]


def test_trained_tokens_are_the_answers() -> None:
    assert trained_tokens([Row([1, 2, 3], [0, 1, 1]), Row([4, 3, 5], [0, 0, 1])]) == {2, 3, 5}


def test_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match=r"none of 0 documents can be trained on\.$"):
        prepare([], RENDERER, max_tokens=9)


def test_only_ten_are_listed() -> None:
    with pytest.raises(SampleTooLongError) as caught:
        prepare([Document("甲乙")] * 12, RENDERER, max_tokens=1, refuse=True)
    assert str(caught.value).startswith("12 of 12 documents")
    assert str(caught.value).count("\n  document ") == 10
    assert "Raise max_tokens" in str(caught.value)


def test_real_rows_are_whole_or_left_out(family_of: Any) -> None:
    """Never cut: the limit is the row's full length, and a crossing annotation is named with its reason."""
    spec = PromptSpec(PromptTemplate("句：{text}", "S"), LabelSet(("a", "b")), answer_format("inline"))
    renderer = Renderer(family_of("phi-3").tokenizer, spec)
    fits = Document.of("叶老桂来", [("a", 0, 3)])
    crossing = Document.of("叶老桂", [("a", 0, 2), ("b", 1, 3)])
    limit = len(renderer.row(fits).ids_T)
    prepared = prepare([fits, crossing, Document("很长" * 20)], renderer, max_tokens=limit)
    assert prepared.rows == (renderer.row(fits),)
    assert [item.number for item in prepared.left_out] == [2, 3]
    assert "cross" in prepared.left_out[0].reason
    assert f"more than max_tokens={limit}" in prepared.left_out[1].reason
    with pytest.raises(InputError, match="none of 1"):
        prepare([fits], renderer, max_tokens=limit - 1)
