"""Tokens added to a model's vocabulary: in its tokenizer, and as rows of its embeddings and output layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["add_rows", "add_tokens", "make_room"]


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> dict[int, list[int]]:
    """Make each text a token of its own, matched wherever it stands; no chat control is among them.

    Returns each token's id with the ids of the pieces that the text was before. A text that is a token already keeps its id.
    """
    from tokenizers import AddedToken

    pieces = [tokenizer.encode(token, add_special_tokens=False) for token in tokens]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    return dict(zip(tokenizer.convert_tokens_to_ids(list(tokens)), pieces, strict=True))


def make_room(model: Any, token_ids: Sequence[int]) -> range:
    """Lengthen embeddings and output layer, where they are too short for a token; returns the new rows."""
    rows = model.get_input_embeddings().weight.shape[0]
    needed = max(token_ids) + 1
    if needed <= rows:
        return range(0)
    model.resize_token_embeddings(needed, mean_resizing=False)
    return range(rows, needed)


def add_rows(model: Any, pieces: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """Give added tokens their rows and return the ids of all rows that now differ from the base model's.

    A row starts as the mean of its pieces' rows, so that it means from the first step what its text meant. Rows that a
    tokenizer leaves without a token between the model's last and the added ones start as the mean of all.
    """
    import torch

    if not pieces:
        return ()
    old = model.get_input_embeddings().weight.shape[0]
    new = make_room(model, list(pieces))
    ids = sorted({*pieces, *new})
    weights = {
        id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    with torch.no_grad():
        for weight_VH in weights.values():
            own = [[piece for piece in pieces.get(token, ()) if piece < old] for token in ids]
            starts = [weight_VH[known or slice(old)].float().mean(dim=0) for known in own]
            weight_VH[list(ids)] = torch.stack(starts).to(weight_VH.dtype)
    return tuple(ids)
