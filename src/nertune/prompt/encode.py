"""Text to token ids where contents can never turn into chat control.

A rendered prompt is encoded as one string, exactly as the model's tokenizer encodes it elsewhere. Only when a content
holds a control token's text (`<|im_end|>` in the user's sentence) is the string cut at the *template's* control tokens
and what lies between encoded with those tokens unknown to the tokenizer, so that the content's stay plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from nertune.errors import InputError
from nertune.prompt.tokenizer import Tokenizer

__all__ = ["Piece", "SafeEncoder"]

Piece = tuple[str, bool]
"""A stretch of a prompt and whether it is the template's (True) or a content (False)."""


class SafeEncoder:
    """Encodes pieces of template and content; control ids come from template pieces alone.

    Control tokens are the tokenizer's special tokens and every added token that the chat template names.
    """

    def __init__(self, tokenizer: Tokenizer, template_source: str) -> None:
        self.tokenizer = tokenizer
        self._control = {
            added.content: token_id
            for token_id, added in tokenizer.added_tokens_decoder.items()
            if added.special or (added.content.strip() and added.content in template_source)
        }
        self._control_ids = frozenset(self._control.values())

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Token ids of the pieces, joined. Raises InputError where the tokenizer offers no way to keep contents text."""
        ids = self.tokenizer.encode("".join(text for text, _ in pieces), add_special_tokens=False)
        expected = [token_id for text, template in pieces if template for token_id in self._controls_in(text)]
        if [token_id for token_id in ids if token_id in self._control_ids] == expected:
            return ids
        return self._encode_between_controls(pieces)

    def control_ids(self, text: str) -> list[int]:
        """The control tokens that a template text stands for, in order."""
        return self._controls_in(text)

    def _controls_in(self, text: str) -> list[int]:
        return [self._control[match] for match in self._control_pattern.findall(text)] if text else []

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._control, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _encode_between_controls(self, pieces: Sequence[Piece]) -> list[int]:
        ids: list[int] = []
        stretch = ""
        for text, template in pieces:
            if not template:
                stretch += text
                continue
            position = 0
            for match in self._control_pattern.finditer(text):
                ids += self._encode_plain(stretch + text[position : match.start()], after=ids)
                ids.append(self._control[match[0]])
                stretch, position = "", match.end()
            stretch += text[position:]
        return ids + self._encode_plain(stretch, after=ids)

    def _encode_plain(self, text: str, *, after: list[int]) -> list[int]:
        """Ids of a stretch between two control tokens, none of which can be a control token."""
        if after and self.tokenizer.added_tokens_decoder[after[-1]].rstrip:
            text = text.lstrip()
        if not text:
            return []
        plain = self._plain_tokenizers[1 if after else 0]
        ids = list(plain.encode(text, add_special_tokens=False).ids)
        if not self._control_ids.isdisjoint(ids):
            raise InputError(f"the tokenizer reads chat control inside {text[:60]!r} and offers no way to prevent it")
        return ids

    @cached_property
    def _plain_tokenizers(self) -> tuple[Any, Any]:
        """The same tokenizer without its control tokens: for text at the very start, and for text after a control token."""
        from tokenizers import Tokenizer as FastTokenizer

        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputError(
                "a text holds the name of a control token of this model, and its tokenizer has no fast version that "
                "can keep it text; remove it from the text or name a model with a tokenizer.json"
            )
        description = json.loads(backend.to_str())
        description["added_tokens"] = [
            added for added in description["added_tokens"] if added["content"] not in self._control
        ]
        description["post_processor"] = None
        at_start = FastTokenizer.from_str(json.dumps(description))
        if not _prepend_nothing(description["pre_tokenizer"]):
            return at_start, at_start
        return at_start, FastTokenizer.from_str(json.dumps(description))


def _prepend_nothing(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Metaspace in the scheme "first" marks the start of the whole prompt alone; whether that had to be switched off."""
    steps = [pre_tokenizer, *pre_tokenizer.get("pretokenizers", [])] if pre_tokenizer else []
    first = [step for step in steps if step.get("prepend_scheme") == "first"]
    for step in first:
        step["prepend_scheme"] = "never"
    return bool(first)
