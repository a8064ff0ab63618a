"""Sentences of tokens with tags, whichever file they stand in, to documents: what tags and gaps between tokens mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from nertune.data.formats.tagging import Chunk, Tag, Tagging, chunks
from nertune.data.formats.tokens import Joiner, aligned
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import RawDocument, RawMention
from nertune.data.tally import Tally
from nertune.data.wording import shortened
from nertune.errors import DataError

__all__ = ["Sentence", "documents"]

_HEAD = 1_000  # sentences from which the scheme and the joiner are told


class Sentence(NamedTuple):
    """Tokens and a tag for each. `lines`: where each stands, empty where the file has no line for each; `line`, `row`:
    where the sentence begins, as a line or counted from 1; `text`: the text itself, where the file gives it."""

    tokens: Sequence[str]
    tags: Sequence[str]
    line: int | None = None
    lines: Sequence[int] = ()
    row: int | None = None
    id: str | None = None
    text: str | None = None
    record: Record | None = None
    file: str | None = None


def documents(
    sentences: Iterable[Sentence], source: Source, options: ReadOptions, notes: list[str]
) -> Iterator[RawDocument]:
    """A document a sentence. Scheme and joiner are told from the first 1,000 and said in `notes`.

    Raises DataError, at its line or row, for a tag that is none.
    """
    sentences = iter(sentences)
    head = list(islice(sentences, _HEAD))
    reading = _Reading(source, head, options, notes)
    for sentence in chain(head, sentences):
        yield reading.document(sentence)


class _Reading:
    def __init__(self, source: Source, head: Sequence[Sentence], options: ReadOptions, notes: list[str]) -> None:
        self._source = source
        self._tagging = Tagging.of(sentence.tags for sentence in head)
        self._joiner = Joiner.of((sentence.tokens for sentence in head), options.joiner)
        self._tags: dict[str, Tag] = {}
        notes.append(_scheme_note(self._tagging))
        if any(sentence.text is None for sentence in head):
            notes.append(self._joiner.note)
        self._tally = Tally(notes)

    def document(self, sentence: Sentence) -> RawDocument:
        text, spans = self._placed(sentence)
        tags = [self._tag(tag, sentence, position) for position, tag in enumerate(sentence.tags)]
        mentions = tuple(
            mention for chunk in chunks(tags) if (mention := self._mention(chunk, sentence, text, spans)) is not None
        )
        return RawDocument(text, mentions, sentence.id, sentence.line, sentence.file, sentence.record)

    def _placed(self, sentence: Sentence) -> tuple[str, list[tuple[int, int]]]:
        if sentence.text is not None:
            spans = aligned(sentence.tokens, sentence.text)
            if spans is not None:
                return sentence.text, spans
            self._tally.add("texts that are not made of their tokens, made anew from these", line=sentence.line)
        return self._joiner.join(sentence.tokens)

    def _tag(self, tag: str, sentence: Sentence, position: int) -> Tag:
        known = self._tags.get(tag)
        if known is None:
            line = sentence.lines[position] if sentence.lines else sentence.line
            known = self._tags[tag] = self._checked(tag, sentence.row if line is None else None, line)
        return known

    def _checked(self, tag: str, row: int | None, line: int | None) -> Tag:
        parsed = self._tagging.parse(tag)
        where = "" if row is None else f"row {row:,}: "
        if parsed is None:
            form = "LABEL-B, LABEL-I" if self._tagging.letter == "behind" else "B-LABEL, I-LABEL"
            raise self._source.error(f"{where}{shortened(tag)!r} is no tag: tags are O or like {form}", line=line)
        if parsed.letter != "O":
            try:
                Record(self._source.path, line or 1, {}).label(parsed.label)
            except DataError as error:
                said = str(error).removeprefix(f"{self._source.path}:{line or 1}: ")
                raise self._source.error(f"{where}{said}", line=line) from error
        return parsed

    def _mention(
        self, chunk: Chunk, sentence: Sentence, text: str, spans: Sequence[tuple[int, int]]
    ) -> RawMention | None:
        line = sentence.lines[chunk.start] if sentence.lines else None
        if self._tagging.is_broken(chunk):
            at = sentence.line if line is None else line
            self._tally.add("entities with tags that the scheme does not have so, read as conlleval does", line=at)
        held = [span for span in spans[chunk.start : chunk.end] if span[0] < span[1]]
        if not held:
            self._tally.add("entities of empty tokens, left out", line=sentence.line)
            return None
        start, end = held[0][0], held[-1][1]
        return RawMention(chunk.label, start, end, text[start:end], None, line)


def _scheme_note(tagging: Tagging) -> str:
    if not tagging.scheme:
        return f"tags: nothing but O in the first {_HEAD:,} sentences"
    if tagging.letter is None:
        return "tags: bare labels (IO); neighbouring tokens of one label are one entity"
    return f"tags: {tagging.scheme}" + (", the letter behind the label" if tagging.letter == "behind" else "")
