"""What a request may ask for otherwise than with its method and a plain path: absolute targets, HEAD, a slash at the end."""

from __future__ import annotations

import h11

from nertune.serve.replies import ASGIApp, Receive, Scope, Send

__all__ = ["Targets", "in_origin_form"]


def in_origin_form(request: h11.Request) -> h11.Request:
    """A request for `http://host/path` as one for `/path` at that host, whatever its Host header says (RFC 9112, 3.2.2).

    Every other request as it is. Raises h11.RemoteProtocolError for an address without a host.
    """
    scheme, found, rest = request.target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return request
    end = min((place for sign in (b"/", b"?") if (place := rest.find(sign)) >= 0), default=len(rest))
    host, path = rest[:end], rest[end:]
    if not host or b"@" in host:
        raise h11.RemoteProtocolError("its target names no host")
    headers = [(b"host", host), *((name, value) for name, value in request.headers if name != b"host")]
    target = path if path.startswith(b"/") else b"/" + path
    return h11.Request(method=request.method, target=target, headers=headers, http_version=request.http_version)


class Targets:
    """Lets an application that knows GET and paths alone answer HEAD, whose body the protocol leaves out, and `/path/`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        changes = {"method": "GET"} if scope["method"] == "HEAD" else {}
        if len(scope["path"]) > 1 and scope["path"].endswith("/"):
            changes["path"] = scope["path"].rstrip("/") or "/"
        inner = {**scope, **changes}
        try:
            await self._app(inner, receive, send)
        finally:
            if "route" in inner:  # which the log and the figures name
                scope["route"] = inner["route"]
