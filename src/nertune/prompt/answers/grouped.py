"""The `grouped` format: one JSON object from each label to the list of its entities, `{"name": ["叶老桂"]}`.

Labels stand in the order of their first mention, and only those that have one; without entities the object is empty.
It gives no places: grounding goes by the order of mention. "Grouped" in arXiv 2601.17898.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from nertune.prompt.answers.base import ParsedAnswer, Refusal, Written
from nertune.prompt.answers.lark import most_mentions, one_of, stretch_rules
from nertune.prompt.answers.listed import mentions_of
from nertune.prompt.answers.reading import JsonString, follows, read_json, strings, usable
from nertune.schema import Document, LabelSet, Mention, ParseOutcome

__all__ = ["GroupedAnswer"]


@dataclass(frozen=True, slots=True)
class GroupedAnswer:
    """One JSON object of lists. `distinct` lists each text once under its label."""

    distinct: bool = False
    name: str = "grouped"

    @property
    def instruction(self) -> str:
        example = json.dumps({"实体类别": ["实体名称"]}, ensure_ascii=False)
        return f"以json格式按类别输出实体，没有实体时输出{{}}：\n{example}"

    def options(self) -> dict[str, object]:
        return {"distinct": self.distinct}

    def check(self, labels: LabelSet) -> None:
        """Any label can be written."""

    def refusal(self, document: Document) -> Refusal | None:
        """Any document can be written."""
        return None

    def write(self, document: Document) -> str:
        groups: dict[str, list[str]] = {}
        for mention in mentions_of(document, distinct=self.distinct):
            groups.setdefault(mention.label, []).append(mention.text)
        return json.dumps(groups, ensure_ascii=False)

    def parse(self, answer: str, *, cut: bool = False) -> ParsedAnswer:
        """A label named twice has both lists. A string in place of a list is read as REPAIRED."""
        value, outcome = read_json(answer, repair=not cut)
        if cut and outcome is not ParseOutcome.CLEAN:
            pairs = [(label.value, text.value) for label, text in _listed(answer)]
            mentions = [Mention(label, text) for label, text in pairs if usable(label) and usable(text)]
            return ParsedAnswer(ParseOutcome.REPAIRED if mentions else ParseOutcome.INVALID, tuple(mentions))
        if not isinstance(value, dict):
            return ParsedAnswer(ParseOutcome.INVALID)
        mentions = []
        for label, texts in value.items():
            outcome = outcome if isinstance(texts, list) else ParseOutcome.REPAIRED
            for text in texts if isinstance(texts, list) else [texts]:
                if usable(label) and usable(text):
                    mentions.append(Mention(label, text))
                else:
                    outcome = ParseOutcome.REPAIRED
        if outcome is ParseOutcome.CLEAN:
            return ParsedAnswer(outcome, tuple(mentions), written=_written(answer, mentions))
        return ParsedAnswer(outcome if mentions or not value else ParseOutcome.INVALID, tuple(mentions))

    def grammar(self, text: str, labels: LabelSet) -> str:
        """At most as many groups as labels, each with as many entities as the text has stretches."""
        most = most_mentions(text, LabelSet(("any",)))
        keys = one_of(json.dumps(label, ensure_ascii=False) + ": [" for label in labels)
        return "\n".join(
            [
                f'start: "{{" (group (", " group){{0,{len(labels) - 1}}})? "}}"',
                f'group: KEY ENTITY (", " ENTITY){{0,{most - 1}}} "]"',
                f"KEY: {keys}",
                'ENTITY: "\\"" STRETCH "\\""',
                *stretch_rules(text),
            ]
        )

    def schema(self, labels: LabelSet) -> dict[str, object]:
        """An object with a list for each label that has entities, as `write` writes it.

        OpenAI's strict mode wants every property to be required: add `required` there and take the empty lists.
        """
        texts = {"type": "array", "items": {"type": "string", "minLength": 1}}
        return {"type": "object", "properties": dict.fromkeys(labels, texts), "additionalProperties": False}

    def draft(self, text: str, answer: str, labels: LabelSet | None = None) -> str:
        def is_entity(quote: int) -> bool:
            return answer.endswith("[", 0, quote) or answer.endswith('", ', 0, quote)

        return follows(text, answer, is_entity)


def _listed(answer: str) -> list[tuple[JsonString, JsonString]]:
    """The strings inside lists, each with the key before it: as far as an unfinished answer goes."""
    listed: list[tuple[JsonString, JsonString]] = []
    key: JsonString | None = None
    inside, end = False, 0
    for string in strings(answer):
        for character in answer[end : string.start - 1]:
            inside = character == "[" or (inside and character != "]")
        end = string.end
        if not inside:
            key = string
        elif key is not None:
            listed.append((key, string))
    return listed


def _written(answer: str, mentions: list[Mention]) -> tuple[Written, ...]:
    """Where each mention's string and its label's stand; empty where a label is named twice, so that the orders differ."""
    listed = _listed(answer)
    if [(label.value, text.value) for label, text in listed] != [(m.label, m.text) for m in mentions]:
        return ()
    return tuple(Written((text.start, text.end), (label.start, label.end - 1)) for label, text in listed)
