"""Answer formats: each writes, asks for and reads its own way of putting entities into a reply."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from nertune.errors import InputError
from nertune.prompt.answers.base import AnswerFormat, ParsedAnswer, Placed, Refusal, Written
from nertune.prompt.answers.grouped import GroupedAnswer
from nertune.prompt.answers.inline import InlineAnswer
from nertune.prompt.answers.listed import JsonAnswer, JsonLinesAnswer
from nertune.prompt.answers.marks import depth_of
from nertune.prompt.answers.told import KNOWN_ANSWERS, StrictAnswer, likely_options, strict
from nertune.prompt.answers.xml import XmlAnswer
from nertune.schema import Document

__all__ = [
    "ANSWER_FORMATS",
    "KNOWN_ANSWERS",
    "AnswerFormat",
    "GroupedAnswer",
    "InlineAnswer",
    "JsonAnswer",
    "JsonLinesAnswer",
    "ParsedAnswer",
    "Placed",
    "Refusal",
    "StrictAnswer",
    "Written",
    "XmlAnswer",
    "answer_format",
    "fitted",
    "likely_options",
    "refuse_unwritable",
    "strict",
]

_Format = type[InlineAnswer] | type[XmlAnswer] | type[JsonAnswer] | type[JsonLinesAnswer] | type[GroupedAnswer]

ANSWER_FORMATS: Mapping[str, _Format] = {
    "inline": InlineAnswer,
    "xml": XmlAnswer,
    "json": JsonAnswer,
    "jsonl": JsonLinesAnswer,
    "grouped": GroupedAnswer,
}


def answer_format(name: str, options: Mapping[str, Any] | None = None) -> AnswerFormat:
    """The format of that name with these options. Raises InputError for an unknown name or option."""
    if name not in ANSWER_FORMATS:
        near = difflib.get_close_matches(name, ANSWER_FORMATS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown answer format {name!r}{hint or '.'} Known: {', '.join(ANSWER_FORMATS)}")
    options = dict(options or {})
    known = ANSWER_FORMATS[name]().options()
    for key, value in options.items():
        if key not in known:
            listed = ", ".join(known) or "none"
            raise InputError(f"answer format {name!r} has no option {key!r}. Options: {listed}")
        if type(value) is not type(known[key]) or value == "":
            expected = type(known[key]).__name__
            raise InputError(f"option {key!r} of answer format {name!r} must be a {expected}, found {value!r}")
    return ANSWER_FORMATS[name](**options)


def fitted(form: AnswerFormat, documents: Iterable[Document]) -> AnswerFormat:
    """The format with the one setting that documents decide: marks nest as deep as they do there, and no deeper.

    A model writes what it was shown. A grammar that nests deeper lets an uncertain model open marks inside marks.
    """
    if "depth" not in form.options():
        return form
    return answer_format(form.name, {**form.options(), "depth": depth_of(documents)})


def refuse_unwritable(documents: Iterable[tuple[str, AnswerFormat, Document]]) -> None:
    """Raises InputError when formats cannot write some documents: how many, of which kind, and the first of them.

    `documents`: each with the name of its place in a message and the format that is to write it.
    """
    refused: list[tuple[str, str, Refusal]] = []
    total = 0
    for where, form, document in documents:
        total += 1
        if found := form.refusal(document):
            refused.append((where, form.name, found))
    if not refused:
        return
    kinds: dict[tuple[str, str], list[Refusal]] = {}
    for _, name, found in refused:
        kinds.setdefault((found.kind, name), []).append(found)
    counted = ", ".join(f"{len(found):,} with {kind} ({name})" for (kind, name), found in kinds.items())
    listed = "\n".join(f"  {where}: {found.detail}" for where, _, found in refused[:5])
    more = f"\n  and {len(refused) - 5:,} more" if len(refused) > 5 else ""
    advice = "; ".join(f"{kind}: {found[0].advice}" for (kind, _), found in kinds.items())
    raise InputError(
        f"{len(refused):,} of {total:,} documents cannot be written in their answer format: {counted}\n{listed}{more}\n"
        f"What to do: {advice}"
    )
