"""What `/v1/extract` takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nertune.serve.answers import Usage
from nertune.serve.errors import ErrorDetail
from nertune.serve.fields import Body, Finite, exactly_one

__all__ = ["MOST_TEXTS", "Batch", "ExtractBody", "Failed", "Read"]

MOST_TEXTS = 10_000


class ExtractBody(Body):
    """`text` for one text, `texts` for several. `model`: may be left out where one run is served.

    `min_score`: leave out entities that score less; "calibrated" takes the run's calibrated thresholds. `stream`: each
    result as soon as it is there, as a line of JSON with its `index`. `debug`: what was sent and what came back, too.
    """

    model_config = ConfigDict(json_schema_extra=exactly_one("text", "texts"))

    model: Annotated[str, Field(min_length=1)] | None = None
    text: Annotated[str, Field(json_schema_extra={"pattern": r"\S"})] | None = None
    texts: Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)] | None = None
    min_score: Annotated[Finite, Field(ge=0, le=1)] | Literal["calibrated"] | None = None
    stream: bool = False
    debug: bool = False

    @model_validator(mode="after")
    def _one_of(self) -> ExtractBody:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either text or texts")
        return self


class FoundEntity(BaseModel):
    """`start` and `end` count Unicode code points, half-open. Scores are probabilities, null where none is known."""

    start: int
    end: int
    label: str
    text: str
    score: float | None
    span_score: float | None = None
    label_score: float | None = None


class Named(BaseModel):
    label: str
    text: str


class Step(BaseModel):
    """One window of a text: which of its characters, the prompt, its token ids, the new ids, the answer, why it ended."""

    window: tuple[int, int]
    prompt: str
    prompt_ids: list[int]
    new_ids: list[int]
    answer: str
    stop: Literal["end", "length"]


class Read(BaseModel):
    """What was found in a text. `ungrounded`: what the model named and the text does not hold.

    `stop`: "length" where an answer was cut off. `windows` and `cut`: in how many parts a long text was read, and whether
    something was cut for it.
    """

    index: int | None = None
    id: str | None = None
    text: str
    entities: list[FoundEntity]
    ungrounded: list[Named]
    stop: Literal["end", "length"]
    windows: int | None = None
    cut: bool | None = None
    debug: list[Step] | None = None


class Failed(BaseModel):
    """A text that could not be read, and why."""

    index: int
    error: ErrorDetail


class Batch(BaseModel):
    """Results in the order of the texts; an error stands in the place of its text."""

    object: Literal["list"] = "list"
    model: str
    data: list[Read | Failed]
    usage: Usage
