"""Reading JSON out of answers: strictly, after a capped repair, or as far as an answer that was cut off goes.

RFC 8259. Nothing here raises on what a model wrote, and everything ends in a time that is linear in its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

import json_repair

from nertune.schema import ParseOutcome

__all__ = ["JsonString", "complete_objects", "follows", "read_json", "strings", "usable"]

# json-repair's cost grows faster than its input and it recurses on brackets: longer answers are not worth the repair.
_REPAIR_LIMIT = 4_000
_DEEPEST = 32
_FENCE = "```"
_STRING = re.compile(r'"((?:[^"\\]|\\.)*\\?)("?)', re.DOTALL)
_ESCAPES = re.compile(r"((?:[^\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)(\\(?:u[0-9a-fA-F]{0,3})?)?", re.DOTALL)
_GUESSED = 32  # characters guessed to follow inside an entity: few are longer


class JsonString(NamedTuple):
    """A string of a JSON text: its value, where its characters begin, and where its closing quote ends."""

    value: str
    start: int
    end: int


def read_json(answer: str, *, repair: bool = True) -> tuple[Any, ParseOutcome]:
    """The value that an answer holds: strict JSON first, then a capped repair. Lists of the same key become one."""
    try:
        return json.loads(answer, object_pairs_hook=_joined), ParseOutcome.CLEAN
    except (ValueError, RecursionError):
        pass
    answer = _without_fence(answer)
    too_deep = max(answer.count("["), answer.count("{")) > _DEEPEST * 8 or "[" * _DEEPEST in answer
    if not repair or len(answer) > _REPAIR_LIMIT or too_deep or not any(c in answer for c in "[{"):
        return None, ParseOutcome.INVALID
    try:
        return json_repair.loads(answer), ParseOutcome.REPAIRED
    except (ValueError, RecursionError):
        return None, ParseOutcome.INVALID


def complete_objects(answer: str) -> list[Any]:
    """The JSON objects with which an answer begins, each written to its end; what stands between them is passed over."""
    decoder, values = json.JSONDecoder(), []
    position = answer.find("{")
    while position >= 0:
        try:
            value, position = decoder.raw_decode(answer, position)
        except (ValueError, RecursionError):
            break
        values.append(value)
        position = answer.find("{", position)
    return values


def strings(answer: str) -> Iterator[JsonString]:
    """The strings of a JSON text in their order, keys among them; ends at one that is not closed."""
    for found in _STRING.finditer(answer):
        try:
            value = json.loads(found[0])
        except ValueError:
            return
        yield JsonString(value, found.start() + 1, found.end())


def usable(value: Any) -> TypeGuard[str]:
    """A string that can be written to a file: JSON's escapes allow half a surrogate pair."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= c <= "\udfff" for c in value)


def follows(text: str, answer: str, is_entity: Callable[[int], bool]) -> str:
    """What follows in the text, as JSON writes it, where an answer ends inside the string of an entity.

    `is_entity` tells from the place of a string's opening quote whether the string is an entity's text. Of several places
    where the text holds what is written so far, the first after the entity before is taken: answers go along the text.
    """
    last, before = None, ""
    for found in _STRING.finditer(answer):
        if found[2] and is_entity(found.start()):
            before = found[1]
        last = found
    if last is None or last[2] or last.end() != len(answer) or not is_entity(last.start()):
        return ""
    parts, earlier = _ESCAPES.fullmatch(last[1]), _ESCAPES.fullmatch(before)
    if parts is None or earlier is None or not parts[1]:
        return ""
    begun = _decoded(parts[1])
    place = text.find(begun, max(0, text.find(_decoded(earlier[1]))))
    place = text.find(begun) if place < 0 else place
    if place < 0:
        return ""
    end = place + len(begun)
    rest = json.dumps(text[end : end + _GUESSED], ensure_ascii=False)[1:-1]
    broken = parts[2] or ""
    return rest[len(broken) :] if rest.startswith(broken) else ""


def _decoded(raw: str) -> str:
    """The value of a string from what stands between its quotes; empty where that is not JSON."""
    try:
        return str(json.loads(f'"{raw}"', strict=False))
    except ValueError:
        return ""


def _joined(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    for key, value in pairs:
        both_lists = isinstance(value, list) and isinstance(joined.get(key), list)
        joined[key] = [*joined[key], *value] if both_lists else value
    return joined


def _without_fence(answer: str) -> str:
    """What stands between Markdown fences. No pattern: one over white space takes minutes on 200,000 line breaks."""
    answer = answer.strip()
    if len(answer) < 2 * len(_FENCE) or not (answer.startswith(_FENCE) and answer.endswith(_FENCE)):
        return answer
    return answer.removeprefix(_FENCE).removesuffix(_FENCE).removeprefix("json").strip()
