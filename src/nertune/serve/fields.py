"""Types of fields that several bodies have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["UNICODE", "WHOLE", "Body", "FilledText", "Finite", "Text", "TokenIds", "exactly_one"]


class Body(BaseModel):
    """What a client sends: no other keys, and no values of other types than these say."""

    model_config = ConfigDict(extra="forbid", strict=True)


def exactly_one(*names: str) -> dict[str, Any]:
    """For OpenAPI: of these keys one is there, and is not null."""
    others = {name: {"type": "null"} for name in names}
    cases = [
        {
            "required": [name],
            "properties": {name: {"not": {"type": "null"}}, **{o: others[o] for o in names if o != name}},
        }
        for name in names
    ]
    return {"oneOf": cases}


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a lone surrogate at character {error.start} is no Unicode text") from error
    return text


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


UNICODE = AfterValidator(_unicode)
"""JSON can escape halves of characters, which nothing behind it can read. It stands last, or limits would not be OpenAPI's."""
Text = Annotated[str, UNICODE]
FilledText = Annotated[str, Field(min_length=1), UNICODE]
Finite = Annotated[float, Field(allow_inf_nan=False)]
WHOLE = BeforeValidator(lambda value: int(value) if _is_whole(value) else value)
"""Takes a whole number that JSON writes as 5.0, too. It stands last, or OpenAPI would not hold the limits."""
TokenIds = list[Annotated[int, Field(ge=0, lt=2**31), WHOLE]]
