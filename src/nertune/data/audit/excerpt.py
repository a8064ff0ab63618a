"""Short pieces of a text for people: an entity marked, what cannot be seen made visible."""

from __future__ import annotations

from nertune.console import visible

__all__ = ["LEFT", "RIGHT", "excerpt"]

LEFT, RIGHT = "▸", "◂"
_AROUND = 12  # characters shown on either side of what is marked
_LONGEST = 40  # characters shown of what is marked


def excerpt(text: str, start: int | None = None, end: int | None = None) -> str:
    """The stretch [start, end) of a text between marks with some text around; the text's beginning where there is none."""
    if start is None or end is None:
        shown = visible(text[:_LONGEST])
        return shown + "…" if len(text) > _LONGEST else shown
    before, inside, after = text[max(0, start - _AROUND) : start], text[start:end], text[end : end + _AROUND]
    if len(inside) > _LONGEST:
        inside = inside[: _LONGEST // 2] + "…" + inside[-_LONGEST // 2 :]
    return (
        ("…" if start > _AROUND else "")
        + f"{visible(before)}{LEFT}{visible(inside)}{RIGHT}{visible(after)}"
        + ("…" if end + _AROUND < len(text) else "")
    )
