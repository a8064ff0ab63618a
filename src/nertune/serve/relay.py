"""The server behind a gateway: requests are passed on to it and its answers back, as they are, streams piece by piece.

Only the routes named here get through. A client's key stays here: the server behind has its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from nertune.errors import MissingExtraError
from nertune.generate import AnswerPool
from nertune.serve.answering import event
from nertune.serve.errors import ANY_ERROR, BEHIND, BEHIND_FAILED, ApiError, ErrorBody
from nertune.serve.replies import note, quoted
from nertune.serve.settings import is_loopback

try:
    import httpx2
except ImportError as error:
    raise MissingExtraError("A gateway", extra="serve") from error

__all__ = ["Behind", "add_relay"]

_log = logging.getLogger(__name__)
_POSTED = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")
_CONNECT = 10.0  # seconds
_LOOK = 5.0  # seconds for an answer that tells whether it is well
_PASSED_ON = ("content-type", "accept", "x-request-id")
_PASSED_BACK = ("content-type", "retry-after")
_NOTED = 1_000_000  # bytes of a body up to which it is read for the log
_STREAM = "text/event-stream"
_ERRORS: dict[int | str, dict[str, Any]] = ANY_ERROR | {
    502: {"model": ErrorBody, "description": "The server behind failed or cannot be reached"},
    504: {"model": ErrorBody, "description": "The server behind took too long"},
}


class Behind:
    """A server at `url`, which ends in `/v1`. `key`: what it wants. `timeout`: seconds in which it must say something.

    `health` tells whether it answers. All methods are of one event loop.
    """

    def __init__(self, url: str, *, key: str = "", timeout: float = 600) -> None:
        self.url = url
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            follow_redirects=False,
            trust_env=not is_loopback(urlsplit(url).hostname or ""),
            timeout=httpx2.Timeout(timeout, connect=_CONNECT, pool=None),
            # vLLM closes a connection that rests for 5 s: it must not be used again in that very moment.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0),
        )

    def address(self, path: str) -> str:
        """Where a path of ours is there."""
        return self.url + path.removeprefix("/v1") if path.startswith("/v1/") else self.url.removesuffix("/v1") + path

    async def send(self, method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        """Its answer, of which only the head is read; whoever gets it closes it. Raises ApiError."""
        # No compression: what comes is passed on as it is, byte for byte.
        passed = {"Accept-Encoding": "identity", **(headers or {})}
        request = self._client.build_request(method, self.address(path), content=body or None, headers=passed)
        try:
            answer = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise failed(error) from error
        if answer.status_code in (401, 403) or answer.is_redirect:
            await answer.aclose()
            _log.warning(f"the server behind refuses what it is asked, with status {answer.status_code}")
            raise ApiError(BEHIND_FAILED, status=502, kind="server_error", code=BEHIND)
        return answer

    async def get(self, path: str) -> Any:
        """The JSON value of a page. Raises ApiError for every other answer."""
        answer = await self.send("GET", path)
        try:
            content = await answer.aread()
            if answer.status_code != 200:
                raise ApiError(f"there is no {path} here", status=404, code="not_found")
            return json.loads(content)
        except (httpx2.HTTPError, ValueError) as error:
            raise failed(error) from error
        finally:
            await answer.aclose()

    async def health(self) -> bool:
        """Whether it answers, by its own `/health` or, where it has none, by the list of its models."""
        for path in ("/health", "/v1/models"):
            try:
                answer = await self._client.get(self.address(path), timeout=_LOOK)
            except httpx2.HTTPError:
                return False
            if answer.status_code != 404:
                return bool(answer.status_code == 200)
        return False

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()


def failed(error: Exception) -> ApiError:
    """What a client is told of a failure of the server behind; the log is told its kind."""
    _log.warning(f"the server behind: {type(error).__name__}")
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return ApiError("the server behind took too long", status=504, kind="server_error", code="server_behind_slow")
    return ApiError(BEHIND_FAILED, status=502, kind="server_error", code=BEHIND)


def add_relay(app: FastAPI, behind: Behind, pool: AnswerPool) -> None:
    """Add the routes that are passed on. Each request takes a place of the pool's."""

    @app.get("/v1/models", responses=_ERRORS, tags=["OpenAI"])
    async def listed() -> dict[str, Any]:
        """What the server behind serves."""
        found: dict[str, Any] = await behind.get("/v1/models")
        return found

    @app.get("/v1/models/{name:path}", responses=_ERRORS, tags=["OpenAI"])
    async def one(name: str) -> dict[str, Any]:
        """One of the models that the server behind serves."""
        rows = (await behind.get("/v1/models")).get("data") or []
        found: dict[str, Any] | None = next((row for row in rows if row.get("id") == name), None)
        if found is None:
            raise ApiError(
                f"the model {quoted(name)} does not exist", status=404, param="model", code="model_not_found"
            )
        return found

    @app.get("/version", responses=_ERRORS, tags=["vLLM"])
    async def version() -> dict[str, Any]:
        """vLLM's version, by which clients know what it understands."""
        found: dict[str, Any] = await behind.get("/version")
        return found

    @app.get("/vllm/metrics", responses=_ERRORS, tags=["vLLM"])
    async def metrics(http: HttpRequest) -> Response:
        """vLLM's own figures; ours are at `/metrics`."""
        return await _passed(await behind.send("GET", "/metrics"), ExitStack())

    async def post(http: HttpRequest) -> Response:
        """Passed on to the server behind, and its answer back."""
        body = await http.body()
        _note(http, body)
        headers = {name: value for name in _PASSED_ON if (value := http.headers.get(name))}
        with ExitStack() as held:
            held.enter_context(pool.place())
            answer = await behind.send("POST", http.url.path, body=body, headers=headers)
            return await _passed(answer, held.pop_all())

    described = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
    for path in _POSTED:
        name = path.rpartition("/v1/")[2].strip("/").replace("/", "_")
        app.add_api_route(
            path, post, methods=["POST"], name=name, responses=_ERRORS, openapi_extra=described, tags=["OpenAI"]
        )


async def _passed(answer: Any, held: ExitStack) -> Response:
    """An answer as it came: a stream while it comes, everything else when it is complete. `held` is let go at its end."""
    kind = answer.headers.get("content-type", "application/octet-stream")
    headers = {name: value for name in _PASSED_BACK if (value := answer.headers.get(name))}
    if kind.startswith(_STREAM):
        return _Relayed(answer, held, headers)
    try:
        return Response(await answer.aread(), answer.status_code, headers)
    except httpx2.HTTPError as error:
        raise failed(error) from error
    finally:
        held.close()
        await answer.aclose()


class _Relayed(StreamingResponse):
    """A stream that is closed at both ends when one of them ends."""

    def __init__(self, answer: Any, held: ExitStack, headers: dict[str, str]) -> None:
        super().__init__(_pieces(answer), answer.status_code, headers, media_type=_STREAM)
        self._answer, self._held = answer, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._held.close()
            await self._answer.aclose()


async def _pieces(answer: Any) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx2.HTTPError as error:
        yield b"\n\n" + event(failed(error).body())


def _note(http: HttpRequest, body: bytes) -> None:
    """Model and text for the log, where the body tells them."""
    if len(body) > _NOTED:
        return
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        messages = value.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        text = last.get("content") if isinstance(last, dict) else value.get("prompt")
        note(http.scope, model=str(value.get("model"))[:200], stream=value.get("stream") is True, text=str(text))
