"""What is wrong with a body, in words: pydantic's list of problems, made into one sentence about one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nertune.serve.replies import printable

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
# pydantic's names of problems: of a value that is of another type, or none of those listed, …
_TYPES = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "literal_error": "{expected}",
}
# … and of one that is not as it should be; in braces the limits, which pydantic gives under these names.
_REASONS = {
    "missing": "it is missing",
    "string_too_short": "at least {min_length} character(s)",
    "string_too_long": "at most {max_length:,} characters",
    "too_short": "at least {min_length} item(s), and there are {actual_length:,}",
    "too_long": "at most {max_length:,} items, and there are {actual_length:,}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "greater_than": "more than {gt}",
    "less_than": "less than {lt}",
    "finite_number": "a finite number is wanted",
    "string_unicode": "it is no Unicode text",
    "union_tag_invalid": "its {discriminator} is one of {expected_tags}",
    "union_tag_not_found": "its {discriminator} is missing",
}


def explain(problems: Sequence[Any], body: object) -> tuple[str, str | None]:
    """A sentence about the first thing that is wrong, and the key it is about, such as `messages.0.role`, if it is about one.

    Where a value may be of several types, pydantic has a problem for each: that of the type which fitted furthest is told.
    """
    if not problems:
        return "the request cannot be read", None
    places = [_place(problem, body) for problem in problems]
    tried = [number for number, place in enumerate(places) if place[: len(places[0])] == places[0]]
    depth = max(len(places[number]) for number in tried)
    furthest = [number for number in tried if len(places[number]) == depth]
    fitting = [problems[number] for number in furthest if problems[number]["type"] not in _TYPES]
    problem, place = (fitting or [problems[number] for number in furthest])[0], places[furthest[0]]
    key = ".".join(place) or None
    if key is None:
        is_other = problem["type"] in _TYPES
        return "the body is not a JSON object" if is_other else _reason(problem, [])[:1000], None
    name = printable(key)
    if hint := _hint(problem["type"], place):
        return f"{name}: {hint}", key
    if problem["type"] == "extra_forbidden":
        return f"unrecognized request argument: {name}", key
    return f"{name}: {_reason(problem, [problems[number] for number in furthest])}"[:1000], key


def _reason(problem: Any, others: Sequence[Any]) -> str:
    """What is wrong; where no type fits, which of all would have."""
    kind = problem["type"]
    if kind in _TYPES:
        wanted = dict.fromkeys(_TYPES[other["type"]].format_map(_shown(other)) for other in others)
        return f"{' or '.join(wanted)} is wanted"
    if kind in _REASONS:
        text = _REASONS[kind].format_map(_shown(problem))
        return text.replace("1 character(s)", "1 character").replace("1 item(s)", "1 item")
    return str(problem["msg"]).removeprefix("Value error, ")


def _shown(problem: Any) -> dict[str, Any]:
    """The values that pydantic gives with a problem, as JSON has them: it lists some as Python writes them."""
    shown = dict(problem.get("ctx") or {})
    for name, value in shown.items():
        if isinstance(value, float) and value.is_integer():
            shown[name] = int(value)
        elif isinstance(value, str):
            shown[name] = {"True": "true", "False": "false"}.get(value, value.replace("'", '"'))
    return shown


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
