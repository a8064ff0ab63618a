"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

__all__ = [
    "ASGIApp",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "error_body",
    "note",
    "printable",
    "quoted",
    "refuse_method",
    "send_error",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_KINDS = {429: "rate_limit_error"}


def error_body(status: int, message: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The body of an error; its `type` follows from the status."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def printable(text: str, limit: int = 200) -> str:
    """A client's words, as far as a message quotes them: what would act on a terminal or is no character is escaped."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text[:limit])


def quoted(text: str) -> str:
    """The same in quotation marks."""
    return f'"{printable(text)}"'


def refuse_method(path: str, allowed: str) -> tuple[str, str]:
    """A message, and the Allow header, where the methods `allowed` are and another was used. GET brings HEAD."""
    methods = "GET, HEAD" if allowed == "GET" else allowed
    return f"{printable(path)} takes {' and '.join(methods.split(', '))} only", methods


def note(scope: Scope, **fields: Any) -> None:
    """Add to a request's line in the log: numbers, truth values and short strings; `text` is written only with --log-text.

    `refused`, one of few fixed words, is counted in `nertune_http_refused_total` as well.
    """
    scope.setdefault("nertune", {}).update(fields)


async def send_error(
    scope: Scope,
    send: Send,
    status: int,
    message: str,
    *,
    code: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
    close: bool = False,
) -> None:
    """Refuse a request; `code` stands in the body, the log and the count. `close`: its body was not read to the end."""
    note(scope, refused=code)
    content = json.dumps(error_body(status, message, code=code)).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *headers,
        *([(b"connection", b"close")] if close else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})
