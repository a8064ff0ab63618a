"""One connection: uvicorn's HTTP/1.1 protocol with the limits that it does not have.

What a connection may do is decided by what the parser waits for. Heads have a size and one deadline; a body, and a client that
reads an answer, must keep a pace; a connection beyond the last that fits is refused. What is wrong gets an answer in OpenAI's
shape, and the connection is closed. Where a request was not read to its end, the client is given time to read the answer first:
closing at once would reset the connection and take the answer with it.
"""

from __future__ import annotations

import asyncio
import json
import select
import sys
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from nertune.serve.logs import Log
from nertune.serve.metrics import Metrics
from nertune.serve.replies import Scope, error_body, note
from nertune.serve.settings import Settings
from nertune.serve.targets import in_origin_form

__all__ = ["LimitedProtocol", "Parser"]

# Bytes that a body, or the reading of an answer, must get through within every `patience` seconds.
_PACE = 16 * 1024
# Chunks are allowed to be small, not to be many and small: each costs the parser as much as a whole body.
_MOST_CHUNKS = 1000
_SMALLEST_CHUNK = 64
# Connections beyond the last that fits which are told so; further ones are dropped without a word.
_TOLD = 128

# A client that sends no more is either waiting for its answer or gone. To one that is gone something must be sent before its
# system says so: where no answer has begun after so many seconds, or at once; then we look, less and less often.
_GRACE = 0.01
_FIRST_LOOK, _LAST_LOOK = 0.001, 1.0

_CODES = {400: "malformed_request", 408: "request_timeout", 431: "headers_too_large", 501: "not_implemented"}


class Parser(h11.Connection):
    """h11's server side, and what it lets pass: a large head that comes in one piece, two lengths of one body, tiny chunks."""

    def __init__(self, max_head: int) -> None:
        super().__init__(h11.SERVER, max_head)
        self._max_head = max_head
        self.body_bytes = 0
        self.chunked = False
        self._chunks = 0

    def send(self, event: Any) -> Any:
        """h11's; `chunked` tells whether the answer that began last is sent in chunks."""
        data = super().send(event)
        if isinstance(event, h11.Response):
            self.chunked = b"\r\ntransfer-encoding: chunked\r\n" in (data or b"").lower()
        return data

    def next_event(self) -> Any:
        """h11's next event; RemoteProtocolError, with the status to answer, for what is refused."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.body_bytes = self._chunks = 0
            self._check_head(event)
            return in_origin_form(event)
        if isinstance(event, h11.Data):
            self.body_bytes += len(event.data)
            self._chunks += event.chunk_start
            if self._chunks > _MOST_CHUNKS and self.body_bytes < self._chunks * _SMALLEST_CHUNK:
                raise h11.RemoteProtocolError("the chunks of the body are too small")
        return event

    def _check_head(self, request: h11.Request) -> None:
        fields = request.headers.raw_items()
        size = (
            len(request.method) + len(request.target) + 14 + sum(len(name) + len(value) + 4 for name, value in fields)
        )
        if size > self._max_head:
            raise h11.RemoteProtocolError("the headers are too large", error_status_hint=431)
        if {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in fields}:
            raise h11.RemoteProtocolError("a body with two lengths: Content-Length and Transfer-Encoding")


class LimitedProtocol(H11Protocol):
    """uvicorn makes one for each connection; `settings`, `log` and `metrics` are bound before."""

    def __init__(self, *arguments: Any, settings: Settings, log: Log, metrics: Metrics, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = self._parser = Parser(settings.max_head)
        self._settings = settings
        self._log = log
        self._metrics = metrics
        self._phase = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._mark = 0
        self._ahead = 0
        self._heard = False
        self._closed = False
        self._unsent = 0
        self._flushing: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._ended = False

    # A connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head, unless there are too many."""
        self._socket = transport
        super().connection_made(_Transport(transport, self))  # type: ignore[arg-type]
        beyond = len(self.connections) - self._settings.max_connections
        if beyond > _TOLD:
            self._count("too_many_connections", 503)
            self._closed = True
            transport.abort()
        elif beyond > 0:
            self._refuse(503, "The server has as many connections as it can; try again", "too_many_connections")
        else:
            self._enter("head")

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see what it waits for now. What comes after a refusal is thrown away."""
        if self._closed:
            return
        self._heard = True
        super().data_received(data)
        self._look("head")
        if self._phase == "working":
            self._ahead += len(data)
            if self._ahead < self._settings.max_head:
                self.flow.resume_reading()  # a client that hangs up beside its answer is noticed by reading only

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: it gets the answers to what it asked, unless it is gone, and the connection ends."""
        if self._closed or self._phase != "working":
            self._leave()
            self._watch_flushing()
            return False
        if not self._ended:
            self._ended = True
            begun = self.conn.our_state is not h11.SEND_RESPONSE
            self._watching = self.loop.call_later(0 if begun else _GRACE, self._probe)
        return True

    def on_response_complete(self) -> None:
        """An answer is out: the next request, which may have come already, or a rest."""
        super().on_response_complete()
        if not self._closed:
            self._look("head" if self.conn.trailing_data[0] else "idle")
        if self._ended and self._phase != "working":
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever made it: no timer stays."""
        self._closed = True
        for timer in (self._deadline, self._flushing, self._lingering, self._watching, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: a request that was accepted is finished, everything else ends now."""
        if self._closed or self.conn.our_state is h11.ERROR:
            self._socket.abort()
        else:
            super().shutdown()

    def abort(self) -> None:
        """The server stops at once."""
        self._closed = True
        self._socket.abort()

    # Clients that closed their sending side

    def _probe(self) -> None:
        """Send what means nothing to a client that waits, and what makes the system of one that is gone say so.

        Before an answer that is an interim response, and inside one of chunks a leading zero of the next chunk's size. HTTP/1.0
        has neither: there, and inside an answer of a known length, only the next bytes of the answer tell.
        """
        if self._closed:
            return
        if self.conn.their_http_version != b"1.0":
            if self.conn.our_state is h11.SEND_RESPONSE:
                self._socket.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            elif self.conn.our_state is h11.SEND_BODY and self._parser.chunked:
                self._socket.write(b"0")
        self._watch_client(_FIRST_LOOK)

    def _watch_client(self, pause: float) -> None:
        """End the connection when its other end turns out to be closed: nobody reads from a client that sends no more."""
        if self._closed:
            return
        looking = select.poll()
        looking.register(self._socket.get_extra_info("socket"), 0)
        if looking.poll(0):  # an error or a hang-up, which are always told
            self.abort()
        else:
            self._watching = self.loop.call_later(pause, self._watch_client, min(2 * pause, _LAST_LOOK))

    # What the parser waits for

    def _look(self, waiting: str) -> None:
        """Enter the phase that the parser's state stands for; `waiting`: the one between requests."""
        if self._closed:
            return
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._enter("body")
            if self._parser.body_bytes - self._mark >= _PACE:
                self._mark, self._since = self._parser.body_bytes, self.loop.time()
        else:
            self._enter(waiting if state is h11.IDLE else "working")

    def _enter(self, phase: str) -> None:
        if phase == self._phase:
            return
        self._phase, self._since, self._mark, self._ahead = phase, self.loop.time(), 0, 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if phase in ("head", "body"):
            self._deadline = self.loop.call_later(self._settings.patience, self._late)

    def _late(self) -> None:
        left = self._since + self._settings.patience - self.loop.time()
        if left > 0.001:
            self._deadline = self.loop.call_later(left, self._late)
        elif not self._heard:
            self._count("silent_connection", None)
            self._close()
        else:
            self._refuse(
                408, f"The request's {'headers' if self._phase == 'head' else 'body'} did not come in time", _CODES[408]
            )

    # Refusals

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this where the parser gave up: the error being handled knows the status."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        status = status if status in _CODES else 400
        self._refuse(status, f"This is no request: {error or msg}", _CODES[status])

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer and close; an application that has begun to answer is cut off instead."""
        running = self.cycle is not None and not self.cycle.response_complete
        begun = running and self.cycle.response_started
        if running:
            note(cast("Scope", self.scope), status=status, refused=code)
            self._leave()
        else:
            self._count(code, status)
        if begun:
            self.abort()
            return
        content = json.dumps(error_body(status, message, code=code)).encode()
        retry = "retry-after: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n{retry}connection: close\r\n\r\n"
        )
        self._socket.write(head.encode() + content)
        self._close(linger=status != 408)

    def _leave(self) -> None:
        """Tell the application that nobody waits for its answer."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _count(self, code: str, status: int | None) -> None:
        self._metrics.refused(code)
        self._log.write("refused", reason=code, status=status, client=self.client[0] if self.client else None)

    # Closing, and clients that do not read

    def is_closed(self) -> bool:
        """Whether nothing is to be sent any more."""
        return self._closed or self._socket.is_closing()

    def close(self) -> None:
        """Close as uvicorn wants it, with time to read the answer where a request was not read to its end."""
        self._close(linger=self.conn.their_state is h11.SEND_BODY)

    def _close(self, *, linger: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        self._unset_keepalive_if_required()
        if self._deadline is not None:
            self._deadline.cancel()
        if linger and self._socket.can_write_eof():
            self._socket.write_eof()
            self.flow.resume_reading()
            self._lingering = self.loop.call_later(self._settings.linger, self._socket.abort)
            return
        self._socket.close()
        self._watch_flushing()

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer comes: the application waits, for so long as something is read."""
        super().pause_writing()
        self._watch_flushing()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._flushing is not None and not self._closed:
            self._flushing.cancel()
            self._flushing = None

    def _watch_flushing(self) -> None:
        self._unsent = self._socket.get_write_buffer_size()
        if self._unsent and self._flushing is None:
            self._flushing = self.loop.call_later(self._settings.patience, self._check_flushing)

    def _check_flushing(self) -> None:
        self._flushing = None
        unsent = self._socket.get_write_buffer_size()
        if unsent and unsent > self._unsent - _PACE:
            self._count("slow_reader", None)
            self.abort()
        else:
            self._watch_flushing()


class _Transport:
    """The transport as uvicorn sees it: its end is the protocol's."""

    def __init__(self, transport: asyncio.Transport, protocol: LimitedProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self.close = protocol.close
        self.is_closing = protocol.is_closed

    def write(self, data: bytes) -> None:
        if not self._protocol.is_closed():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
