"""What clients ask answers to look like, as a grammar: OpenAI's `response_format`, vLLM's `structured_outputs`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from nertune.files import parse_json
from nertune.prompt.answers.lark import one_of
from nertune.serve.errors import ApiError
from nertune.serve.fields import Body, FilledText, Text

__all__ = ["ResponseFormat", "StructuredOutputs", "grammar_of"]

# Between the parts of a JSON value; without a limit a model may go on with it for ever.
_SPACE = r"[ \n\t]{0,20}"


class JsonSchema(Body):
    name: str = "schema"
    description: str | None = None
    # Not named `schema`, which pydantic's models have.
    value: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(Body):
    type: Literal["text"]


class JsonObjectFormat(Body):
    type: Literal["json_object"]


class JsonSchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Body):
    """As vLLM takes them; exactly one."""

    json_: dict[str, Any] | Text | None = Field(default=None, alias="json")
    regex: FilledText | None = None
    choice: Annotated[list[FilledText], Field(min_length=1)] | None = None
    grammar: FilledText | None = None
    json_object: Literal[True] | None = None


def grammar_of(response_format: Any, structured: StructuredOutputs | None) -> str | None:
    """The grammar that is asked for, None where the answer is free. Raises ApiError where two are."""
    grammars = [grammar for grammar in (_of_format(response_format), _of_structured(structured)) if grammar]
    if len(grammars) > 1:
        raise ApiError("response_format and structured_outputs: give one of them", param="response_format")
    return grammars[0] if grammars else None


def _of_format(wanted: Any) -> str | None:
    if isinstance(wanted, JsonSchemaFormat):
        return _json(wanted.json_schema.value, "response_format")
    if isinstance(wanted, JsonObjectFormat):
        return _json({"type": "object"}, "response_format")
    return None


def _of_structured(wanted: StructuredOutputs | None) -> str | None:
    if wanted is None:
        return None
    given = wanted.model_dump(exclude_none=True)
    if len(given) != 1:
        raise ApiError(
            "structured_outputs: give exactly one of json, regex, choice, grammar and json_object",
            param="structured_outputs",
        )
    if wanted.json_ is not None:
        return _json(wanted.json_, "structured_outputs")
    if wanted.regex is not None:
        import llguidance

        return str(llguidance.LLMatcher.grammar_from_regex(wanted.regex))
    if wanted.choice is not None:
        return f"start: {one_of(wanted.choice)}"
    return wanted.grammar or _json({"type": "object"}, "structured_outputs")


def _json(schema: Any, param: str) -> str:
    try:
        value = parse_json(schema.encode(), strict=True) if isinstance(schema, str) else schema
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        own = value.get("x-guidance")
        value = value | {"x-guidance": {"whitespace_pattern": _SPACE, **(own if isinstance(own, dict) else {})}}
        return f"start: %json {json.dumps(value)}"
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ApiError(f"{param}: the schema cannot be used: {reason}"[:300], param=param) from error
