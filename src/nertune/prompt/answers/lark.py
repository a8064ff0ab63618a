"""Pieces of Lark grammars in llguidance's dialect: literals of any text, and stretches of a source text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from nertune.schema import LabelSet

__all__ = ["copy_grammar", "literal", "most_mentions", "one_of", "stretch_rules"]


def literal(text: str) -> str:
    """A string literal. Written in ASCII: llguidance refuses a bare U+007F, and reads every JSON escape."""
    return json.dumps(text)


def one_of(texts: Iterable[str]) -> str:
    """Literals to choose from."""
    return " | ".join(map(literal, texts))


def copy_grammar(
    pieces: Iterable[str], *, depth: int, mark: str, character: str, entity: Callable[[str], str], rules: Iterable[str]
) -> str:
    """A verbatim copy with marks anywhere, and well-formed marks around anything: the answer is in both languages.

    Their intersection is regular: its states are pairs of a place in the text and the marks that are open, at most `depth`.
    llguidance looks ahead through an intersection, so no byte is allowed after which nothing would be.
    `pieces`: the characters of the text as they are written; `mark`: what may stand between two of them; `character`: any
    of them; `entity`: from the rule for what stands inside an entity to the rule of that entity; `rules`: those these use.
    """
    copied = " ".join(f"MARK* {literal(piece)}" for piece in pieces)
    lines = [
        "start: ANSWER",
        "ANSWER: COPY & INSIDE0",
        f"COPY: {copied} MARK*",
        f"MARK: {mark}",
        f"CHARACTER: {character}",
        *rules,
        f"INSIDE{depth}: CHARACTER+",
    ]
    for level in range(depth):
        lines.append(f"ENTITY{level + 1}: {entity(f'INSIDE{level + 1}')}")
        lines.append(f"INSIDE{level}: (CHARACTER | ENTITY{level + 1})+")
    return "\n".join(lines)


def stretch_rules(text: str) -> list[str]:
    """The rules of the terminal STRETCH: any stretch of a text but the empty one, as it stands inside a JSON string."""
    pieces = [json.dumps(character, ensure_ascii=False)[1:-1] for character in text]
    return [
        "STRETCH: PIECES & /(?s:.)+/",
        f"PIECES: %regex {json.dumps({'substring_chunks': pieces})}",
    ]


def most_mentions(text: str, labels: LabelSet) -> int:
    """As many mentions as a text has stretches and a stretch has labels: no list of different entities is longer."""
    return len(text) * (len(text) + 1) // 2 * len(labels)
