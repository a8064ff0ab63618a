"""What the characters of one text are: unseen ones, lost ones, ones with an equivalent; and its line ends."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from nertune.data.audit.findings import At, Findings

__all__ = ["LineEnds", "character_kind", "check_text"]

# U+2028 and U+2029 are seen as nothing, or as line ends, by one program or another.
_INVISIBLE = frozenset(
    "\u2028\u2029\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060\u2061\u2062\u2063\u2064\u3164\uffa0"
)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS = frozenset("\u200c\u200d")
_BLACK_FLAG = "\U0001f3f4"  # begins the flags of England, Scotland and Wales, whose letters are tags
_LINE_END = re.compile("\r\n|\r|\n")
_NAMES = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}


def check_text(at: At, findings: Findings) -> None:
    """All that one text's characters tell by themselves; each kind once a document, at its first place."""
    text = at.row.document.text
    if not text or text.isspace():
        findings.add("text-empty", at)
        return
    if text.isascii() and text.isprintable():
        return
    kinds: dict[str, list[str]] = {}
    for character in set(text):
        if kind := character_kind(character):
            kinds.setdefault(kind, []).append(character)
    if idle := _idle(text):
        kinds.setdefault("invisible-character", []).extend(idle)
    for kind, characters in kinds.items():
        place = min(map(text.index, characters))
        codes = ", ".join(f"U+{ord(character):04X}" for character in sorted(characters)[:8])
        findings.add(kind, at, place, place + 1, codes)
    if not unicodedata.is_normalized("NFC", text):
        findings.add("not-composed", at, *_uncomposed(text))


@lru_cache(maxsize=1 << 16)
def character_kind(character: str) -> str | None:
    """The kind of finding that a character is by itself, None for most."""
    if character == "\ufeff":
        return "byte-order-mark"
    if character == "\ufffd":
        return "replacement-character"
    if character in _INVISIBLE:
        return "invisible-character"
    if character in _BIDI:
        return "bidi-control"
    category = unicodedata.category(character)
    if category == "Cc":
        return None if character in "\t\n\r" else "control-character"
    if category == "Co":
        return "private-use"
    # Punctuation and symbols are left out: full-width ones are the rule in Chinese, not a variant.
    if category[0] in "LN" and unicodedata.normalize("NFKC", character) != unicodedata.normalize("NFC", character):
        return "compatibility-character"
    return None


def _idle(text: str) -> list[str]:
    """Joiners and tags that shape nothing: the ones are for emoji, Persian and Indic scripts, the others for flags."""
    found = [] if _BLACK_FLAG in text else [tag for tag in set(text) if "\U000e0000" <= tag <= "\U000e007f"]
    for joiner in _JOINERS:
        place = text.find(joiner)
        while place >= 0:
            if any(_joins_nothing(text[side : side + 1]) for side in (max(place - 1, 0), place + 1)):
                found.append(joiner)
                break
            place = text.find(joiner, place + 1)
    return found


def _joins_nothing(neighbour: str) -> bool:
    return neighbour in _JOINERS or neighbour.isascii() or "\u2e80" <= neighbour <= "\u9fff" or neighbour.isspace()


def _uncomposed(text: str) -> tuple[int, int]:
    """The first stretch (a character and its marks) that NFC would change."""
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or not unicodedata.combining(text[place]):
            if not unicodedata.is_normalized("NFC", text[start:place]):
                return start, place
            start = place
    return 0, len(text)


class LineEnds:
    """Which line ends the texts have, and which of them are not those of most."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, text: str) -> None:
        """Take one text into account: each kind of line end that is in it once."""
        if "\n" in text or "\r" in text:
            self._counts.update(set(_LINE_END.findall(text)))

    def report(self, at: At, findings: Findings) -> None:
        """One document's line ends that are not those of most, once all were counted."""
        text = at.row.document.text
        if len(self._counts) < 2 or not ("\n" in text or "\r" in text):
            return
        usual = max(self._counts, key=lambda end: (self._counts[end], end == "\n"))
        for found in _LINE_END.finditer(text):
            if found[0] != usual:
                findings.add("line-ends", at, *found.span(), f"{_NAMES[found[0]]}, most have {_NAMES[usual]}")
                return
