"""Types of fields that several bodies have."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

__all__ = ["Finite", "Text", "TokenIds"]


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a lone surrogate at character {error.start} is no Unicode text") from error
    return text


Text = Annotated[str, AfterValidator(_unicode)]
"""JSON can escape halves of characters, which nothing behind it can read."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
TokenIds = list[Annotated[int, Field(ge=0, lt=2**31)]]
