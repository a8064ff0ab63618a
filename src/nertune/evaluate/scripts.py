"""The script that a text is written in, and the language where the script tells it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

__all__ = ["script_of"]

_NAMES = {
    "CJK": "Chinese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "THAI": "Thai",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "GEORGIAN": "Georgian",
    "ARMENIAN": "Armenian",
}
_MIXED = 0.2  # the share of its letters from which a second script makes a text mixed


def script_of(text: str) -> str:
    """`Chinese`, `Japanese`, `Korean` and others that a script tells, else the script: `Latin script`, `Arabic script`.

    Two that both have a fifth of the letters or more are named together (`Chinese and Latin script`); a text of Han and kana
    is Japanese. `no letters` where there are none.
    """
    scripts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if name := _script(character):
            scripts[name] += count
    letters = scripts.total()
    if not letters:
        return "no letters"
    if scripts["Japanese"] >= letters / 10:
        scripts["Japanese"] += scripts.pop("Chinese", 0)
    # Equal shares by name, so that the order of characters does not matter.
    ranked = sorted(scripts.items(), key=lambda item: (-item[1], item[0]))
    names = [name for name, count in ranked[:2] if count >= _MIXED * letters]
    return " and ".join(sorted(names[:2])) if names else "mixed scripts"


@lru_cache(maxsize=65_536)
def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    first = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    if first in ("FULLWIDTH", "HALFWIDTH"):
        first = unicodedata.name(character).split(" ")[1]
    return _NAMES.get(first, f"{first.capitalize()} script") if first else None
