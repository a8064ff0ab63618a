"""spaCy's DocBin: documents from it and to it, through spaCy, the extra `spacy`.

Reading takes the arrays and strings of `DocBin.from_bytes` and builds no Doc from them, so that the numbers of a damaged
file are looked up and not followed as offsets into memory. The bytes are zlib around msgpack: nothing is unpickled. srsly
gives back numpy arrays of plain numbers at most (numpy refuses objects from a buffer). The user data, msgpack
too, is read for the key `id`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from nertune.atomic import replacing
from nertune.data.atomic import checked
from nertune.data.formats.tagging import Tag, chunks
from nertune.data.formats.tokens import Joiner, aligned, is_unspaced
from nertune.data.loss import flat
from nertune.data.records import Record
from nertune.data.source import Source
from nertune.data.spans import RawDocument, RawMention
from nertune.data.tally import Tally
from nertune.data.wording import reason, shortened
from nertune.errors import DataError, MissingExtraError
from nertune.schema import Document

__all__ = ["GROUP", "is_docbin", "joined", "read", "write"]

GROUP = "sc"  # where spaCy's span categorizer looks
_SPAN = struct.Struct(
    ">QQQllll"
)  # id, kb_id, label, start and end in tokens, start and end in characters: span_group.pyx
_LARGEST = 1 << 30  # bytes that a DocBin may inflate to, some 40 million tokens
_PIECE = 1 << 20  # bytes inflated at a time, to count them
_INSIDE, _BEGIN = 1, 3  # ENT_IOB


def is_docbin(head: bytes) -> bool:
    """Whether a file begins as a compressed DocBin does."""
    if head[:1] != b"\x78":
        return False
    try:
        begun = zlib.decompressobj().decompress(head, 64)
    except zlib.error:
        return False
    return b"\xa7version" in begun


def read(source: Source, joiner: Joiner, tally: Tally) -> Iterator[RawDocument]:
    """The documents: entities of `doc.ents` and of the span group `sc`, each once. Raises DataError."""
    spacy = _spacy()
    try:
        docs = spacy.tokens.DocBin(store_user_data=True).from_bytes(_bounded(source))
        strings = spacy.strings.StringStore()
        for string in docs.strings:
            strings.add(string)
        reading = _Reading(source, docs, strings, joiner, tally)
        yield from map(reading.document, range(len(docs)))
    except DataError:
        raise
    # What a damaged file makes of lookups, shapes and types.
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        struct.error,
        zlib.error,
        OverflowError,
    ) as error:
        raise source.error(f"is a DocBin that cannot be read: {type(error).__name__}: {reason(error)}") from error


def _bounded(source: Source) -> bytes:
    """The whole file, if what it inflates to is not too much. Raises DataError, zlib.error."""
    inflater = zlib.decompressobj()
    pieces: list[bytes] = []
    inflated = 0
    while piece := source.file.read(_PIECE):
        pieces.append(piece)
        while piece:
            inflated += len(inflater.decompress(piece, _PIECE))
            piece = inflater.unconsumed_tail
        if max(inflated, _PIECE * len(pieces)) > _LARGEST:
            raise source.error(
                f"is a DocBin of more than {_LARGEST >> 20} MiB when inflated, and has to be in memory whole; "
                "write it again as several"
            )
    return b"".join(pieces)


def write(documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
    """One Doc a document: `doc.ents` has the flat ones of its entities, `doc.spans["sc"]` all."""
    spacy = _spacy()
    vocab = spacy.blank("xx").vocab
    split = spacy.blank("xx").tokenizer
    docs = spacy.tokens.DocBin(attrs=["ENT_IOB", "ENT_TYPE"], store_user_data=True)
    with _no_plugins():
        for number, document in enumerate(documents, 1):
            labels = [entity.label for entity in document.entities]
            checked({"id": document.id, "text": document.text, "labels": labels}, path, number)
            docs.add(_doc(document, vocab, split, spacy))
        with replacing(path) as file:
            file.buffer.write(docs.to_bytes())


def joined(
    words: Sequence[str], spaces: Sequence[object], raw: object, joiner: Joiner, tally: Tally
) -> tuple[str, list[tuple[int, int]]]:
    """The text of tokens and where each stands: the text given, if they make it up, else by the spaces behind each."""
    if isinstance(raw, str):
        found = aligned(words, raw)
        if found is not None:
            return raw, found
        tally.add("texts that are not made of their tokens, made anew from these")
    if any(space is None for space in spaces):
        tally.add(joiner.note)
        return joiner.join(words)
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    position = 0
    for word, space in zip(words, spaces, strict=True):
        spans.append((position, position + len(word)))
        parts += [word, " "] if space else [word]
        position += len(word) + bool(space)
    return "".join(parts), spans


class _Reading:
    def __init__(self, source: Source, docs: Any, strings: Any, joiner: Joiner, tally: Tally) -> None:
        self._source, self._docs, self._strings, self._joiner, self._tally = source, docs, strings, joiner, tally
        spacy = _spacy()
        numbers = {name: spacy.attrs.IDS[name] for name in ("ORTH", "ENT_IOB", "ENT_TYPE")}
        self._columns = {name: docs.attrs.index(number) for name, number in numbers.items() if number in docs.attrs}
        self._labels: dict[int, str] = {}

    def document(self, number: int) -> RawDocument:
        rows = self._docs.tokens[number]
        words = [self._strings[key] for key in self._column(rows, "ORTH")]
        unknown = self._docs.flags[number].get("has_unknown_spaces")
        spaces = [None] * len(words) if unknown else [bool(space) for space in self._docs.spaces[number].flatten()]
        text, spans = joined(words, spaces, None, self._joiner, self._tally)
        if "\0" in text:
            raise self._source.error(f"document {number + 1:,} holds a NUL character; remove it")
        mentions = [
            RawMention(chunk.label, spans[chunk.start][0], spans[chunk.end - 1][1], None)
            for chunk in chunks(self._tags(rows))
        ]
        mentions += self._grouped(number, spans)
        return RawDocument(text, tuple(dict.fromkeys(mentions)), self._id(number))

    def _column(self, rows: Any, name: str) -> list[int]:
        place = self._columns.get(name)
        return [0] * len(rows) if place is None else [int(value) for value in rows[:, place]]

    def _tags(self, rows: Any) -> Iterator[Tag]:
        named = "ENT_IOB" in self._columns
        for mark, label in zip(self._column(rows, "ENT_IOB"), self._column(rows, "ENT_TYPE"), strict=True):
            is_entity = label != 0 and (mark in (_INSIDE, _BEGIN) or not named)
            yield Tag("B" if mark == _BEGIN else "I", self._label(label)) if is_entity else Tag("O", "")

    def _label(self, key: int) -> str:
        if key not in self._labels:
            self._labels[key] = Record(self._source.path, 1, {}).label(self._strings[key])
        return self._labels[key]

    def _grouped(self, number: int, spans: Sequence[tuple[int, int]]) -> Iterator[RawMention]:
        for name, items in _groups(self._docs.span_groups[number]):
            if name != GROUP:
                self._tally.add(f"spans of the group {shortened(str(name))!r}, not read", count=len(items))
                continue
            for item in items:
                _, _, label, start, end, _, _ = _SPAN.unpack(item)
                if not 0 <= start < end <= len(spans):
                    raise self._source.error(
                        f"document {number + 1:,} has a span [{start}, {end}) of {len(spans)} tokens"
                    )
                yield RawMention(self._label(label), spans[start][0], spans[end - 1][1], None)

    def _id(self, number: int) -> str | None:
        raw = self._docs.user_data[number] if number < len(self._docs.user_data) else None
        if raw is None:
            return None
        data = _unpacked(raw)
        own = data.get("id") if isinstance(data, Mapping) else None
        return str(own) if isinstance(own, str) or type(own) is int else None


def _groups(raw: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Each span group's key and packed spans; `SpanGroups.to_bytes` packs {group: keys}, older versions [group]."""
    packed = _unpacked(raw) if raw else {}
    pairs = packed.items() if isinstance(packed, dict) else ((group, None) for group in packed)
    for group, keys in pairs:
        content = _unpacked(group)
        if content["spans"]:
            for key in keys or [content["name"]]:
                yield key, content["spans"]


def _unpacked(raw: bytes) -> Any:
    """A msgpack message of plain values. The hook keeps srsly from asking for plug-ins at each message, which is slow."""
    from srsly import msgpack

    return msgpack.loads(raw, raw=False, use_list=False, object_pairs_hook=dict)


@contextmanager
def _no_plugins() -> Iterator[None]:
    """srsly's encoders without those of other packages, which it would look for again with every message."""
    from srsly import msgpack

    encoders = msgpack.msgpack_encoders
    asked, encoders.entry_points = encoders.entry_points, False
    try:
        yield
    finally:
        encoders.entry_points = asked


def _doc(document: Document, vocab: Any, split: Any, spacy: Any) -> Any:
    words, spaces = _words(document, split)
    doc = spacy.tokens.Doc(vocab, words=words, spaces=spaces)
    if document.id is not None:
        doc.user_data["id"] = document.id
    kept = flat(document).document
    doc.set_ents([doc.char_span(e.start, e.end, label=e.label) for e in (kept.entities if kept else ())])
    if document.entities:
        doc.spans[GROUP] = [doc.char_span(e.start, e.end, label=e.label) for e in document.entities]
    return doc


def _words(document: Document, split: Any) -> tuple[list[str], list[bool]]:
    """Tokens with the space behind each: characters in Chinese and its like, as spaCy's `zh` has them, else words.

    A token begins and ends wherever an entity does. White space is a token but for one space behind a token.
    """
    text = document.text
    cuts = {offset for entity in document.entities for offset in (entity.start, entity.end)}
    if is_unspaced(text):
        cuts = set(range(len(text)))
    else:
        cuts |= {place for token in split(text) for place in (token.idx, token.idx + len(token))}
    edges = sorted(cuts | {0, len(text)})
    pieces = [text[start:end] for start, end in pairwise(edges)]
    # A space that an entity begins or ends with is a token, or it would not be in the entity.
    owned = {entity.start for entity in document.entities} | {entity.end - 1 for entity in document.entities}
    words: list[str] = []
    spaces: list[bool] = []
    position = 0
    for piece in pieces:
        is_between = words and not spaces[-1] and not words[-1].isspace() and position not in owned
        if piece == " " and is_between:
            spaces[-1] = True
        else:
            words.append(piece)
            spaces.append(False)
        position += len(piece)
    return words, spaces


def _spacy() -> Any:
    try:
        import spacy
        import spacy.attrs
        import spacy.strings
        import spacy.tokens
    except ImportError as error:
        raise MissingExtraError("reading and writing DocBin (.spacy)", extra="spacy") from error
    return spacy
