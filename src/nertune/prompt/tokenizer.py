"""The tokenizer as the prompt room sees it: a protocol, so that nothing here imports a model library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["AddedToken", "Tokenizer"]


class AddedToken(Protocol):
    """A token matched as a whole before the vocabulary is consulted; `special` ones steer the chat."""

    content: str
    special: bool
    lstrip: bool
    rstrip: bool


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer (`PreTrainedTokenizerBase`)."""

    chat_template: Any
    eos_token_id: int | None
    pad_token_id: int | None
    bos_token: str | None

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...

    @property
    def special_tokens_map(self) -> Mapping[str, Any]: ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def decode(
        self, token_ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> Any: ...

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> Any: ...
