"""Show characters that cannot be seen, or that would steer a terminal or reorder a page, as `⟨U+202E⟩`.

The texts, labels and names of data and models come from strangers. An escape sequence in one can clear the screen or forge
a message, and a bidi control can make a line read as another. Whatever prints such a text does it through here; `kit.js`
does the same for HTML pages.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["STEERING", "escaped", "visible"]

# Controls but tab and line feed; soft hyphen; bidi controls (UAX #9); zero-width space; line and paragraph separators;
# invisible operators; halves of surrogate pairs; byte order mark; interlinear annotation; tags.
STEERING = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff"
    "\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
)
_STEERING = re.compile(f"[{STEERING}]")


def visible(text: str, *, layout: bool = False) -> str:
    """The text with what cannot be seen as `⟨U+000A⟩`, on one line.

    `layout`: leave what lays a text out and steers nothing: line feeds, tabs, spaces of any width, joiners within words.
    """
    if text.isprintable():
        return text
    if layout:
        return _STEERING.sub(lambda found: _named(found[0]), text)
    return "".join(
        _named(character) if unicodedata.category(character)[0] in "CZ" and character not in " \u3000" else character
        for character in text
    )


def escaped(json_text: str) -> str:
    """JSON in which what would steer a terminal is written as `\\u202e`: the same value, safe to look at."""
    return _STEERING.sub(lambda found: _json_escape(found[0]), json_text)


def _named(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
