"""The `json` and `jsonl` formats: the entities listed as JSON objects, one after another.

`json`: one array, `[{"label": "name", "text": "叶老桂"}]`. `jsonl`: one object a line, keys configurable, with a configurable
sentence for "nothing found". Both give no places; grounding goes by the order of mention. RFC 8259.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nertune.errors import InputError
from nertune.prompt.answers.base import ParsedAnswer, Refusal, Written
from nertune.prompt.answers.lark import literal, most_mentions, one_of, repeated, stretch_rules
from nertune.prompt.answers.reading import complete_objects, follows, read_json, strings, usable
from nertune.schema import Document, LabelSet, Mention, ParseOutcome

__all__ = ["JsonAnswer", "JsonLinesAnswer", "mentions_of", "sentence_of"]


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """One JSON array of objects. `distinct` lists each (label, text) once, as published recipes do."""

    label_key: str = "label"
    text_key: str = "text"
    distinct: bool = True
    name: str = "json"

    def __post_init__(self) -> None:
        _check_keys(self.label_key, self.text_key)

    @property
    def instruction(self) -> str:
        example = json.dumps([{self.label_key: "实体类别", self.text_key: "实体名称"}], ensure_ascii=False)
        return f"以json格式输出：\n```json\n{example}\n```"

    def options(self) -> dict[str, object]:
        return {"label_key": self.label_key, "text_key": self.text_key, "distinct": self.distinct}

    def check(self, labels: LabelSet) -> None:
        """Any label can be written."""

    def refusal(self, document: Document) -> Refusal | None:
        """Any document can be written."""
        return None

    def write(self, document: Document) -> str:
        rows = [{self.label_key: m.label, self.text_key: m.text} for m in mentions_of(document, distinct=self.distinct)]
        return json.dumps(rows, ensure_ascii=False)

    def parse(self, answer: str, *, cut: bool = False) -> ParsedAnswer:
        value, outcome = read_json(answer, repair=not cut)
        if cut and outcome is not ParseOutcome.CLEAN:
            return _complete(answer, self.label_key, self.text_key)
        if not isinstance(value, list):
            # A single object where a list was asked for can still be read; anything else cannot.
            if not isinstance(value, dict):
                return ParsedAnswer(ParseOutcome.INVALID)
            value, outcome = [value], ParseOutcome.REPAIRED
        return _collect(answer, value, outcome, self.label_key, self.text_key)

    def grammar(self, text: str, labels: LabelSet) -> str:
        """One terminal a row, as many as there could be. Compiled in 3 ms for 1,000 characters, 0.01 ms a mask."""
        label = f'"{{" {literal(_key(self.label_key))} LABEL'
        entity = f'", " {literal(_key(self.text_key))} "\\"" STRETCH "\\"}}"'
        return "\n".join(
            [
                f'start: "[" ({repeated("ROW", ", ", most_mentions(text, labels))})? "]"',
                f"ROW: {label} {entity}",
                f"LABEL: {_labels(labels)}",
                *stretch_rules(text),
            ]
        )

    def schema(self, labels: LabelSet) -> dict[str, object]:
        """An array at the root: vLLM and others take it, OpenAI's structured outputs want an object there (`grouped`)."""
        row = {
            "type": "object",
            "properties": {
                self.label_key: {"type": "string", "enum": list(labels)},
                self.text_key: {"type": "string", "minLength": 1},
            },
            "required": [self.label_key, self.text_key],
            "additionalProperties": False,
        }
        return {"type": "array", "items": row}

    def draft(self, text: str, answer: str, labels: LabelSet | None = None) -> str:
        return follows(text, answer, lambda quote: answer.endswith(_key(self.text_key), 0, quote))


@dataclass(frozen=True, slots=True)
class JsonLinesAnswer:
    """One JSON object a line, or the `nothing` sentence. The text key comes first, as in published recipes."""

    label_key: str = "entity_label"
    text_key: str = "entity_text"
    nothing: str = "没有找到任何实体"
    distinct: bool = False
    name: str = "jsonl"

    def __post_init__(self) -> None:
        _check_keys(self.label_key, self.text_key)

    @property
    def instruction(self) -> str:
        example = json.dumps({self.text_key: "实体名称", self.label_key: "实体类别"}, ensure_ascii=False)
        return f"每个实体输出一行json：\n{example}\n找不到任何实体时，输出“{self.nothing}”。"

    def options(self) -> dict[str, object]:
        return {
            "label_key": self.label_key,
            "text_key": self.text_key,
            "nothing": self.nothing,
            "distinct": self.distinct,
        }

    def check(self, labels: LabelSet) -> None:
        """Any label can be written."""

    def refusal(self, document: Document) -> Refusal | None:
        """Any document can be written."""
        return None

    def write(self, document: Document) -> str:
        rows = [{self.text_key: m.text, self.label_key: m.label} for m in mentions_of(document, distinct=self.distinct)]
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) or self.nothing

    def parse(self, answer: str, *, cut: bool = False) -> ParsedAnswer:
        """Objects may follow each other with or without line breaks."""
        if sentence_of(answer) == sentence_of(self.nothing):
            return ParsedAnswer(ParseOutcome.CLEAN)
        decoder, values, position = json.JSONDecoder(), [], 0
        while True:
            while position < len(answer) and answer[position] in " \t\r\n":
                position += 1
            if position >= len(answer):
                break
            try:
                value, position = decoder.raw_decode(answer, position)
            except (ValueError, RecursionError):
                return _complete(answer, self.label_key, self.text_key) if cut else self._repaired(answer)
            values.append(value)
        if not values:
            return ParsedAnswer(ParseOutcome.INVALID)
        return _collect(answer, values, ParseOutcome.CLEAN, self.label_key, self.text_key)

    def grammar(self, text: str, labels: LabelSet) -> str:
        """The `nothing` sentence, or one terminal a row, as many as there could be."""
        entity = f'"{{" {literal(_key(self.text_key))} "\\"" STRETCH "\\", "'
        return "\n".join(
            [
                f"start: {literal(self.nothing)} | {repeated('ROW', chr(10), most_mentions(text, labels))}",
                f'ROW: {entity} {literal(_key(self.label_key))} LABEL "}}"',
                f"LABEL: {_labels(labels)}",
                *stretch_rules(text),
            ]
        )

    def schema(self, labels: LabelSet) -> None:
        """Lines are no single JSON value."""

    def draft(self, text: str, answer: str, labels: LabelSet | None = None) -> str:
        return follows(text, answer, lambda quote: answer.endswith(_key(self.text_key), 0, quote))

    def _repaired(self, answer: str) -> ParsedAnswer:
        values = []
        for line in filter(str.strip, answer.splitlines()):
            value, _ = read_json(line)
            values.extend(value if isinstance(value, list) else [value])
        parsed = _collect(answer, values, ParseOutcome.REPAIRED, self.label_key, self.text_key)
        return parsed if parsed.mentions else ParsedAnswer(ParseOutcome.INVALID)


def mentions_of(document: Document, *, distinct: bool) -> list[Mention]:
    """A document's mentions in reading order; `distinct` keeps the first of each (label, text)."""
    mentions = [Mention(entity.label, entity.text) for entity in document.entities]
    return list(dict.fromkeys(mentions)) if distinct else mentions


def _check_keys(label_key: str, text_key: str) -> None:
    if label_key == text_key:
        raise InputError(
            f"label_key and text_key are both {label_key!r}: an object cannot hold two values under one key"
        )


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) + ": "


def _labels(labels: Iterable[str]) -> str:
    return one_of(json.dumps(label, ensure_ascii=False) for label in labels)


def sentence_of(answer: str) -> str:
    """An answer in words, as it is compared with the sentence for "nothing found"."""
    return answer.strip().rstrip("。.").rstrip()


def _complete(answer: str, label_key: str, text_key: str) -> ParsedAnswer:
    """The mentions that an answer names whole before it was cut off."""
    parsed = _collect(answer, complete_objects(answer), ParseOutcome.REPAIRED, label_key, text_key)
    return parsed if parsed.mentions else ParsedAnswer(ParseOutcome.INVALID)


def _collect(answer: str, values: list[Any], outcome: ParseOutcome, label_key: str, text_key: str) -> ParsedAnswer:
    """The mentions of an answer's objects; INVALID where it has objects and none of them is a mention."""
    mentions = []
    for value in values:
        label, text = (value.get(label_key), value.get(text_key)) if isinstance(value, dict) else (None, None)
        if usable(label) and usable(text):
            mentions.append(Mention(label, text))
        else:
            outcome = ParseOutcome.REPAIRED
    if values and not mentions:
        return ParsedAnswer(ParseOutcome.INVALID)
    if outcome is ParseOutcome.CLEAN:
        return ParsedAnswer(outcome, tuple(mentions), written=_written(answer, mentions, label_key, text_key))
    return ParsedAnswer(outcome, tuple(mentions))


def _written(answer: str, mentions: list[Mention], label_key: str, text_key: str) -> tuple[Written, ...]:
    """Where each mention's strings stand; empty where the objects hold more than that."""
    found = list(strings(answer))
    rows = [found[place : place + 4] for place in range(0, len(found), 4)]
    written = []
    for row, mention in zip(rows, mentions, strict=False):
        held = {key.value: value for key, value in zip(row[::2], row[1::2], strict=False)}
        label, text = held.get(label_key), held.get(text_key)
        if label is None or text is None or (label.value, text.value) != (mention.label, mention.text):
            return ()
        written.append(Written((text.start, text.end), (label.start, label.end - 1)))
    return tuple(written) if len(rows) == len(mentions) else ()
