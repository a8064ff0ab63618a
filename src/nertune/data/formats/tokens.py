"""Texts to tokens and tokens to texts, for the formats that hold texts as lists of tokens.

Scripts that write no spaces between words (Chinese, Japanese, Thai and some others) have a token a character and nothing
between tokens. All others have words, and a space between two of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["JOINERS", "Joiner", "JoinerName", "aligned", "is_unspaced", "tokens_of"]

JoinerName = Literal["auto", "space", "none"]
JOINERS: tuple[JoinerName, ...] = ("auto", "space", "none")

_UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese and Japanese
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
)
_CHARACTER = re.compile(f"[{_UNSPACED}]")
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_SOLID = re.compile(r"\S")
_RUN = re.compile(r"(.)\1*", re.DOTALL)

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Joiner:
    """How tokens become a text: with a space between them or with nothing.

    `spaced` "words": nothing, but a space between two tokens of which one has several characters, where a letter or
    digit of a script with spaces stands on either side ("iPhone", "6" in a Chinese sentence).
    """

    spaced: Literal["always", "never", "words"]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], name: JoinerName = "auto") -> Joiner:
        """The joiner called so; `auto`: told from the tokens of some sentences."""
        if name != "auto":
            return cls("always" if name == "space" else "never")
        return cls("words" if _are_unspaced(token for tokens in sentences for token in tokens) else "always")

    @property
    def note(self) -> str:
        """What is to be said about it."""
        between = {
            "always": "a space between them",
            "never": "nothing between them",
            "words": "nothing between them, but a space between two words of Latin letters or digits",
        }
        return f"tokens joined with {between[self.spaced]} (--joiner)"

    def join(self, tokens: Iterable[str]) -> tuple[str, list[Span]]:
        """The text, and where in it each token stands."""
        parts: list[str] = []
        spans: list[Span] = []
        position, before = 0, ""
        for token in tokens:
            if self._is_space_between(before, token):
                parts.append(" ")
                position += 1
            spans.append((position, position + len(token)))
            parts.append(token)
            position += len(token)
            before = token or before
        return "".join(parts), spans

    def _is_space_between(self, left: str, right: str) -> bool:
        if not left or not right or self.spaced == "never" or (self.spaced == "words" and len(left) + len(right) == 2):
            return False
        if left[-1].isspace() or right[0].isspace():
            return False
        return self.spaced == "always" or all(c.isalnum() and not _CHARACTER.match(c) for c in (left[-1], right[0]))


def is_unspaced(text: str) -> bool:
    """Whether most of a text is in a script without spaces between words."""
    return _are_unspaced(_PIECE.findall(text))


def tokens_of(text: str, cuts: Collection[int] = ()) -> list[Span]:
    """The tokens of a text, without its white space. `cuts`: where one must begin or end, whatever stands there.

    Characters, where most of the text is in a script without spaces. Otherwise what stands between spaces, the punctuation
    at its ends cut off, so that a text that was made of tokens keeps most of them.
    """
    if is_unspaced(text):
        return [(match.start(), match.end()) for match in _SOLID.finditer(text)]
    wanted = set(cuts)
    return [span for word in _words(text) for span in _cut(word, wanted)]


def aligned(tokens: Iterable[str], text: str) -> list[Span] | None:
    """Where tokens stand in a text that has, besides them, nothing but white space; None where it is not so."""
    spans: list[Span] = []
    position = 0
    for token in tokens:
        if not text.startswith(token, position):
            position = _behind_space(text, position)
            if not text.startswith(token, position):
                return None
        spans.append((position, position + len(token)))
        position += len(token)
    return spans if _behind_space(text, position) == len(text) else None


def _behind_space(text: str, position: int) -> int:
    found = _SOLID.search(text, position)
    return found.start() if found else len(text)


def _are_unspaced(tokens: Iterable[str]) -> bool:
    unspaced = spaced = 0
    for token in tokens:
        if _CHARACTER.search(token):
            unspaced += 1
        elif any(map(str.isalpha, token)):
            spaced += 1
    return unspaced > spaced


def _words(text: str) -> Iterator[Span]:
    for piece in _PIECE.finditer(text):
        word, start = piece[0], piece.start()
        first, last = 0, len(word)
        while first < last and _is_mark(word[first]):
            first += 1
        if first == last:  # nothing but marks: "--", "..."
            yield start, start + last
            continue
        while _is_mark(word[last - 1]):
            last -= 1
        if word[last:] == "." and "." in word[first:last]:  # U.S.
            last += 1
        yield from _runs(word[:first], start)
        yield start + first, start + last
        yield from _runs(word[last:], start + last)


def _runs(marks: str, start: int) -> Iterator[Span]:
    """Punctuation apart, equal marks together."""
    for run in _RUN.finditer(marks):
        yield start + run.start(), start + run.end()


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _cut(span: Span, cuts: Collection[int]) -> Iterator[Span]:
    start = span[0]
    for position in range(span[0] + 1, span[1]):
        if position in cuts:
            yield start, position
            start = position
    yield start, span[1]
