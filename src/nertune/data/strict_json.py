"""Strict JSON: no NaN, no key twice, no half of a character; what is wrong is told by file, line and column."""

from __future__ import annotations

import json
import re
from typing import NoReturn

from nertune.console import visible
from nertune.data.wording import EXCERPT, shortened
from nertune.errors import DataError

__all__ = ["check_strings", "decode_at", "fail", "forbidden_string", "skip_space"]

_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPE_TO_CHECK = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")


def decode_at(content: str, position: int) -> tuple[object, int]:
    """The JSON value at `position` (code points) and where it ends.

    Raises ValueError (json.JSONDecodeError where the place is known) on anything that is not strict JSON: broken
    syntax, NaN and infinities, a key given twice in one object, nesting too deep to read.
    """
    try:
        return _DECODER.raw_decode(content, position)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply to be a record") from None


def skip_space(content: str, position: int) -> int:
    """The first place at or after `position` that is not JSON white space."""
    found = _SPACE.match(content, position)
    return found.end() if found else position


def forbidden_string(value: object) -> str | None:
    """The first string within a JSON value that holds NUL or a lone surrogate, or None."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and _FORBIDDEN.search(item):
            return item
        if isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            pending += item
    return None


def check_strings(value: object, raw: str, path: str, line: int) -> None:
    """Raises DataError where a string of a value, written as `raw`, holds NUL or half of a surrogate pair."""
    # Decoding UTF-8 refuses surrogates and the JSON grammar refuses a raw NUL: only escapes can bring them in.
    if _ESCAPE_TO_CHECK.search(raw):
        found = forbidden_string(value)
        if found is not None:
            kind = "a NUL character" if "\0" in found else "half of a surrogate pair, which is no character"
            raise DataError(f"holds {kind}: {shortened(found)!a}; remove it", path=path, line=line)


def fail(error: ValueError, content: str, path: str, first_line: int, hint: str, first_column: int = 0) -> NoReturn:
    """Raise the error of `content`, which begins at `first_line` after `first_column` of its characters, as a DataError."""
    if not isinstance(error, json.JSONDecodeError):
        raise DataError(f"broken JSON: {error}{hint}", path=path, line=first_line) from error
    start = content.rfind("\n", 0, error.pos) + 1
    stop = content.find("\n", error.pos)
    before = content[max(start, error.pos - EXCERPT) : error.pos]
    after = content[error.pos : min(len(content) if stop < 0 else stop, error.pos + EXCERPT)]
    line = first_line + content.count("\n", 0, error.pos)
    column, fault = error.pos - start + 1 + (0 if start else first_column), error.msg.removesuffix(" at")
    message = f"broken JSON at column {column}: {fault}, at the mark ▸ in: {visible(before)}▸{visible(after.rstrip())}"
    raise DataError(message + hint, path=path, line=line) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; a key given twice is refused, because json would drop the first one's annotations without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
