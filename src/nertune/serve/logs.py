"""The server's log: one JSON object a line on stderr, one line a request, without what users wrote unless asked.

Everything but ASCII is escaped, so that no path or header can begin a line of its own or steer a terminal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
import traceback
import uuid
from datetime import UTC, datetime
from http.client import responses
from typing import Any, TextIO

from nertune.serve.metrics import Metrics
from nertune.serve.replies import ASGIApp, Message, Receive, Scope, Send, error_body, note, send_error

__all__ = ["Log", "LogHandler", "Recorder"]

# What a client closed before its answer was complete; nginx's number, never sent.
GONE = 499
_LONGEST = 256
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Log:
    """Writes lines. `text`: whether what users wrote may stand in them."""

    def __init__(self, stream: TextIO | None = None, *, text: bool = False) -> None:
        self._stream = stream or sys.stderr
        self.text = text

    def write(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """One line: time (UTC), level, event, and plain values, strings cut to 256 characters; `text` is left out or whole."""
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "event": event,
        }
        for name, value in fields.items():
            if name == "text":
                if self.text:
                    line[name] = value if isinstance(value, str) else str(value)
            elif isinstance(value, str):
                line[name] = value[:_LONGEST]
            elif value is None or isinstance(value, bool | int | float) or name == "trace":
                line[name] = value
        try:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # whoever read the log is gone; the server is not

    def failure(self, error: BaseException, **fields: Any) -> None:
        """An unforeseen error: its class and where it was raised. Its message may hold a user's text, and goes with that."""
        frames = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        self.write("failure", level="error", error=type(error).__name__, trace=frames[-12:], text=str(error), **fields)


class LogHandler(logging.Handler):
    """Brings what libraries log into the server's log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """One line; an error that comes along is named by its class and place."""
        message = str(record.msg) if record.args and not self._log.text else record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            self._log.failure(record.exc_info[1], message=message, logger=record.name)
        else:
            self._log.write("message", level=record.levelname.lower(), message=message, logger=record.name)


class Recorder:
    """The outermost layer: gives each request an id, its line in the log and its place in the figures, and answers what fails.

    The id is the client's X-Request-Id if it is a plain word, and goes back in that header.
    """

    def __init__(self, app: ASGIApp, log: Log, metrics: Metrics) -> None:
        self._app = app
        self._log = log
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        offered = next((value for key, value in scope["headers"] if key == b"x-request-id"), b"")
        request_id = offered if _ID.fullmatch(offered) else uuid.uuid4().hex.encode()
        note(scope, id=request_id.decode())
        answer = _Answer(send, request_id)
        self._metrics.begin()
        try:
            await self._answered(scope, receive, answer)
        finally:
            self._finish(scope, answer, time.monotonic() - started)

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            # The server's grace is over: what did not begin to answer says so, what did is cut off.
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            note(scope, refused="stopping", status=503)
            if not answer.status:
                await send_error(
                    scope,
                    answer.send,
                    503,
                    "The server is being stopped",
                    code="stopping",
                    headers=[(b"retry-after", b"5")],
                )
        except Exception as error:
            note(scope, refused="failure", status=500)
            self._log.failure(error, id=scope["nertune"]["id"])
            if not answer.status:
                message = f"The server failed; request {scope['nertune']['id']} in its log"
                await send_error(scope, answer.send, 500, message, code="failure")

    def _finish(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        notes = dict(scope["nertune"])
        status = notes.pop("status", None) or (answer.status if answer.complete else GONE)
        route = (getattr(scope.get("route"), "path", None) or "none").replace(":path}", "}")
        self._metrics.end(method=scope["method"], route=route, status=status, seconds=seconds)
        if "refused" in notes:
            self._metrics.refused(notes["refused"])
        client = scope.get("client")
        fields = {
            "id": notes.pop("id"),
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
        }
        self._log.write("request", level="error" if status >= 500 else "info", **{**notes, **fields})


class _Answer:
    """What is sent: its status, whether it is complete, and the request's id in its headers.

    Errors that a framework words as plain text (404, 405, 500) are put into OpenAI's shape.
    """

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._id = request_id
        self._own: bytes | None = None
        self.status = 0
        self.complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            if self.status >= 400 and any(
                key == b"content-type" and value[:10] == b"text/plain" for key, value in headers
            ):
                headers = self._reworded(headers)
            message = {**message, "headers": [*headers, (b"x-request-id", self._id)]}
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
            if self._own is not None:
                message, self._own = {**message, "body": self._own}, b""
        await self._send(message)

    def _reworded(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        phrase = responses.get(self.status, "Error")
        text = f"The server failed; request {self._id.decode()} in its log" if self.status >= 500 else phrase
        code = "failure" if self.status >= 500 else phrase.lower().replace(" ", "_")
        self._own = json.dumps(error_body(self.status, text, code=code)).encode()
        kept = [(key, value) for key, value in headers if key not in (b"content-type", b"content-length")]
        return [*kept, (b"content-type", b"application/json"), (b"content-length", str(len(self._own)).encode())]
