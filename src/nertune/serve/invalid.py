"""What is wrong with a body, in words: pydantic's list of problems, made into one sentence about one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["explain"]

_HINTS = {
    "n": "one answer a request: generation is greedy, so all would be the same",
    "best_of": "one answer a request: generation is greedy, so all would be the same",
    "tools": "tools are not supported",
    "functions": "tools are not supported",
    "tool_choice": "tools are not supported",
    "function_call": "tools are not supported",
    "audio": "only text is supported",
    "modalities": "only text is supported",
    "logit_bias": "probabilities are the model's own: it is not supported",
    "presence_penalty": "probabilities are the model's own: penalties are not supported",
    "frequency_penalty": "probabilities are the model's own: penalties are not supported",
    "repetition_penalty": "probabilities are the model's own: penalties are not supported",
    "suffix": "it is not supported",
    "echo": "it is not supported",
}


def explain(problems: Sequence[Any], body: object) -> tuple[str, str | None]:
    """A sentence about the first thing that is wrong, and the key it is about, such as `messages.0.role`, if it is about one.

    Where a value may be of several types, pydantic has a problem for each: that of the type which fitted furthest is told.
    """
    if not problems:
        return "the request cannot be read", None
    places = [_place(problem, body) for problem in problems]
    tried = [number for number, place in enumerate(places) if place[: len(places[0])] == places[0]]
    furthest = max(tried, key=lambda number: len(places[number]))
    problem, place = problems[furthest], places[furthest]
    key = ".".join(place) or None
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {(problem.get('ctx') or {}).get('error', message)}"[:1000], None
    if key is None:
        header = "send a JSON object, with the header Content-Type: application/json"
        return (message if problem["type"] == "value_error" else f"{message}: {header}")[:1000], None
    if hint := _hint(problem["type"], place):
        return f"{key}: {hint}"[:1000], key
    if problem["type"] == "extra_forbidden":
        return f"unrecognized request argument: {key}"[:1000], key
    return f"{key}: {message[:1].lower()}{message[1:]}"[:1000], key


def _place(problem: Any, body: object) -> list[str]:
    """Where in the body a problem is; pydantic also names which of several types it tried, and that is left out."""
    path = [part for part in problem["loc"] if part not in ("body", "path", "query")]
    place, value = [], body
    for number, part in enumerate(path, 1):
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and part in range(len(value))):
            place.append(str(part))
            value = value[part]
        elif number == len(path) and problem["type"] == "missing":
            place.append(str(part))
    return place


def _hint(kind: str, place: Sequence[str]) -> str | None:
    """Why something that other servers take is refused here."""
    if kind == "extra_forbidden":
        return _HINTS.get(place[-1])
    if place[0] == "prompt" and kind == "int_type":
        return "one prompt a request: a text, or its token ids"
    if place[0] == "messages" and place[-1] == "type":
        return "only text is supported"
    return None
