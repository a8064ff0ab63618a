"""What a file holds, in the words of a message: short, on one line, and with nothing that would steer a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from nertune.console import visible

__all__ = ["EXCERPT", "counted", "describe", "listed", "reason", "shortened"]

EXCERPT = 30  # characters shown on either side of an error


def describe(value: object) -> str:
    """A JSON value in words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {shortened(value)!r}"
    if isinstance(value, bytes):
        return f"{counted(len(value), 'byte')} that are no string"
    if isinstance(value, int | float):
        return f"the number {shortened(repr(value))}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"an object with the keys {listed(value)}" if isinstance(value, dict) and value else "an empty object"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 document`, `2,000 documents`; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def reason(error: BaseException) -> str:
    """What another library's error says, in one line of at most 300 characters; its kind where it says nothing."""
    said = " ".join(str(error).split())
    return visible(said[:300]) or type(error).__name__


def shortened(text: str) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= 2 * EXCERPT else text[: 2 * EXCERPT - 1] + "…"


def listed(keys: Iterable[str]) -> str:
    """Keys in quotes, the first twelve of them; `(none)` where there are none."""
    names = [repr(shortened(key)) for key in keys]
    return ", ".join(names[:12] + ["…"] * (len(names) > 12)) or "(none)"
