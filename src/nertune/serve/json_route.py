"""Routes whose body is JSON: what is none, or only nearly, is refused with one reason each, before any field is looked at."""

from __future__ import annotations

import email.message
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from nertune.files import parse_json
from nertune.serve.errors import ApiError

__all__ = ["JsonRoute", "parse_body"]

_BOM = b"\xef\xbb\xbf"
_WANTED = "send a JSON object, with the header Content-Type: application/json"


class JsonRoute(APIRoute):
    """A route of FastAPI's that reads its body with `parse_body`. Routes without a body are as they were."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read(request: Request) -> Response:
            body = await request.body()
            return await handle(_Read(request, parse_body(body, request.headers.get("content-type"))))

        return read


class _Read(Request):
    """A request whose body is read and parsed."""

    def __init__(self, request: Request, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"{}"  # FastAPI only asks whether there is one

    async def json(self) -> Any:
        return self._value


def parse_body(body: bytes, kind: str | None) -> Any:
    """The JSON value of a body; `kind`: its Content-Type. Raises ApiError: 415 for another type, 400 for what is no JSON."""
    if not body:
        raise ApiError(f"the body is empty: {_WANTED}")
    if not _is_json(kind or ""):
        raise ApiError(f"the body is not said to be JSON: {_WANTED}", status=415, code="unsupported_media_type")
    try:
        return parse_json(body.removeprefix(_BOM), strict=True)
    except UnicodeDecodeError as error:
        raise ApiError(f"the body is not UTF-8: byte {error.start} is none of it, and JSON is always UTF-8") from error
    except json.JSONDecodeError as error:
        raise ApiError(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:
        reason = (
            "it holds an integer of thousands of digits" if "integer string conversion" in str(error) else str(error)
        )
        raise ApiError(f"the body cannot be used: {reason}") from error


def _is_json(kind: str) -> bool:
    message = email.message.Message()
    message["content-type"] = kind
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))
