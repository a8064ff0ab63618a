"""The `inline` format: a text file, one document a line, its entities marked in the text.

In brackets (`[叶老桂 | name]博士…`) or in tags (`<name>叶老桂</name>博士…`), as the answer formats inline and xml write them:
they come in through `Answers`. Blank lines hold no document.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from nertune.atomic import replacing
from nertune.data.atomic import checked
from nertune.data.formats.answers import Marks
from nertune.data.loss import Expressed, Loss, uncrossed, unnamed, unscored, without
from nertune.data.records import label_problem
from nertune.data.source import Line, Missed, ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument, RawMention
from nertune.data.wording import shortened
from nertune.errors import InputError
from nertune.schema import Document

__all__ = ["Inline", "MarkedLines"]

_HEAD = 200  # lines that tell how the others are marked
# Tags of HTML: pages are no annotated texts, though each of their lines may be sound.
_HTML = frozenset(
    [
        *(
            "a",
            "abbr",
            "b",
            "big",
            "blockquote",
            "body",
            "br",
            "button",
            "caption",
            "center",
            "cite",
            "code",
            "dd",
            "div",
        ),
        *("dl", "dt", "em", "font", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "html", "i", "img"),
        *(
            "input",
            "li",
            "link",
            "main",
            "nav",
            "ol",
            "option",
            "p",
            "pre",
            "q",
            "script",
            "section",
            "select",
            "small",
        ),
        *(
            "span",
            "strike",
            "strong",
            "style",
            "sub",
            "sup",
            "table",
            "tbody",
            "td",
            "th",
            "thead",
            "title",
            "tr",
            "ul",
        ),
    ]
)


class Inline:
    """Reads marked lines, in brackets or in tags, whichever the first lines show. Written by `MarkedLines`."""

    name = "inline"

    convention, elects = HALF_OPEN, False

    def sniff(self, source: Source) -> bool:
        """Whether all of the first lines are sound, and some of them hold marks that are not just the whole line."""
        lines = [line for line in source.first_lines if line.text.strip()]
        return any(_is_marked(lines, marks) for marks in (source.answers.marks() if source.answers else ()))

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """A document a line. Lines that are not sound are left out and told.

        Raises InputError where the caller brought no `Answers`, and DataError where most lines are not sound.
        """
        if source.answers is None:
            raise InputError(f"{source.path}: to read marked lines, pass answers=nertune.prompt.KNOWN_ANSWERS")
        lines = (line for line in source.lines() if line.text.strip())
        head = list(islice(lines, _HEAD))
        if not head:
            raise source.error("holds only blank lines")
        marks = max(source.answers.marks(), key=lambda marks: _sound(head, marks, source))
        entities, sound = _sound(head, marks, source)
        notes.append(f"marks: {marks.name}" if entities else f"marks: none in the first {len(head):,} lines")
        for line in chain(head, lines):
            found = _document(line, marks, source)
            if not isinstance(found, str):
                yield found
            elif 2 * sound <= len(head):
                message = f"{found} ({len(head) - sound:,} of the first {len(head):,} lines are not)"
                raise source.error(message, line=line.number)
            else:
                options.missed.append(Missed(line.number, found))


@dataclass(frozen=True, slots=True)
class MarkedLines:
    """The `inline` format in one of its two ways of marking, to write."""

    marks: Marks
    name: str = "inline"

    def express(self, document: Document) -> Expressed:
        """Texts of one line that is not blank, with entities that nest."""
        kind = _unwritable(document.text)
        if kind is not None:
            return Expressed(None, (Loss(kind, left_out=True),))
        return unscored(document).then(unnamed).then(self._named).then(uncrossed).then(self._whole)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """One document a line, atomically. Raises DataError for text that is not Unicode, or DiskSpaceError."""
        with replacing(path) as file:
            for number, document in enumerate(documents, 1):
                line = self.marks.write(document)
                checked({"line": line}, path, number)
                file.write(line + "\n")

    def _named(self, document: Document) -> Expressed:
        lost = [entity for entity in document.entities if not self.marks.holds(entity.label)]
        losses = tuple(Loss(f"labels that cannot be written as {self.marks.name}", e, left_out=True) for e in lost)
        return Expressed(without(document, lost), losses) if lost else Expressed(document)

    def _whole(self, document: Document) -> Expressed:
        kind = self.marks.refusal(document)
        return Expressed(document) if kind is None else Expressed(None, (Loss(kind, left_out=True),))


def _unwritable(text: str) -> str | None:
    if "\n" in text or "\r" in text:
        return "texts of several lines"
    if not text.strip():
        return "blank texts"
    return "texts that begin with a byte order mark" if text[0] == "\ufeff" else None


def _is_marked(lines: Sequence[Line], marks: Marks) -> bool:
    found = [marks.read(line.text) for line in lines]
    documents = [document for document in found if isinstance(document, Document)]
    if len(documents) < len(lines):
        return False
    labels = {entity.label for document in documents for entity in document.entities}
    if marks.name == "xml" and any(label.casefold() in _HTML for label in labels):
        return False
    return any(entity.text != document.text for document in documents for entity in document.entities)


def _sound(lines: Sequence[Line], marks: Marks, source: Source) -> tuple[int, int]:
    """How many entities the sound ones of some lines hold, and how many lines are sound."""
    found = [document for line in lines if not isinstance(document := _document(line, marks, source), str)]
    return sum(len(document.mentions) for document in found), len(found)


def _document(line: Line, marks: Marks, source: Source) -> RawDocument | str:
    document = marks.read(line.text)
    if not isinstance(document, Document):
        return f"the line {marks.problem(line.text)}"
    problem = next((found for entity in document.entities if (found := label_problem(entity.label))), None)
    if problem is not None:
        return f"{problem}; rename it in the file: {shortened(line.text)!r}"
    mentions = tuple(RawMention(e.label, e.start, e.end, e.text) for e in document.entities)
    return RawDocument(document.text, mentions, None, line.number)
