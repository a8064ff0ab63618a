"""From token ids to words while an answer grows: whole characters only, and nothing from a stop string on."""

from __future__ import annotations

from collections.abc import Sequence

from nertune.prompt import Tokenizer

__all__ = ["Words"]

_CUT = "\ufffd"  # what a decoder writes for a character of which bytes are missing


class Words:
    """The text of one answer. `stops`: strings before which it ends. `special`: control tokens are part of it.

    Pieces put together are what decoding all tokens at once gives, up to a stop string.
    """

    def __init__(self, tokenizer: Tokenizer, *, stops: Sequence[str] = (), special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._special = special
        self._ids: list[int] = []
        self._start = self._read = 0  # tokens whose text is known; the ones before it give these their spaces
        self._held = ""  # certain, but perhaps the beginning of a stop string
        self.stopped = False

    def add(self, ids: Sequence[int]) -> str:
        """What is certain now and was not before; empty once `stopped`."""
        self._ids += ids
        return self._release(self._decoded(), last=False)

    def end(self) -> str:
        """What is left when no more tokens come."""
        return self._release(self._decoded(last=True), last=True)

    def _decoded(self, *, last: bool = False) -> str:
        before = self._text(self._ids[self._start : self._read])
        now = self._text(self._ids[self._start :])
        if not last and now.endswith(_CUT):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _release(self, text: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def _text(self, ids: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(list(ids), skip_special_tokens=not self._special, clean_up_tokenization_spaces=False)
        )


def _overlap(text: str, stop: str) -> int:
    """How much of the end of a text is a beginning of the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
