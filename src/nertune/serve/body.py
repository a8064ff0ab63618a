"""A request's body, read before the application sees it and counted as it comes; and its end when the client goes away."""

from __future__ import annotations

import asyncio

from nertune.serve.replies import ASGIApp, Message, Receive, Scope, Send, send_error
from nertune.serve.settings import Settings

__all__ = ["BodyReader"]


class BodyReader:
    """Reads the body up to the limit, then runs the application until it has answered or the client is gone.

    Whoever waits for a model must not wait for a client that hung up: the application's task is cancelled at once, whether it
    streams or not.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._limit = settings.max_body
        self._most_held = settings.max_held
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        codings = {value.strip().lower() for key, value in scope["headers"] if key == b"content-encoding"}
        if codings - {b"identity", b""}:
            await self._encoded(scope, send)
            return
        declared = next((value for key, value in scope["headers"] if key == b"content-length"), b"0")
        if int(declared) > self._limit:  # h11 lets only digits through
            await self._too_large(scope, send)
            return
        body = await self._read(scope, receive, send)
        if body is None:
            return
        try:
            await _until_gone(self._app, scope, body, receive, send)
        finally:
            self._held -= len(body)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """The whole body; None if the request was refused, or its client is gone."""
        body = bytearray()
        complete = False
        try:
            while not complete:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                if len(body) + len(part) > self._limit:
                    await self._too_large(scope, send)
                    return None
                if self._held + len(part) > self._most_held:
                    await self._full(scope, send)
                    return None
                body += part
                self._held += len(part)
                complete = not message.get("more_body", False)
            return bytes(body)
        finally:
            if not complete:
                self._held -= len(body)

    async def _encoded(self, scope: Scope, send: Send) -> None:
        message = "The body is compressed, which its Content-Encoding says; send it as it is"
        taken = [(b"accept-encoding", b"identity")]
        await send_error(scope, send, 415, message, code="unsupported_encoding", headers=taken, close=True)

    async def _too_large(self, scope: Scope, send: Send) -> None:
        message = f"The body is larger than {self._limit:,} bytes"
        await send_error(scope, send, 413, message, code="body_too_large", close=True)

    async def _full(self, scope: Scope, send: Send) -> None:
        again = [(b"retry-after", b"1")]
        message = "The server holds as many requests as its memory allows; try again"
        await send_error(scope, send, 503, message, code="memory_full", headers=again, close=True)


async def _until_gone(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Run the application, and cancel it when the client is gone before the answer is complete."""
    complete = False
    unread = [body]
    gone = asyncio.get_running_loop().create_future()

    async def receive_read() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    async def send_watched(message: Message) -> None:
        nonlocal complete
        complete = complete or (message["type"] == "http.response.body" and not message.get("more_body", False))
        await send(message)
        if not complete:
            # A stream that never waits, to a client that left, would keep everything else waiting.
            await asyncio.sleep(0)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set_result(None)

    running = asyncio.ensure_future(app(scope, receive_read, send_watched))
    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not complete and not running.done():
            running.cancel()
            await asyncio.wait({running})
        elif not running.done():
            await asyncio.wait({running})
        if not running.cancelled():
            running.result()
    finally:
        watching.cancel()
        running.cancel()
