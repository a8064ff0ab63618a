"""A tokenizer for models whose own is not at hand, because a server has it: one token a character.

It lets the same Renderer write the messages that such a server is sent, and read the answers; only lengths are counted
with its tokens, and a model's own are mostly fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nertune.prompt.tokenizer import AddedToken

__all__ = ["PlainTokenizer"]

_END = 0x110000  # one more than the last code point


class PlainTokenizer:
    """Token ids are code points; there are no control tokens and no turns of its own. Fits the protocol `Tokenizer`."""

    chat_template = None
    eos_token_id: int | None = _END
    pad_token_id: int | None = None
    bos_token: str | None = None
    added_tokens_decoder: Mapping[int, AddedToken] = {}
    special_tokens_map: Mapping[str, Any] = {}

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [ord(character) for character in text]

    def decode(
        self, token_ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        return "".join(chr(token_id) for token_id in token_ids if token_id < _END)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.decode([token_id]) for token_id in ids]
