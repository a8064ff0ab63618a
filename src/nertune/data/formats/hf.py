"""The `hf` format: rows of `tokens` and `ner_tags`, as the datasets of the Hugging Face hub have them.

Read from JSONL, from Parquet and Arrow files, and from folders: what `save_to_disk` of the library `datasets` wrote, or
Parquet files named after their splits. Written as Parquet that `load_dataset("parquet", …)` opens with its ClassLabel.
Nothing in a file is run: no loading scripts, no pickles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nertune.data.formats import arrow, features
from nertune.data.formats.sentences import Sentence, documents
from nertune.data.formats.tagging import Scheme, letters_of, taggable, tags_of
from nertune.data.formats.tokens import tokens_of
from nertune.data.loss import Expressed
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument
from nertune.data.texts.where import odd_columns
from nertune.data.wording import counted, describe, shortened
from nertune.schema import Document

__all__ = ["HuggingFace"]

_TAGS = ("ner_tags", "tags", "ner", "labels")  # in this order; `columns` names another
_STRINGS = r"(?:large_)?string(?:_view)?|null"
# Kinds of columns that are read, in pyarrow's words; dictionaries hold such values.
_READ = {
    "text": re.compile(rf"{_STRINGS}|dictionary<values=(?:{_STRINGS}),.*"),
    "id": re.compile(rf"{_STRINGS}|u?int\d+|dictionary<values=(?:{_STRINGS}|u?int\d+),.*"),
}


@dataclass(frozen=True)
class HuggingFace:
    """Reads tokens with tags, names or numbers of a ClassLabel; writes Parquet with id, text, tokens, ner_tags."""

    scheme: Scheme = "bio"

    name = "hf"
    convention, elects = HALF_OPEN, False

    def sniff(self, source: Source) -> bool:
        """Whether it is a table or a folder of tables, or records that hold tokens and tags."""
        if source.is_folder:
            return arrow.is_dataset(source.path)
        if arrow.is_table(source.head):
            return True
        values = [record.value for record in source.first_records]
        return bool(values) and all(
            isinstance(value.get("tokens"), list) and any(isinstance(value.get(key), list) for key in _TAGS)
            for value in values
        )

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """A document a row. Raises DataError, MissingExtraError without the extra `tables` where that is needed."""
        if options.split is not None and not source.is_folder:
            raise source.error(f"is a file, so it has no split {options.split!r} (--split is for folders)")
        if source.is_folder or arrow.is_table(source.head):
            sentences = _from_table(source, options, notes)
        else:
            sentences = _from_records(source, options)
        yield from documents(sentences, source, options, notes)

    def express(self, document: Document) -> Expressed:
        """Flat entities. The text is written beside its tokens, so none of its white space is lost."""
        return taggable(document)

    def write(self, documents: Iterable[Document], path: str | os.PathLike[str]) -> None:
        """Parquet, atomically. Raises MissingExtraError without the extra `tables`, and as `nertune.data.write` does."""
        arrow.write_table((self._row(document) for document in documents), path, letters=letters_of(self.scheme))

    def _row(self, document: Document) -> arrow.Row:
        cuts = [offset for entity in document.entities for offset in (entity.start, entity.end)]
        spans = tokens_of(document.text, cuts)
        tokens = [document.text[start:end] for start, end in spans]
        return arrow.Row(document.id, document.text, tokens, tags_of(document, spans, self.scheme))


def _from_records(source: Source, options: ReadOptions) -> Iterator[Sentence]:
    names: Sequence[str] | None = options.tag_names or None
    for record in source.records():
        try:
            key = _tag_key(list(record.value))
            if names is None and _holds_numbers(record.value[key]):
                names = features.beside(source.path, (options.columns or {}).get(key, key))
            yield _sentence(record.value, key, names or ())._replace(line=record.line, id=record.id(), record=record)
        except _RowError as error:
            raise record.error(str(error)) from error


def _from_table(source: Source, options: ReadOptions, notes: list[str]) -> Iterator[Sentence]:
    with arrow.opened_tables(source, options.split) as table:
        notes += odd_columns(table.columns)
        renamed = options.columns or {column: column for column in table.columns}
        here = {key: column for key, column in renamed.items() if column in table.columns}
        try:
            key = _tag_key(list(here))
        except _RowError as error:
            raise source.error(str(error)) from error
        names: Sequence[str] | None = options.tag_names or features.class_names(table.features, here[key]) or None
        wanted = {name: here[name] for name in ("tokens", key, "text", "id") if name in here}
        kinds = dict(zip(table.columns, table.kinds, strict=True))
        notes += (
            f"the column {wanted[name]!r} is not read: it holds {kinds[wanted[name]]}, and a document's {name} is {what}"
            for name, what in (("text", "a string"), ("id", "a string or a whole number"))
            if name in wanted and not _READ[name].fullmatch(kinds[wanted[name]])
        )
        for number, row in enumerate(table.rows(tuple(dict.fromkeys(wanted.values()))), 1):
            try:
                if names is None and _holds_numbers(row[here[key]]):
                    names = features.beside(source.path, here[key])
                value = {name: row[column] for name, column in wanted.items()}
                yield _sentence(value, key, names or ())._replace(row=number)
            except _RowError as error:
                raise source.error(f"row {number:,}: {error}") from error


class _RowError(ValueError):
    """What is wrong with a row."""


def _sentence(value: Mapping[str, object], key: str, names: Sequence[str]) -> Sentence:
    tokens, tags, text, own = value.get("tokens"), value[key], value.get("text"), value.get("id")
    if not isinstance(tokens, list):
        raise _RowError(f"'tokens' must be a list of strings, found {describe(tokens)}")
    if (other := next((token for token in tokens if not isinstance(token, str)), "")) != "":
        raise _RowError(f"'tokens' must be a list of strings, found {describe(other)} in it")
    if not isinstance(tags, list):
        raise _RowError(f"{key!r} must be a list, found {describe(tags)}")
    if len(tags) != len(tokens):
        raise _RowError(
            f"{counted(len(tokens), 'token')} and {counted(len(tags), 'tag')} in {key!r}; each token needs one"
        )
    text = text if isinstance(text, str) else None
    if any("\0" in held for held in (*tokens, text or "")):
        raise _RowError("holds a NUL character; remove it")
    named = [tag if isinstance(tag, str) else _name(tag, key, names) for tag in tags]
    return Sentence(tokens, named, id=str(own) if isinstance(own, str | int) else None, text=text)


def _tag_key(keys: Sequence[str]) -> str:
    found = next((key for key in _TAGS if key in keys), None)
    if found is None:
        listed = ", ".join(repr(shortened(key)) for key in keys[:20]) or "(none)"
        hint = "name both: --column tokens=NAME --column ner_tags=NAME"
        raise _RowError(f"has no tags under any of {', '.join(_TAGS)}; its columns are {listed}; {hint}")
    return found


def _name(tag: object, key: str, names: Sequence[str]) -> str:
    if type(tag) is not int:
        raise _RowError(f"{key!r} must hold strings or whole numbers, found {describe(tag)}")
    if not names:
        raise _RowError(
            f"{key!r} holds numbers, and nothing says which tags they stand for; give a file with their names, "
            "from 0 on (--tag-names FILE), or put the dataset_info.json of the dataset beside the file"
        )
    if not 0 <= tag < len(names):
        raise _RowError(
            f"{key!r} holds {shortened(repr(tag))}, but there are {len(names)} names, from 0 to {len(names) - 1}"
        )
    return names[tag]


def _holds_numbers(tags: object) -> bool:
    return isinstance(tags, list) and any(type(tag) is int for tag in tags)
