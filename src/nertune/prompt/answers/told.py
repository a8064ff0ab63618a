"""Which answer format a file's answers are in, told from the answers themselves; and answers read as annotations.

What reads a model's answer repairs what it can. As annotation an answer counts only as it stands: what would need a repair
is not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

from nertune.errors import InputError
from nertune.prompt.answers.base import AnswerFormat
from nertune.prompt.answers.grouped import GroupedAnswer
from nertune.prompt.answers.inline import InlineAnswer
from nertune.prompt.answers.listed import JsonAnswer, JsonLinesAnswer, sentence_of
from nertune.prompt.answers.marks import DEEPEST
from nertune.prompt.answers.reading import complete_objects
from nertune.prompt.answers.xml import XmlAnswer
from nertune.schema import Document, Entity, LabelSet, Mention, ParseOutcome

__all__ = ["KNOWN_ANSWERS", "KnownAnswers", "StrictAnswer", "likely_options", "strict"]

_ASKED = 200  # answers looked at for their keys
_KEYS = 4  # keys among which those of label and text are sought
_USUAL = (("label", "text"), ("entity_label", "entity_text"))


@dataclass(frozen=True, slots=True)
class StrictAnswer:
    """An answer format, reading only what is written in it to the letter."""

    form: AnswerFormat

    @property
    def name(self) -> str:
        """The format's name, with the keys and the sentence by which it differs from the usual one."""
        options = self.form.options()
        unusual = [
            f"{key}={options[key]!r}" for key in ("label_key", "text_key", "nothing") if self._is_unusual(key, options)
        ]
        return " ".join([self.form.name, *unusual])

    def read(self, answer: str) -> Document | tuple[Mention, ...] | None:
        """The mentions, or the text and its entities where the answer is a copy; None where it is not as it must be."""
        # A cut answer is not repaired, and one that is whole is read alike.
        parsed = self.form.parse(answer, cut=not isinstance(self.form, InlineAnswer | XmlAnswer))
        if parsed.outcome is not ParseOutcome.CLEAN:
            return None
        if parsed.copy is None:
            return parsed.mentions
        copy = parsed.copy
        return Document(copy, tuple(Entity(p.label, p.start, p.end, copy[p.start : p.end]) for p in parsed.placed))

    def problem(self, answer: str) -> str:
        """For messages: that the answer is not in the format."""
        shown = answer if len(answer) <= 60 else answer[:59] + "…"
        return f"is not sound in the {self.form.name} format: {shown!r}"

    def write(self, document: Document) -> str:
        """As the format does."""
        return self.form.write(document)

    def refusal(self, document: Document) -> str | None:
        """The kind of what the format cannot write of a document."""
        found = self.form.refusal(document)
        return None if found is None else found.kind

    def holds(self, label: str) -> bool:
        """Whether the format can write the label."""
        try:
            self.form.check(LabelSet((label,)))
        except InputError:
            return False
        return True

    def _is_unusual(self, key: str, options: Mapping[str, object]) -> bool:
        return key in options and options[key] != type(self.form)().options()[key]


class KnownAnswers:
    """What the prompt room knows of answers, for the readers of annotated files (`nertune.data.Answers`)."""

    def readers(self, answers: Sequence[str]) -> list[StrictAnswer]:
        """The formats in which some of these answers may be written, with their keys and sentences."""
        forms: list[AnswerFormat] = []
        for (label, text), nothing in product(_keys(answers), _nothings(answers)):
            forms += [JsonAnswer(label, text)] if nothing is None else [JsonLinesAnswer(label, text, nothing)]
        return [StrictAnswer(form) for form in (*forms, GroupedAnswer(), *_marks())]

    def marks(self) -> list[StrictAnswer]:
        """The formats that copy the text, to any depth that one can have."""
        return [StrictAnswer(form) for form in _marks()]


KNOWN_ANSWERS = KnownAnswers()


def strict(form: AnswerFormat) -> StrictAnswer:
    """The format as annotations are read and written in it: marks nest as deep as any can."""
    marked = {mark.name: mark for mark in _marks()}
    return StrictAnswer(marked.get(form.name, form))


def likely_options(answers: Sequence[str]) -> list[dict[str, Any]]:
    """The formats that may have written these answers, each as a recipe names it, with all that decides what is written."""
    found: list[dict[str, Any]] = []
    for (label, text), distinct in product(_keys(answers), (True, False)):
        keys = {"label_key": label, "text_key": text, "distinct": distinct}
        found.append({"format": "json", **keys})
        found += [{"format": "jsonl", **keys, "nothing": nothing} for nothing in _nothings(answers) if nothing]
    return [
        *found,
        *({"format": "grouped", "distinct": d} for d in (False, True)),
        {"format": "inline"},
        {"format": "xml"},
    ]


def _marks() -> tuple[AnswerFormat, ...]:
    return InlineAnswer(DEEPEST), XmlAnswer(DEEPEST)


def _keys(answers: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of keys that may hold label and text: the usual ones, and those that the objects hold strings under."""
    likely = sorted(key for key, _ in _held(answers).most_common(_KEYS))
    return list(dict.fromkeys([*_USUAL, *permutations(likely, 2)]))


def _held(answers: Sequence[str]) -> Counter[str]:
    """The keys under which the objects of answers hold strings."""
    counted: Counter[str] = Counter()
    for answer in answers[:_ASKED]:
        for value in complete_objects(answer):
            counted.update(key for key, held in value.items() if key and isinstance(held, str))
    return counted


def _nothings(answers: Sequence[str]) -> list[str | None]:
    """The sentences that may say that there is nothing: the usual one and what is said most often instead of JSON.

    None stands for the format that has no such sentence. One that is said once may be anything, as may one beside which
    nothing is ever found.
    """
    usual: list[str | None] = [None, JsonLinesAnswer().nothing]
    if not _held(answers):
        return usual
    counted = Counter(
        sentence
        for answer in answers
        if not any(sign in answer for sign in "[{<") and (sentence := sentence_of(answer)) and not _is_json(sentence)
    )
    told = [sentence for sentence, count in counted.most_common(1) if count > 1]
    return list(dict.fromkeys([*usual, *told]))


def _is_json(answer: str) -> bool:
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return True
