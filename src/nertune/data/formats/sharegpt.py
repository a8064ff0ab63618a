"""The `sharegpt` format: {"conversations": [{"from", "value"}]} or {"messages": [{"role", "content"}]}, array or JSONL.

As LLaMA-Factory takes it, whose `dataset_info.json` may name other keys and roles; the second form is OpenAI's. Sentence and
entities are told from prompts and answers as in alpaca rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nertune.data.formats.dataset_info import TAGS
from nertune.data.formats.exchange import Exchange, documents
from nertune.data.formats.frame import MARKER
from nertune.data.formats.rows import listed_format, opened_rows, write_data_set
from nertune.data.records import Record
from nertune.data.source import ReadOptions, Source
from nertune.data.spans import HALF_OPEN, RawDocument
from nertune.data.wording import describe, listed

__all__ = ["Sharegpt", "SharegptRow", "write_sharegpt"]

_NO_TEXT = f"no text: the prompt has no line {MARKER}, and one prompt alone does not tell where its sentence stands"
_MESSAGES = ("conversations", "messages")


class SharegptRow(NamedTuple):
    """One training row: what the user says, what the model shall answer, and, if any, the system sentence."""

    prompt: str
    answer: str
    system: str | None = None


class _Tags(NamedTuple):
    """What a file calls the keys of a message, and its roles: several where the file was not asked."""

    role: str
    content: str
    user: tuple[str, ...]
    assistant: tuple[str, ...]
    system: tuple[str, ...]

    @classmethod
    def named(cls, columns: Mapping[str, str]) -> _Tags:
        """Those of a list's entry."""
        system = (columns["system_tag"],) if "system_tag" in columns else ()
        user, assistant = columns["user_tag"], columns["assistant_tag"]
        return cls(columns["role_tag"], columns["content_tag"], (user,), (assistant,), system)


_USUAL = (
    _Tags("from", "value", ("human", "user"), ("gpt", "assistant"), ("system",)),
    _Tags("role", "content", ("user", "human"), ("assistant", "gpt"), ("system", "developer")),
)


class Sharegpt:
    """Reads conversations of one question and its answer back into documents. Written by `write_sharegpt`."""

    name = "sharegpt"

    convention, elects = HALF_OPEN, False

    def sniff(self, source: Source) -> bool:
        """Whether every record holds a list of messages, or `dataset_info.json` says so."""
        listed = listed_format(source)
        if listed is not None:
            return listed == self.name
        records = source.first_records
        return bool(records) and all(_is_conversation(record.value) for record in records)

    def read(self, source: Source, options: ReadOptions, notes: list[str]) -> Iterator[RawDocument]:
        """Documents with mentions in the order of the answer, without offsets unless the answer marks them in the text.

        Raises DataError on a row that is no conversation ending in an answer, and where most answers cannot be read.
        """
        with opened_rows(source, self.name) as rows:
            tags = _Tags.named(rows.columns) if rows.columns and "role_tag" in rows.columns else None
            exchanges = (_exchange(record, tags) for record in rows.records)
            yield from documents(
                exchanges, options, notes, answer="the answer", no_text=_NO_TEXT, answers=source.answers
            )


def write_sharegpt(rows: Iterable[SharegptRow], path: str | os.PathLike[str]) -> None:
    """Write `rows` as a JSON array (as JSONL where the name ends so) and name the file in `dataset_info.json` beside it.

    Raises as `write_data_set` does.
    """
    entry = {"formatting": "sharegpt", "columns": {"messages": "conversations"}, "tags": TAGS}
    write_data_set(map(_row, rows), Path(path), lambda first: entry)


def _row(row: SharegptRow) -> dict[str, object]:
    said = [] if row.system is None else [("system", row.system)]
    turns = [*said, ("human", row.prompt), ("gpt", row.answer)]
    return {"conversations": [{"from": role, "value": content} for role, content in turns]}


def _is_conversation(value: dict[str, object]) -> bool:
    messages = next((value[key] for key in _MESSAGES if key in value), None)
    if not isinstance(messages, list) or not messages:
        return False
    return all(
        isinstance(message, dict) and any(tags.role in message and tags.content in message for tags in _USUAL)
        for message in messages
    )


def _exchange(record: Record, tags: _Tags | None) -> Exchange:
    key = next((key for key in _MESSAGES if key in record.value), "messages")
    if key not in record.value:
        raise record.error(f"the record has no 'conversations' and no 'messages'; its keys are {listed(record.value)}")
    messages = record.value[key]
    if not isinstance(messages, list) or not messages:
        raise record.error(f"{key!r} must be a list of messages, found {describe(messages)}")
    turns = [_turn(record, number, message, tags) for number, message in enumerate(messages, 1)]
    system = record.string("system") if record.value.get("system") is not None else ""
    if turns[0][0] == "system":
        system = turns.pop(0)[1]
    roles = [role for role, _ in turns]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        said = " and ".join(roles) if len(roles) < 3 else f"{len(roles)} turns"
        raise record.error(f"{key!r} must be questions and their answers by turns, found {said or 'no turn'}")
    return Exchange(record, system, turns[-2][1], None, turns[-1][1], len(turns) // 2 - 1)


def _turn(record: Record, number: int, message: object, told: _Tags | None) -> tuple[str, str]:
    """A message's role (user, assistant or system) and its content."""
    if not isinstance(message, dict):
        raise record.error(f"message {number} must be an object, found {describe(message)}")
    tags = told or next((tags for tags in _USUAL if tags.role in message), _USUAL[0])
    role, content = message.get(tags.role), message.get(tags.content)
    for key, value in ((tags.role, role), (tags.content, content)):
        if not isinstance(value, str):
            found = describe(value) if key in message else describe(message)
            raise record.error(f"message {number}: {key!r} must be a string, found {found}")
    for name, roles in (("user", tags.user), ("assistant", tags.assistant), ("system", tags.system)):
        if role in roles:
            return name, str(content)
    known = ", ".join((*tags.user, *tags.assistant, *tags.system))
    raise record.error(f"message {number}: the role {describe(role)} is none of {known}")
