"""Where in the prompts of a file its sentences stand: told from what the first rows' prompts have in common.

Rows for LLMs bring the whole prompt with them. What stands before and after the sentence is the same in all of them, but so
may be the beginning of all sentences: a frame ends at a line, a colon or a quotation mark, and of several that are possible
the answers choose, which speak of the sentence alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nertune.data.records import Record
from nertune.data.wording import shortened

__all__ = ["MARKER", "Exchange", "Frame", "frames", "marked"]

MARKER = "<输入文本>"
_MARKED = re.compile(rf"^[^\S\n]*{MARKER}[^\S\n]*\n", re.MULTILINE)
_NAME = r"(?:输入文本|输入|文本|句子|原文|text|input|sentence)[^\S\n]*[:：][^\S\n]*"
_NAMED = re.compile(_NAME, re.IGNORECASE)
_BREAK = re.compile(r"\n|[:：][^\S\n]*|[\"“「『`>]")
_CLOSING = {'"': '"', "“": "”", "「": "」", "『": "』", "`": "`", ">": "<"}
_BREAKS = 6  # places where a beginning that all prompts have may end
_FEWEST = 5  # prompts of which the end is no chance
_WORDS = 8  # characters of a line that is no part of the sentences though it stands in their own column


class Exchange(NamedTuple):
    """A row as LLMs are trained on it: what is asked and what is to be answered.

    `given`: where in the prompt the column begins that holds the sentence, None where it has none of its own. `earlier`: how
    many turns come before this one.
    """

    record: Record
    system: str
    prompt: str
    given: int | None
    answer: str
    earlier: int = 0

    @property
    def part(self) -> str:
        """The part of the prompt that holds the sentence."""
        return self.prompt[self.given or 0 :]


class Frame(NamedTuple):
    """What stands before and after the sentence within its column, or within the prompt where there is none."""

    before: str
    after: str

    def sentence(self, part: str) -> tuple[int, int] | None:
        """The place of the sentence in a prompt's part; None where the part is framed otherwise."""
        end = len(part) - len(self.after)
        if end < len(self.before) or not part.startswith(self.before) or not part.endswith(self.after):
            return None
        return len(self.before), end

    def note(self, *, column: bool) -> str | None:
        """What people should know of it; None where sentences are what a column holds."""
        if column and not self.after:
            return (
                f"the prefix {shortened(self.before)!r} of every input is not part of the texts"
                if self.before
                else None
            )
        if not self.before and not self.after:
            return "the whole prompts are the texts: they have no words in common that end at a line or a colon"
        before, after = self.before[-30:], shortened(self.after)
        return f"the texts stand after {before!r}" + (f" and before {after!r}" if after else "") + " in every prompt"


def marked(prompt: str) -> int | None:
    """Where the sentence begins behind the last line that is the marker of nertune's own prompts."""
    ends = [found.end() for found in _MARKED.finditer(prompt)]
    return ends[-1] if ends else None


def frames(rows: Sequence[Exchange], copies: Iterable[str | None]) -> list[Frame]:
    """The frames that the first rows of one kind (with a column for the sentence, or without) can have, the likeliest first.

    `copies`: the sentence that each row's answer copies, None where it does not. Empty where the rows do not tell.
    """
    column = rows[0].given is not None
    parts = [row.part for row in rows]
    distinct = sorted(set(parts))
    found = list(_by_copies(parts, copies))
    if len(distinct) == 1:
        known = _NAMED.match(distinct[0]) if column else None
        return [*found, *([Frame(known[0], "")] if known else []), *([Frame("", "")] if column else [])]
    common = _common(distinct)
    closed = all(marked(row.prompt) == row.given for row in rows) if column else False
    marker = marked(common)
    if marker is not None:
        cuts = [marker]
    elif column and any(row.given for row in rows):
        cuts = [*([] if closed else _column_cuts(common)), 0]
    else:
        cuts = [*_cuts(common), 0]
    telling = closed or marker is not None or len(distinct) >= _FEWEST
    for cut in cuts:
        tails = _tails([part[cut:] for part in distinct], common[:cut]) if telling else []
        quoted = marker is None and cut > 0 and common[cut - 1] in _CLOSING
        found += [Frame(common[:cut], tail) for tail in ([*tails] if quoted else [*tails, ""])]
    return list(dict.fromkeys(found))


def _by_copies(parts: Sequence[str], copies: Iterable[str | None]) -> Iterator[Frame]:
    """The frame that most answers leave of their prompts, where they copy the sentence."""
    counted: Counter[Frame] = Counter()
    for part, copy in zip(parts, copies, strict=True):
        place = part.rfind(copy) if copy else -1
        if copy and place >= 0:
            counted[Frame(part[:place], part[place + len(copy) :])] += 1
    for frame, count in counted.most_common(1):
        if count > 1 or len(counted) == 1:
            yield frame


def _cuts(common: str) -> list[int]:
    """Where the words that all prompts begin with may end, the last first."""
    return [found.end() for found in _BREAK.finditer(common)][: -_BREAKS - 1 : -1]


def _column_cuts(common: str) -> list[int]:
    """The same for a column of sentences: lines of words, and a name for what follows."""
    line = common.rfind("\n") + 1
    cut = line if len(common[:line].strip()) >= _WORDS else 0
    known = _NAMED.match(common, cut)
    return [known.end()] if known else [cut] if cut else []


def _tails(rests: Sequence[str], before: str) -> list[str]:
    """What stands after all sentences: whole lines, or what closes a quotation that was opened before them."""
    common = _common([rest[::-1] for rest in rests])[::-1]
    closing = _CLOSING.get(before[-1:], "")
    places = [common.find(sign) for sign in (closing, "\n") if sign]
    return [common[place:] for place in places if place >= 0 and re.search(r"\w|\W\Z", common[place:].strip())]


def _common(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    first, last = min(texts), max(texts)
    length = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length]
