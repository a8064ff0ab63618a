"""Pieces of Lark grammars in llguidance's dialect: literals of any text, and stretches of a source text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from nertune.schema import LabelSet

__all__ = ["copy_grammar", "literal", "most_mentions", "one_of", "repeated", "stretch_rules"]

_MOST = 1_000_000


def literal(text: str) -> str:
    """A string literal. Written in ASCII: llguidance refuses a bare U+007F, and reads every JSON escape."""
    return json.dumps(text)


def one_of(texts: Iterable[str]) -> str:
    """Literals to choose from."""
    return " | ".join(map(literal, texts))


def copy_grammar(
    pieces: Iterable[str],
    *,
    depth: int,
    mark: str,
    closing: str,
    character: str,
    never: str,
    entity: Callable[[str], str],
    rules: Iterable[str] = (),
) -> str:
    """A verbatim copy with marks anywhere, and well-formed marks around anything: the answer is in both languages.

    Their intersection is regular: its states are pairs of a place in the text and the marks that are open, at most `depth`.
    llguidance looks ahead through an intersection, so no byte is allowed after which nothing would be.
    `pieces`: the characters of the text as they are written; `mark`: what may stand between two of them; `closing`: what
    may stand after the last; `character`: any of them; `entity`: from the rule for what stands inside an entity to the rule
    of that entity; `rules`: those that these use.
    `never`: something long that no copy holds. llguidance looks first along the path with the lesser rest, and `never`
    makes that the one on which an entity ends: it would otherwise look to the end of the text for every label, and give
    up on a long one.
    """
    copied = " ".join(f"MARK* {literal(piece)}" for piece in pieces)
    lines = [
        "start: ANSWER",
        "ANSWER: COPY & INSIDE0",
        f"COPY: {copied} CLOSING*",
        f"MARK: {mark}",
        f"CLOSING: {closing}",
        f"CHARACTER: {character}",
        f"NEVER: {literal(never)}?",
        *rules,
        "INSIDE0: (CHARACTER | ENTITY1)+",
    ]
    for level in range(1, depth + 1):
        part = f"(CHARACTER | ENTITY{level + 1})" if level < depth else "CHARACTER"
        lines.append(f"ENTITY{level}: {entity(f'INSIDE{level}')}")
        lines.append(f"INSIDE{level}: ({part} NEVER)+")
    return "\n".join(lines)


def stretch_rules(text: str) -> list[str]:
    """The rules of the terminal STRETCH: any stretch of a text but the empty one, as it stands inside a JSON string."""
    pieces = [json.dumps(character, ensure_ascii=False)[1:-1] for character in text]
    return [
        "STRETCH: PIECES & /(?s:.)+/",
        f"PIECES: %regex {json.dumps({'substring_chunks': pieces})}",
    ]


def most_mentions(text: str, labels: LabelSet) -> int:
    """As many mentions as a text has stretches and a stretch has labels: no list of different entities is longer.

    A million at the most: no answer is that long, and llguidance counts in 32 bits.
    """
    return min(len(text) * (len(text) + 1) // 2 * len(labels), _MOST)


def repeated(item: str, separator: str, most: int) -> str:
    """From one to `most` items. llguidance refuses a repetition of at most none."""
    return item if most == 1 else f"{item} ({literal(separator)} {item}){{0,{most - 1}}}"
