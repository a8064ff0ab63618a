"""Read the JSON of files that a program wrote: whatever else stands there is one ValueError, however deeply it nests."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

__all__ = ["as_json", "parse_json"]

_SHOWN = 40  # characters


def parse_json(content: str | bytes, *, strict: bool = False) -> Any:
    """JSON, in UTF-8 where it is bytes. `strict`: every key once, no NaN and no Infinity, which configurations of models hold.

    Raises ValueError for whatever else there is, however deeply nested.
    """
    rules: dict[str, Any] = {"object_pairs_hook": _once, "parse_constant": _no_constant} if strict else {}
    try:
        return json.loads(content if isinstance(content, str) else content.decode("utf-8"), **rules)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name!r:.60} comes more than once")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def as_json(found: object) -> str:
    """A value of a JSON file as it stands there, for messages: forty characters at most."""
    written = json.dumps(found, ensure_ascii=False)
    return written if len(written) <= _SHOWN else written[: _SHOWN - 1] + "…"
