"""The `brat` format: standoff, each text in a .txt and its annotations in the .ann of the same name beside it.

Read are the text-bound lines, `T1<tab>LABEL start end<tab>text`, half-open code points. brat breaks an entity that runs over
line breaks into fragments, `0 5;6 10`; such are joined again. Fragments with words between them are no entity of ours and
are listed as lost. https://brat.nlplab.org/standoff.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from nertune.data.decoding import decoded
from nertune.data.formats.brat_files import Pair, pairs_of, read_bytes
from nertune.data.formats.brat_writing import BREAKS, write_folder
from nertune.data.loss import Expressed, Loss, unscored, without
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument, RawMention
from nertune.data.tally import Tally
from nertune.data.wording import shortened
from nertune.errors import DataError
from nertune.files import is_utf8, to_text
from nertune.schema import Document

__all__ = ["Brat"]

_ANNOTATION = re.compile(r"(?:[TREAMN#]\d|\*\t)")
_OTHERS = {
    "R": "relations",
    "E": "events",
    "A": "attributes",
    "M": "attributes",
    "N": "normalizations",
    "#": "annotators' notes",
    "*": "equivalences",
}
_DIGITS = 18  # of an offset, at most
_LOST = "mentions of several fragments left out, because an entity is one stretch of text"


class _Bound(NamedTuple):
    """A text-bound line: `spans` as they stand, `surface` None where the line ends before it."""

    label: str
    spans: list[tuple[int, int]]
    surface: str | None
    line: int


class Brat:
    """Reads a folder of texts with its sub-folders, or one text; writes a folder. Scores and relations are no part of it."""

    name = "brat"

    convention, elects = HALF_OPEN, True

    def sniff(self, source: Source) -> bool:
        """Whether a folder has an .ann in it, or a file is an .ann, or a .txt with its .ann beside it."""
        path = Path(source.path)
        if source.is_folder:
            return next(pairs_of(source.path, sniffing=True), None) is not None
        if path.suffix == ".ann":
            lines = (line.text for line in source.first_lines if line.text.strip())
            return _ANNOTATION.match(next(lines, "T1")) is not None
        return path.suffix == ".txt" and path.with_suffix(".ann").is_file()

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents in the order in which they were written, or else in that of their names.

        Raises DataError for an .ann without its .txt, for lines of another shape, and for what is wrong with the bytes.
        """
        tally = Tally(notes, limit=options.limit)
        found = False
        for pair in pairs_of(source.path, tally=tally):
            found = True
            tally.next_document()
            yield _document(pair, tally)
        if not found:
            raise source.error("holds no .ann with its .txt beside it")

    def express(self, document: Document) -> Expressed:
        """All but the scores, and entities whose labels have white space in them."""
        return unscored(document).then(_with_words_for_labels)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """A folder with a .txt and .ann a document and an `annotation.conf`, whole or not at all.

        An existing folder is replaced if it is empty, or as it was written here. Raises DataError otherwise, and as
        `nertune.data.write` does.
        """
        write_folder(documents, path)


def _with_words_for_labels(document: Document) -> Expressed:
    gone = [entity for entity in document.entities if any(map(str.isspace, entity.label))]
    losses = tuple(Loss("labels with white space in them", entity, left_out=True) for entity in gone)
    return Expressed(without(document, gone), losses) if gone else Expressed(document)


def _document(pair: Pair, tally: Tally) -> RawDocument:
    raw = read_bytes(pair.text_path)
    # A UTF-8 mark is a character of the text, as brat counts it.
    content = decoded(raw, pair.text_path, 1) if is_utf8(raw) else to_text(raw, pair.text_path)
    bound = list(_bound_lines(pair, tally))
    text = _as_counted(content, bound)
    if text is not content:
        tally.add("texts whose offsets pass over a byte order mark or count CR LF as one character, read so")
    mentions, lost = [], []
    for item in bound:
        whole = _whole(text, item.spans)
        if whole is None:
            tally.add(_LOST)
            lost.append(RawMention(item.label, item.spans[0][0], item.spans[-1][1], item.surface, None, item.line))
        else:
            surface = _surface(text, item, whole)
            mentions.append(RawMention(item.label, *whole, surface, None, item.line))
    return RawDocument(text, tuple(mentions), pair.id, 1, pair.shown, None, tuple(lost))


def _bound_lines(pair: Pair, tally: Tally) -> Iterator[_Bound]:
    content = to_text(read_bytes(pair.annotations_path), pair.annotations_path)
    for number, line in enumerate(content.split("\n"), 1):
        line = line.rstrip("\r")
        if line.startswith("T"):
            yield _bound(pair, number, line)
        elif line.strip():
            if line[0] not in _OTHERS:
                raise DataError(
                    f"an annotation begins with one of T {' '.join(_OTHERS)}, found {shortened(line)!r}",
                    path=pair.annotations_path,
                    line=number,
                )
            tally.add(f"{_OTHERS[line[0]]} passed over")


def _bound(pair: Pair, number: int, line: str) -> _Bound:
    parts = line.split("\t", 2)
    tokens = parts[1].split(" ") if len(parts) > 1 else []
    # From the end: a whole number, then those that a ";" joins, then a whole number; what is before is the label.
    first = len(tokens) - 2
    while first > 0 and ";" in tokens[first]:
        first -= 1
    spans = [_numbers(span) for span in " ".join(tokens[first:]).split(";")] if first > 0 else [None]
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        wanted = "T1<tab>LABEL START END<tab>TEXT, or START END;START END for fragments"
        message = f"a text-bound annotation is {wanted}; found {shortened(line)!r}"
        raise DataError(message, path=pair.annotations_path, line=number)
    label = Record(pair.annotations_path, number, {}).label(" ".join(tokens[:first]))
    return _Bound(label, known, parts[2] if len(parts) > 2 else None, number)


def _numbers(span: str) -> tuple[int, int] | None:
    numbers = span.split(" ")
    if len(numbers) == 2 and all(n.isascii() and n.isdecimal() and len(n) <= _DIGITS for n in numbers):
        return int(numbers[0]), int(numbers[1])
    return None


def _as_counted(content: str, bound: list[_Bound]) -> str:
    """The text as the offsets count it: as it stands, if that explains as many mentions as anything else does."""
    plain = content.removeprefix("\ufeff")
    ways = (content, content.replace("\r\n", "\n"), plain, plain.replace("\r\n", "\n"))
    if all(way == content for way in ways):
        return content
    return max(ways, key=lambda text: sum(_shown(text, item.spans) == item.surface for item in bound))


def _shown(text: str, spans: list[tuple[int, int]]) -> str:
    """What a line shows of the text at `spans`: fragments joined by a space, a space for each break."""
    return BREAKS.sub(" ", " ".join(text[start:end] for start, end in spans))


def _whole(text: str, spans: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The stretch that fragments make, None where there is more than white space between them."""
    for (_, end), (start, _) in pairwise(spans):
        if not (end <= start and (start == end or text[end:start].isspace())):
            return None
    return spans[0][0], spans[-1][1]


def _surface(text: str, item: _Bound, whole: tuple[int, int]) -> str | None:
    """The mention's surface as the text has it at its span: the line of an .ann shows spaces for line breaks."""
    return text[whole[0] : whole[1]] if item.surface == _shown(text, item.spans) else item.surface
