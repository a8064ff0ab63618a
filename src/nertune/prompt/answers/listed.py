"""The `json` and `jsonl` formats: the entities listed as JSON objects, one after another.

`json`: one array, `[{"label": "name", "text": "叶老桂"}]`. `jsonl`: one object a line, keys configurable, with a configurable
sentence for "nothing found". Both give no places; grounding goes by the order of mention. RFC 8259.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

import json_repair

from nertune.prompt.answers.base import ParsedAnswer
from nertune.schema import Document, LabelSet, Mention, ParseOutcome

__all__ = ["JsonAnswer", "JsonLinesAnswer"]

# json-repair's cost grows faster than its input and it recurses on brackets: longer answers are not worth the repair.
_REPAIR_LIMIT = 4_000
_DEEPEST = 32
_FENCE = "```"


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """One JSON array of objects. `distinct` lists each (label, text) once, as published recipes do."""

    label_key: str = "label"
    text_key: str = "text"
    distinct: bool = True
    name: str = "json"

    @property
    def instruction(self) -> str:
        example = json.dumps([{self.label_key: "实体类别", self.text_key: "实体名称"}], ensure_ascii=False)
        return f"以json格式输出：\n```json\n{example}\n```"

    def options(self) -> dict[str, object]:
        return {"label_key": self.label_key, "text_key": self.text_key, "distinct": self.distinct}

    def write(self, document: Document) -> str:
        rows = [{self.label_key: m.label, self.text_key: m.text} for m in _mentions(document, distinct=self.distinct)]
        return json.dumps(rows, ensure_ascii=False)

    def grammar(self, text: str, labels: LabelSet) -> str:
        raise NotImplementedError

    def draft(self, text: str, answer: str) -> str:
        return ""

    def parse(self, answer: str) -> ParsedAnswer:
        value, outcome = _read_json(answer)
        if not isinstance(value, list):
            # A single object where a list was asked for can still be read; anything else cannot.
            if not isinstance(value, dict):
                return ParsedAnswer(ParseOutcome.INVALID)
            value, outcome = [value], ParseOutcome.REPAIRED
        return _collect(value, outcome, self.label_key, self.text_key)


@dataclass(frozen=True, slots=True)
class JsonLinesAnswer:
    """One JSON object a line, or the `nothing` sentence. The text key comes first, as in published recipes."""

    label_key: str = "entity_label"
    text_key: str = "entity_text"
    nothing: str = "没有找到任何实体"
    distinct: bool = False
    name: str = "jsonl"

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

    def write(self, document: Document) -> str:
        rows = [{self.text_key: m.text, self.label_key: m.label} for m in _mentions(document, distinct=self.distinct)]
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) or self.nothing

    def grammar(self, text: str, labels: LabelSet) -> str:
        raise NotImplementedError

    def draft(self, text: str, answer: str) -> str:
        return ""

    def parse(self, answer: str) -> ParsedAnswer:
        """Objects may follow each other with or without line breaks."""
        if answer.strip().rstrip("。.") == self.nothing.rstrip("。."):
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
                return self._repaired(answer)
            values.append(value)
        if not values:
            return ParsedAnswer(ParseOutcome.INVALID)
        return _collect(values, ParseOutcome.CLEAN, self.label_key, self.text_key)

    def _repaired(self, answer: str) -> ParsedAnswer:
        values = []
        for line in filter(str.strip, answer.splitlines()):
            value, _ = _read_json(line)
            values.extend(value if isinstance(value, list) else [value])
        parsed = _collect(values, ParseOutcome.REPAIRED, self.label_key, self.text_key)
        return parsed if parsed.mentions else ParsedAnswer(ParseOutcome.INVALID)


def _mentions(document: Document, *, distinct: bool) -> list[Mention]:
    mentions = [Mention(entity.label, entity.text) for entity in document.entities]
    return list(dict.fromkeys(mentions)) if distinct else mentions


def _read_json(answer: str) -> tuple[Any, ParseOutcome]:
    """The value that an answer holds: strict JSON first, then a capped repair."""
    try:
        return json.loads(answer), ParseOutcome.CLEAN
    except (ValueError, RecursionError):
        pass
    answer = _without_fence(answer)
    too_deep = max(answer.count("["), answer.count("{")) > _DEEPEST * 8 or "[" * _DEEPEST in answer
    if len(answer) > _REPAIR_LIMIT or too_deep or not any(c in answer for c in "[{"):
        return None, ParseOutcome.INVALID
    try:
        return json_repair.loads(answer), ParseOutcome.REPAIRED
    except (ValueError, RecursionError):
        return None, ParseOutcome.INVALID


def _without_fence(answer: str) -> str:
    """What stands between Markdown fences. No pattern: one over white space takes minutes on 200,000 line breaks."""
    answer = answer.strip()
    if len(answer) < 2 * len(_FENCE) or not (answer.startswith(_FENCE) and answer.endswith(_FENCE)):
        return answer
    return answer.removeprefix(_FENCE).removesuffix(_FENCE).removeprefix("json").strip()


def _usable(value: Any) -> TypeGuard[str]:
    """A string that can be written to a file: JSON's escapes allow half a surrogate pair."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= c <= "\udfff" for c in value)


def _collect(values: list[Any], outcome: ParseOutcome, label_key: str, text_key: str) -> ParsedAnswer:
    mentions = []
    for value in values:
        label, text = (value.get(label_key), value.get(text_key)) if isinstance(value, dict) else (None, None)
        if _usable(label) and _usable(text):
            mentions.append(Mention(label, text))
        else:
            outcome = ParseOutcome.REPAIRED
    if values and not mentions:
        outcome = ParseOutcome.INVALID
    return ParsedAnswer(outcome, tuple(mentions))
