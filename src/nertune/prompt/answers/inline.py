"""The `inline` format: the sentence itself, each entity in brackets with its label: `[叶老桂 | name]博士…`.

Nested entities nest their brackets: `[[南京 | 地点]大学 | 机构]`. The characters `[ ] | \\` of the text are written with a
backslash before them, so any text can be copied and read back. Every mention is placed, repeated ones too.
Crossing entities cannot be written. The format of "Inline" in arXiv 2601.17898.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from nertune.errors import InputError
from nertune.prompt.answers.base import ParsedAnswer, Placed
from nertune.schema import Document, Entity, LabelSet, ParseOutcome

__all__ = ["InlineAnswer"]

_ESCAPED = frozenset("[]|\\")
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class InlineAnswer:
    """Reads and writes `[text | label]` inside a verbatim copy of the text."""

    name: str = "inline"

    @property
    def instruction(self) -> str:
        return (
            "原样输出整个句子，并把其中的每个实体写成 [实体名称 | 实体类别]，其余部分不变；"
            "嵌套的实体写成嵌套的括号；没有实体时原样输出句子。"
        )

    def options(self) -> dict[str, object]:
        return {}

    def write(self, document: Document) -> str:
        """Raises InputError when two entities cross, naming both."""
        _refuse_crossing(document)
        out: list[str] = []
        open_entities: list[Entity] = []
        waiting = list(reversed(document.entities))
        for position in range(len(document.text) + 1):
            while open_entities and open_entities[-1].end == position:
                out.append(f" | {open_entities.pop().label}]")
            while waiting and waiting[-1].start == position:
                open_entities.append(waiting.pop())
                out.append("[")
            if position < len(document.text):
                character = document.text[position]
                out.append("\\" + character if character in _ESCAPED else character)
        return "".join(out)

    def parse(self, answer: str) -> ParsedAnswer:
        """Unbalanced brackets are kept as text and reported as REPAIRED; an empty answer is INVALID."""
        copy: list[str] = []
        placed: list[Placed] = []
        starts: list[int] = []
        repaired = False
        position = 0
        while position < len(answer):
            character = answer[position]
            if character == "\\" and answer[position + 1 : position + 2] in _ESCAPED:
                position += 1
                copy.append(answer[position])
            elif character == "[":
                starts.append(len(copy))
            elif character == "|" and starts and (close := _label_end(answer, position)) is not None:
                start, end = starts.pop(), len(copy)
                # The writer puts one space before the bar; it is not part of the copy.
                if end > start and copy[-1] == " ":
                    copy.pop()
                    end -= 1
                label = answer[position + 1 : close].strip()
                if label and end > start:
                    placed.append(Placed(label, start, end))
                else:
                    repaired = True
                position = close
            else:
                repaired = repaired or character in _ESCAPED
                copy.append(character)
            position += 1
        if not answer.strip():
            return ParsedAnswer(ParseOutcome.INVALID, copy="")
        outcome = ParseOutcome.REPAIRED if repaired or starts else ParseOutcome.CLEAN
        return ParsedAnswer(outcome, copy="".join(copy), placed=tuple(placed))

    def grammar(self, text: str, labels: LabelSet) -> str:
        """A verbatim copy with marks anywhere, and well-formed brackets around anything: the answer is in both languages.

        Their intersection is regular; its states are pairs of a place in the text and a depth of brackets.
        """
        copy = " ".join(f"MARK* {json.dumps(_escaped(c), ensure_ascii=False)}" for c in text)
        rules = [
            "start: ANSWER",
            "ANSWER: COPY & INSIDE0",
            f"COPY: {copy} MARK*",
            'MARK: "[" | " | " LABEL "]"',
            "LABEL: " + " | ".join(json.dumps(label, ensure_ascii=False) for label in labels),
            r"CHARACTER: /(?s:[^\[\]|\\])|\\[\[\]|\\]/",
            f"INSIDE{_DEPTH}: CHARACTER+",
        ]
        for depth in range(_DEPTH):
            rules.append(f'ENTITY{depth + 1}: "[" INSIDE{depth + 1} " | " LABEL "]"')
            rules.append(f"INSIDE{depth}: (CHARACTER | ENTITY{depth + 1})+")
        return "\n".join(rules)

    def draft(self, text: str, answer: str) -> str:
        return ""


def _escaped(character: str) -> str:
    return "\\" + character if character in _ESCAPED else character


def _label_end(answer: str, bar: int) -> int | None:
    """Where the bracket that a bar belongs to closes, or None when something else comes first."""
    for position in range(bar + 1, len(answer)):
        if answer[position] == "]":
            return position
        if answer[position] in "[|\\\n":
            return None
    return None


def _refuse_crossing(document: Document) -> None:
    open_entities: list[Entity] = []
    for entity in document.entities:
        while open_entities and open_entities[-1].end <= entity.start:
            open_entities.pop()
        if open_entities and entity.end > open_entities[-1].end:
            outer = open_entities[-1]
            raise InputError(
                f"{outer.text!r} [{outer.start}, {outer.end}) and {entity.text!r} [{entity.start}, {entity.end}) cross: "
                "the inline format cannot write that. Use answer: json, or mend the annotation"
            )
        open_entities.append(entity)
