"""The `conll` format: a token and its tag a line, a blank line between sentences.

CoNLL-2003 and its many relatives: two columns or more, between tabs or spaces; `-DOCSTART-` lines; comments. `# id = …` and
`# text = …` before a sentence are CoNLL-U's (https://universaldependencies.org/format.html): its id, and its text where the
tokens alone do not tell it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import NamedTuple

from nertune.atomic import replacing
from nertune.data.atomic import checked
from nertune.data.formats.sentences import Sentence, documents
from nertune.data.formats.tagging import Scheme, is_tag, taggable, tags_of
from nertune.data.formats.tokens import Joiner, is_unspaced, tokens_of
from nertune.data.loss import Expressed, Loss
from nertune.data.source import Line, ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument
from nertune.data.tally import Tally
from nertune.data.wording import shortened
from nertune.errors import InputError
from nertune.schema import Document

__all__ = ["Conll"]

# Punctuation between parts of a sentence, and a length that few words have in scripts without spaces.
_PUNCTUATED = re.compile(r"\w[，。、；：！？,;:!?]\w")
_LONG_TOKEN = 16
_DOCSTART = "-DOCSTART-"
_KEYED = re.compile(r"#\s*(?:(?P<id>(?:sent_)?id)|(?P<text>text))\s*[=:]\s?(?P<value>.*)", re.DOTALL)
_BARE_ID = re.compile(r"#\s*(?:sent_)?id\s+(?P<value>\S+)")  # MultiCoNER: "# id 5239d808… domain=en"
_SPACES = re.compile(" +")
_SEGMENTED = re.compile(r"\S\d{1,2}")  # 现0 任1: a character and its place in the word, as Weibo NER has it
_LONGEST = 1_000_000  # tokens of a sentence
_HEAD = 1_000  # sentences, as many as the reader decides by


@dataclass(frozen=True)
class Conll:
    """Reads column files of any BIO-like scheme, the token first and the tag last; writes two columns, tab between."""

    scheme: Scheme = "bio"

    name = "conll"
    convention, elects = HALF_OPEN, False

    def sniff(self, source: Source) -> bool:
        """Whether the last of several columns is a tag; in one line of ten it may be none, so that reading says where."""
        if not source.is_text:
            return False
        columns = _Columns.of(source.first_lines, None, source)
        rows = [columns.row(line) for line in source.first_lines]
        tags = [row.tag for row in rows if row is not None]
        return len(tags) > 1 and sum(map(is_tag, tags)) >= 0.9 * len(tags)

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """A document a sentence. Raises DataError for a line without a tag, or with one that is none."""
        columns = _Columns.of(source.first_lines, options.columns, source)
        sentences = _sentences(source, columns, Tally(notes))
        head = list(islice(sentences, _HEAD))
        if not head:
            raise source.error("holds no tokens")
        following: Iterator[Sentence] = chain(head, sentences)
        whole = [sentence.tokens[0] for sentence in head if _is_whole_sentence(sentence)]
        if 2 * len(whole) >= len(head):
            options.doubts.append(
                f"{len(whole):,} of {len(head):,} sentences are a single token, such as {shortened(whole[0])}: whole sentences "
                "bear the tags, and not the entities in them; export the file by characters or words"
            )
        tokens = [token for sentence in head for token in sentence.tokens]
        if all(map(_SEGMENTED.fullmatch, tokens)) and is_unspaced("".join(token[:1] for token in tokens)):
            notes.append("tokens: the digits behind each character (its place in the word) taken off")
            following = (s._replace(tokens=[token[:1] for token in s.tokens]) for s in following)
        yield from documents(following, source, options, notes)

    def express(self, document: Document) -> Expressed:
        """Flat entities, in a text of one line."""
        return Expressed(document).then(_on_a_line).then(taggable)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """Sentences with their tags, atomically. Raises DataError or DiskSpaceError; see `nertune.data.write`."""
        coming = (self._sentence(document) for document in documents)
        head = list(islice(coming, _HEAD))
        # What the reader will take to stand between tokens: a text that comes out otherwise is written as a comment.
        joiner = Joiner.of(sentence.tokens for sentence in head)
        with replacing(path) as file:
            for number, sentence in enumerate(chain(head, coming), 1):
                checked({"id": sentence.id, "text": sentence.text, "tags": sentence.tags}, path, number)
                file.write(_block(sentence, joiner))

    def _sentence(self, document: Document) -> Sentence:
        cuts = [offset for entity in document.entities for offset in (entity.start, entity.end)]
        spans = tokens_of(document.text, cuts)
        tokens = [document.text[start:end] for start, end in spans]
        return Sentence(tokens, tags_of(document, spans, self.scheme), id=document.id, text=document.text)


class _Row(NamedTuple):
    """A line's token and tag, and how many columns it has."""

    token: str
    tag: str
    width: int


@dataclass(frozen=True)
class _Columns:
    """Where in a line token and tag stand, from 0, negative from the end.

    `count`: how many columns most lines have; `fewest`: how many a line must have.
    """

    token: int
    tag: int
    count: int
    fewest: int

    @classmethod
    def of(cls, head: Sequence[Line], columns: Mapping[str, str] | None, source: Source) -> _Columns:
        counts = Counter(len(_fields(line.text)) for line in head if line.text.strip() and line.text[0] != "#")
        count = counts.most_common(1)[0][0] if counts else 2
        named = columns or {}
        if unknown := [name for name in named if name not in ("token", "tag")]:
            raise InputError(f"{source.path}: --column {unknown[0]}: the columns of conll are called token and tag")
        places = _column(named, "token", 0, source), _column(named, "tag", -1, source)
        return cls(*places, count, max(2, *(place + 1 if place >= 0 else -place for place in places)))

    def row(self, line: Line, *, announced: bool = False) -> _Row | None:
        """Token and tag (empty where there is only one column), None for a line that is neither.

        `announced`: a comment gave the sentence's text, so `-DOCSTART-` is one of its tokens.
        """
        text = line.text
        if not text.strip() or self.is_comment(text):
            return None
        fields = _fields(text)
        if fields[0] == _DOCSTART and not announced:
            return None
        if len(fields) < self.fewest:
            return _Row(fields[0], "", len(fields))
        return _Row(fields[self.token], fields[self.tag], len(fields))

    def is_comment(self, text: str) -> bool:
        """Whether a line that begins with `#` is no token: it has other columns than the rest, or no tag in its place."""
        if not text.startswith("#"):
            return False
        fields = _fields(text)
        return (
            _KEYED.fullmatch(text) is not None
            or len(fields) != self.count
            or len(fields) < self.fewest
            or not is_tag(fields[self.tag])
        )


@dataclass
class _Open:
    """A sentence that is being read."""

    line: int = 0
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    id: str | None = None
    text: str | None = None

    def closed(self) -> Sentence | None:
        """The sentence; None where there were no tokens, nor a text without any."""
        if not self.tokens and (self.text is None or self.text.strip()):
            return None
        return Sentence(self.tokens, self.tags, self.line, self.lines, None, self.id, self.text)


def _sentences(source: Source, columns: _Columns, tally: Tally) -> Iterator[Sentence]:
    current = _Open()
    for line in source.lines():
        row = columns.row(line, announced=current.text is not None)
        if row is not None:
            _add(current, row, line, source, columns.count)
        elif line.text.startswith("#") and not current.tokens:
            _remember(current, line)
        elif not line.text.startswith("#"):
            if line.text.strip():
                tally.add(f"{_DOCSTART} lines; each sentence is a document of its own")
            if (sentence := current.closed()) is not None:
                yield sentence
            current = _Open()
    if (sentence := current.closed()) is not None:
        yield sentence


def _add(current: _Open, row: _Row, line: Line, source: Source, count: int) -> None:
    if row.tag and row.width != count:
        raise source.error(
            f"{shortened(line.text)!r} has {row.width} columns, and most lines have {count}. A token that holds a blank wants "
            "tabs between the columns; else restore what is missing, or take away what is too much",
            line=line.number,
        )
    if not row.tag:
        count = len(_fields(line.text))
        found = "is a single column; a token needs a tag behind it"
        if count > 1:
            found = f"has {count} columns; token and tag are looked for further on (--column)"
        raise source.error(f"{shortened(line.text)!r} {found}", line=line.number)
    if len(current.tokens) == _LONGEST:
        message = f"a sentence of more than {_LONGEST:,} tokens; a blank line must stand between sentences"
        raise source.error(message, line=current.line)
    current.line = current.line or line.number
    current.tokens.append(row.token)
    current.tags.append(row.tag)
    current.lines.append(line.number)


def _remember(current: _Open, line: Line) -> None:
    """The id or the text that a comment gives."""
    found = _KEYED.fullmatch(line.text) or _BARE_ID.match(line.text)
    if found is None:
        return
    current.line = current.line or line.number
    if found.groupdict().get("text"):
        current.text = found["value"]
    else:
        current.id = found["value"] or None


def _fields(text: str) -> list[str]:
    """The columns. A line that begins with what parts columns has white space for a token."""
    fields = text.rstrip(" \t").split("\t") if "\t" in text else _SPACES.split(text.rstrip(" "))
    return [fields[0] or " ", *fields[1:]]


def _column(columns: Mapping[str, str], key: str, default: int, source: Source) -> int:
    given = columns.get(key)
    if given is None:
        return default
    if not re.fullmatch(r"-?[1-9]\d{0,3}", given):
        raise InputError(
            f"{source.path}: column {key}: {shortened(given)!r} is no number of a column: 1 is the first, -1 the last"
        )
    return int(given) - 1 if int(given) > 0 else int(given)


def _is_whole_sentence(sentence: Sentence) -> bool:
    """Whether a sentence of several words, by its punctuation or length, is a single token.

    Where words stand between spaces, addresses and compounds are long, and numbers hold punctuation.
    """
    token = sentence.tokens[0] if len(sentence.tokens) == 1 else ""
    return is_unspaced(token) and (_PUNCTUATED.search(token) is not None or len(token) >= _LONG_TOKEN)


def _on_a_line(document: Document) -> Expressed:
    """A document whose text and id have no line breaks: those of the text become spaces."""
    losses: list[Loss] = []
    text = document.text.replace("\r", " ").replace("\n", " ")
    if text != document.text:
        losses.append(Loss("line breaks in texts (written as spaces)"))
        entities = tuple(replace(e, text=text[e.start : e.end]) for e in document.entities)
        document = Document(text, entities, document.id)
    own = document.id
    if own is not None and (not own or "\n" in own or "\r" in own):
        losses.append(Loss("empty ids and ids with line breaks"))
        document = replace(document, id=None)
    return Expressed(document, tuple(losses))


def _block(sentence: Sentence, joiner: Joiner) -> str:
    text = sentence.text or ""
    comments = [] if sentence.id is None else [f"# id = {sentence.id}\n"]
    # A byte order mark would be taken off the file's first line, and -DOCSTART- be taken for the beginning of a document.
    hidden = text.startswith("\ufeff") or _DOCSTART in sentence.tokens
    if not text.strip() or hidden or joiner.join(sentence.tokens)[0] != text:
        comments.append(f"# text = {text}\n")
    rows = (f"{token}\t{tag}\n" for token, tag in zip(sentence.tokens, sentence.tags, strict=True))
    return "".join([*comments, *rows, "\n"])
