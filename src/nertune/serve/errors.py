"""Errors as OpenAI's API tells them: `{"error": {"message", "type", "param", "code"}}`, with the status that fits."""

from __future__ import annotations

import json
import logging
import math
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from nertune.errors import (
    EndpointError,
    EngineFailedError,
    EngineStoppedError,
    InputError,
    NertuneError,
    QueueFullError,
    UnknownModelError,
)
from nertune.serve.invalid import explain
from nertune.serve.replies import printable, refuse_method

__all__ = [
    "ANY_ERROR",
    "BEHIND",
    "BEHIND_FAILED",
    "ApiError",
    "ErrorBody",
    "add_error_handlers",
    "as_api_error",
]

_log = logging.getLogger(__name__)
_STOPPED_SECONDS = 5  # until it is worth trying again where no request is taken
BEHIND = "server_behind_failed"
"""The code of an error of the server behind a gateway."""
BEHIND_FAILED = "the server behind this one failed or cannot be reached; the log of this one says when"


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """What every error looks like."""

    error: ErrorDetail


class ApiError(Exception):
    """An error that a client is told."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after
        self.detail = ErrorDetail(message=message, type=kind, param=param, code=code)

    def body(self) -> dict[str, Any]:
        """The JSON value of the error."""
        return {"error": self.detail.model_dump()}

    def response(self) -> Response:
        """The whole answer. In ASCII: a message may quote what is no Unicode text."""
        headers = {} if self.retry_after is None else {"Retry-After": str(math.ceil(self.retry_after))}
        return Response(json.dumps(self.body()), self.status, headers, "application/json")


def as_api_error(error: Exception, *, logged_as: str | None = None) -> ApiError:
    """An error as a client is told it. One that is unforeseen goes into the log, and its message has the id that it has there.

    `logged_as`: the id under which the caller logs what is unforeseen; None logs it here.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return ApiError(
            str(error), status=429, kind="rate_limit_error", code="queue_full", retry_after=error.retry_after
        )
    if isinstance(error, EngineStoppedError):
        return ApiError(
            str(error), status=503, kind="server_error", code="engine_stopped", retry_after=_STOPPED_SECONDS
        )
    if isinstance(error, EngineFailedError):
        return ApiError(str(error), status=500, kind="server_error", code="engine_failed")
    if isinstance(error, EndpointError):  # what it says holds addresses, and perhaps others' words
        return ApiError(BEHIND_FAILED, status=502, kind="server_error", code=BEHIND)
    if isinstance(error, UnknownModelError):
        return ApiError(str(error), status=404, param="model", code="model_not_found")
    if isinstance(error, InputError):
        return ApiError(str(error))
    if isinstance(error, NertuneError):
        return ApiError(str(error), status=500, kind="server_error")
    incident = logged_as or uuid.uuid4().hex[:12]
    if logged_as is None:
        _log.error(f"an answer failed; incident {incident}", exc_info=error)
    said = f"the server failed; incident {incident} in its log"
    return ApiError(said, status=500, kind="server_error", code="failure")


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of the app be told in the same shape."""

    async def told(request: Request, error: Exception) -> Response:
        # What is unforeseen goes on to the shell, which logs it under the request's id.
        return as_api_error(error, logged_as=request.scope.get("nertune", {}).get("id")).response()

    async def invalid(request: Request, error: Exception) -> Response:
        problems, body = (error.errors(), error.body) if isinstance(error, RequestValidationError) else ((), None)
        message, param = explain(problems, body)
        return ApiError(message, param=param).response()

    async def http(request: Request, error: Exception) -> Response:
        status, said = (error.status_code, str(error.detail)) if isinstance(error, HTTPException) else (500, "")
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        if status == 404:
            said = f"there is no {printable(request.url.path)} here"
        if status == 405:
            said, headers["Allow"] = refuse_method(request.url.path, headers.get("Allow", ""))
        codes = {404: "not_found", 405: "method_not_allowed"}
        answer = ApiError(said, status=status, code=codes.get(status)).response()
        answer.headers.update(headers)
        return answer

    for kind in (ApiError, NertuneError, Exception):
        app.add_exception_handler(kind, told)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


ANY_ERROR: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "What was asked for cannot be done; the message says why"},
    401: {"model": ErrorBody, "description": "The server wants a key"},
    404: {"model": ErrorBody, "description": "There is no such model"},
    413: {"model": ErrorBody, "description": "The body is too large"},
    415: {"model": ErrorBody, "description": "The body is compressed, or not said to be JSON"},
    429: {"model": ErrorBody, "description": "The queue is full; Retry-After says when to come again"},
    500: {
        "model": ErrorBody,
        "description": "The server or its engine failed; the message has an id that its log has too",
    },
    503: {"model": ErrorBody, "description": "The engine is being rebuilt, or the server is shutting down"},
}
"""The errors of every route, for OpenAPI."""
