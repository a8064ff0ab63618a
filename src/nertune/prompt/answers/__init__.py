"""Answer formats: each writes, asks for and reads its own way of putting entities into a reply."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from nertune.errors import InputError
from nertune.prompt.answers.base import AnswerFormat, ParsedAnswer, Placed, Written
from nertune.prompt.answers.inline import InlineAnswer
from nertune.prompt.answers.listed import JsonAnswer, JsonLinesAnswer

__all__ = [
    "ANSWER_FORMATS",
    "AnswerFormat",
    "InlineAnswer",
    "JsonAnswer",
    "JsonLinesAnswer",
    "ParsedAnswer",
    "Placed",
    "Written",
    "answer_format",
]

ANSWER_FORMATS: Mapping[str, type[InlineAnswer] | type[JsonAnswer] | type[JsonLinesAnswer]] = {
    "inline": InlineAnswer,
    "json": JsonAnswer,
    "jsonl": JsonLinesAnswer,
}


def answer_format(name: str, options: Mapping[str, Any] | None = None) -> AnswerFormat:
    """The format of that name with these options. Raises InputError for an unknown name or option."""
    if name not in ANSWER_FORMATS:
        near = difflib.get_close_matches(name, ANSWER_FORMATS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown answer format {name!r}{hint} Known: {', '.join(ANSWER_FORMATS)}")
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
