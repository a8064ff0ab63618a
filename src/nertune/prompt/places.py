"""Where each token of an answer stands in the answer's text: what joins a token's probability to the entity it writes.

A token need not end where a character ends. Byte-level vocabularies (GPT-2's, Qwen's) cut characters anywhere; those with
byte fallback (sentencepiece's, Gemma's) spell rare characters in single bytes. So tokens become bytes first, and the bytes
are decoded one token after another: linear in the length of the answer, and equal to what the tokenizer itself decodes.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Sequence
from functools import cached_property

from nertune.prompt.tokenizer import Tokenizer

__all__ = ["TokenPlaces"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_REPLACEMENT = "\ufffd".encode()


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level vocabularies write bytes with (Radford et al. 2019, GPT-2's `bytes_to_unicode`)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + number): byte for number, byte in enumerate(hidden)}


_ALPHABET = _byte_alphabet()


class TokenPlaces:
    """Finds the characters that each token of a decoded text holds, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bytes] = {}

    def find(self, ids: Sequence[int], text: str) -> list[tuple[int, int]] | None:
        """For each token the half-open range of the characters of `text` that it holds at least one byte of.

        `text`: what the tokenizer decodes the ids to. The ranges tile it: each begins where the one before it ended or,
        where a character is split over tokens, at the last character of the one before it. None where the tokenizer
        decodes in a way that is not understood here.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        ranges, parts, end = [], [], 0
        for part in self.parts(ids):
            start = end
            parts.append(decoder.decode(part))
            end += len(parts[-1])
            split = bool(decoder.getstate()[0])
            ranges.append((start, end + split))
        parts.append(decoder.decode(b"", final=True))
        if parts[-1]:  # of an unfinished character, which can be shown as several marks
            ranges[-1] = (ranges[-1][0], end + len(parts[-1]))
        decoded = "".join(parts)
        if decoded == text:
            return ranges
        # Vocabularies that write a space before the first word take it off again.
        if decoded == " " + text:
            return [(max(start - 1, 0), max(end - 1, 0)) for start, end in ranges]
        return None

    def whole(self, ids: Sequence[int]) -> list[tuple[int, str]]:
        """Group tokens such that no character is cut: for each group its number of tokens and its text.

        Bytes that are no UTF-8 at all are shown as U+FFFD, those of an unfinished last character too.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        groups, text, count = [], "", 0
        for part in self.parts(ids):
            text, count = text + decoder.decode(part), count + 1
            if not decoder.getstate()[0]:
                groups.append((count, text))
                text, count = "", 0
        return [*groups, (count, text + decoder.decode(b"", final=True))] if count else groups

    def boundary(self, ids: Sequence[int], place: int) -> int:
        """The last place between tokens, from `place` back, at which no character is cut."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        last = 0
        for number, token in enumerate(ids[:place], 1):
            decoder.decode(self.bytes_of(token))
            last = last if decoder.getstate()[0] else number
        return last

    def parts(self, ids: Sequence[int]) -> list[bytes]:
        """Each token's bytes, such that all of them together are the bytes of the decoded text."""
        pieces = [str(piece or "") for piece in self._tokenizer.convert_ids_to_tokens(list(ids))]
        if self._byte_level:
            return [_bytes_of(piece) for piece in pieces]
        parts: list[bytes] = []
        for spelled, group in itertools.groupby(
            zip(ids, pieces, strict=True), key=lambda pair: bool(_BYTE.fullmatch(pair[1]))
        ):
            if not spelled:
                parts += [self._own(token) for token, _ in group]
                continue
            run = [bytes.fromhex(piece[3:5]) for _, piece in group]
            # Byte fallback decodes a run of byte tokens as a whole, and one that is no UTF-8 to a mark for each byte.
            parts += run if _is_utf8(b"".join(run)) else [_REPLACEMENT] * len(run)
        return parts

    def bytes_of(self, token: int) -> bytes:
        """One token's own bytes, which need not be UTF-8: those of tokens that share a character make it together."""
        piece = str(self._tokenizer.convert_ids_to_tokens([token])[0] or "")
        if self._byte_level:
            return _bytes_of(piece)
        spelled = _BYTE.fullmatch(piece)
        return bytes.fromhex(spelled[1]) if spelled else self._own(token)

    def _own(self, token: int) -> bytes:
        """What a token adds to a text that stands before it."""
        if token not in self._known:
            whole = self._decode([*self._before, token])
            self._known[token] = whole[len(self._decode(self._before)) :].encode()
        return self._known[token]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @cached_property
    def _before(self) -> list[int]:
        return self._tokenizer.encode("a", add_special_tokens=False)

    @cached_property
    def _byte_level(self) -> bool:
        """Whether the vocabulary writes bytes in the alphabet: then a Chinese character is written in other characters."""
        ids = self._tokenizer.encode("甲", add_special_tokens=False)
        written = "".join(str(piece) for piece in self._tokenizer.convert_ids_to_tokens(ids))
        return all(character in _ALPHABET for character in written) and _bytes_of(written) == "甲".encode()


def _bytes_of(piece: str) -> bytes:
    """A byte-level token's bytes; a token with a character outside the alphabet stands for itself."""
    try:
        return bytes(_ALPHABET[character] for character in piece)
    except KeyError:
        return piece.encode()


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode()
    except UnicodeDecodeError:
        return False
    return True
