"""From documents to the packed rows that training computes on.

Every document becomes one Row (prompt, answer, loss mask); a document whose row would not fit, or whose answer cannot be
written, is left out *by name*, never cut. A micro-batch of rows becomes one PackedBatch: the prefix that all its prompts
share once, then what differs, and the places where a prediction is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nertune.errors import InputError, SampleTooLongError
from nertune.prompt import IGNORED, Renderer, Row
from nertune.schema import Document
from nertune.train.free import FreeTokens

__all__ = [
    "LeftOut",
    "Prepared",
    "collate_numbered",
    "collate_packed",
    "collate_padded",
    "prepare",
    "shared_prefix_length",
    "trained_tokens",
    "untrained",
]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A document that is not trained on: its number in the file (1-based, annotated documents), why, and its text.

    `source`: task and file, where a run has several tasks.
    """

    number: int
    reason: str
    text: str
    source: str = ""

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        return f"{where}document {self.number}: {self.reason}: {self.text[:40]!r}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows ready for training, the documents left out, and what to call the document of each row in a message."""

    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    names: tuple[str, ...] = ()


def prepare(
    documents: Sequence[Document],
    renderer: Renderer,
    *,
    max_tokens: int,
    refuse: bool = False,
    numbers: Sequence[int] | None = None,
    source: str = "",
    free: FreeTokens | None = None,
) -> Prepared:
    """Render every document; those over `max_tokens` tokens, or not writable, are left out.

    `numbers`: what to call each document where it is left out; None counts from 1. `source`: where they come from. `free`:
    takes out of the loss what the grammar forces; an answer that is forced altogether is left out.
    Raises SampleTooLongError (with the first ten) instead when `refuse`, and InputError when nothing remains.
    """
    rows: list[Row] = []
    names: list[str] = []
    left_out: list[LeftOut] = []
    where = f"{source}: " if source else ""
    for number, document in zip(numbers or range(1, len(documents) + 1), documents, strict=True):
        try:
            row = renderer.row(document)
            long = len(row.ids_T) > max_tokens
            if free and not long:
                row = free.row(row, document.text)
        except InputError as error:
            left_out.append(LeftOut(number, str(error), document.text, source))
            continue
        if long:
            reason = f"{len(row.ids_T)} tokens, more than max_tokens={max_tokens}: its answer would be cut"
            left_out.append(LeftOut(number, reason, document.text, source))
        elif 1 not in row.loss_mask_T:
            reason = "the grammar leaves its answer no choice, and loss_tokens: free trains nothing else"
            left_out.append(LeftOut(number, reason, document.text, source))
        else:
            rows.append(row)
            names.append(f"{where}document {number}: {document.text[:40]!r}")
    if left_out and refuse:
        listed = "\n".join(f"  {item}" for item in left_out[:10])
        raise SampleTooLongError(
            f"{len(left_out)} of {len(documents)} documents cannot be trained on whole, and the recipe says "
            f"overlong: refuse\n{listed}\nRaise max_tokens, shorten them, or say overlong: drop"
        )
    if not rows:
        example = f" The first: {left_out[0]}" if left_out else ""
        raise InputError(f"none of {len(documents)} documents can be trained on.{example}")
    return Prepared(tuple(rows), tuple(left_out), tuple(names))


def trained_tokens(rows: Sequence[Row]) -> set[int]:
    """The token ids that occur at trained places."""
    return {token for row in rows for token, flag in zip(row.ids_T, row.loss_mask_T, strict=True) if flag}


def shared_prefix_length(rows: Sequence[Row]) -> int:
    """Leading tokens that all rows share and none trains, leaving at least one prompt token to every row."""
    shortest = min(row.prompt_length for row in rows) - 1
    first, last = min(row.ids_T for row in rows), max(row.ids_T for row in rows)
    # Between the least and the greatest row in lexical order lie all others: what these two share, all share.
    for place in range(shortest):
        if first[place] != last[place]:
            return place
    return shortest


def collate_packed(rows: Sequence[Row]) -> dict[str, Any]:
    """One packed row for a micro-batch.

    `input_ids` (1, S); `prefix_length` and `suffix_lengths` say how it is laid out; `keep` (M) the places whose next token
    is trained and `labels` (1, M) those tokens. `shift_labels` repeats `labels` for the trainer's token count.
    """
    prefix = shared_prefix_length(rows)
    ids = list(rows[0].ids_T[:prefix])
    keep: list[int] = []
    targets: list[int] = []
    for row in rows:
        offset = len(ids) - prefix
        trained = [place for place, flag in enumerate(row.loss_mask_T) if flag]
        keep += [offset + place - 1 for place in trained]
        targets += [row.ids_T[place] for place in trained]
        ids += row.ids_T[prefix:]
    labels = torch.tensor([targets])
    return {
        "input_ids": torch.tensor([ids]),
        "prefix_length": prefix,
        "suffix_lengths": [len(row.ids_T) - prefix for row in rows],
        "keep": torch.tensor(keep),
        "labels": labels,
        "shift_labels": labels,
    }


def collate_numbered(
    samples: Sequence[tuple[int, Row]], *, collate: Callable[[Sequence[Row]], dict[str, Any]]
) -> dict[str, Any]:
    """The batch of rows that come with their places in the data set, `enumerate(rows)`; `samples` are those places."""
    return {**collate([row for _, row in samples]), "samples": [place for place, _ in samples]}


def collate_padded(rows: Sequence[Row], *, pad_id: int) -> dict[str, Any]:
    """The plain batch: right-padded `input_ids`, `attention_mask` and `labels` of shape (N, T), -100 where not trained.

    For models whose attention cannot share a prefix, and the reference that the packed row is tested against.
    """
    longest = max(len(row.ids_T) for row in rows)
    padding = [longest - len(row.ids_T) for row in rows]
    return {
        "input_ids": torch.tensor([row.ids_T + [pad_id] * gap for row, gap in zip(rows, padding, strict=True)]),
        "attention_mask": torch.tensor(
            [[1] * len(row.ids_T) + [0] * gap for row, gap in zip(rows, padding, strict=True)]
        ),
        "labels": torch.tensor([row.labels() + [IGNORED] * gap for row, gap in zip(rows, padding, strict=True)]),
    }


def untrained(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with no trained token left in it, whichever function made it: its loss and its gradients are zero."""
    if "keep" not in batch:
        return {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}
    none = batch["labels"][:, :0]
    return {**batch, "keep": batch["keep"][:0], "labels": none, "shift_labels": none}
